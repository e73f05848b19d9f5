"""LiteSVM with what a chain has and LiteSVM lacks: slots, blockhashes, duplicates, commitments, fees and rent rules.

Pure: no clock, no file, no network. Time comes through `advance`, accounts of an earlier life through `restore`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import SanitizeError, VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, SimulatedTransactionInfo, TransactionMetadata

from marketplace.localnet.errors import ProgramUnusable
from marketplace.localnet.fees import base_fee, compute_price, priority_fee, rent_allows
from marketplace.localnet.outcome import ErrorJson, error_json, lands
from marketplace.localnet.records import Dropped, Execution, Keys, Landed, TokenBalance
from marketplace.localnet.slots import BLOCKHASH_SLOTS, Blockhashes, Commitment, Moment
from marketplace.localnet.tokens import parse_holding, parse_mint
from marketplace.localnet.versions import AccountVersions

# Specified: PACKET_DATA_SIZE less headers, the most a legacy or v0 transaction may measure.
TRANSACTION_BYTES: Final = 1_232
SLOTS_PER_EPOCH: Final = 432_000
_SYSTEM: Final = Pubkey.default()
_LOOKUP_TABLES: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
_LOOKUP_TABLE_HEADER_BYTES: Final = 56
_SLOT_HASHES: Final = 512  # specified: MAX_ENTRIES of the SlotHashes sysvar


@dataclass(frozen=True, slots=True)
class Advance:
    """What became visible at each commitment when the slot moved."""

    slot: int
    changed: dict[Commitment, frozenset[Pubkey]]
    reached: dict[Commitment, range]  # the slots that came to it


class Bank:
    """The chain's state. One thread only. Slot 0 is genesis: start at 1 or later.

    Invariants: the slot and the clock never fall; a message runs at most once while its blockhash is good;
    what `execute` returns as Landed is exactly how the state changed.
    """

    def __init__(self, *, salt: bytes, finality_slots: int, start: Moment) -> None:
        self._svm = (
            LiteSVM()
            .with_blockhash_check(False)  # ours: LiteSVM accepts only its latest one
            .with_sigverify(False)  # ours: simulations may ask for none, and the answer's shape is ours
            .with_transaction_history(0)  # ours: the journal keeps it
        )
        self._rent = self._svm.get_rent()
        self._finality_slots = finality_slots
        self._blockhashes = Blockhashes(salt)
        self._versions = AccountVersions(self._live_account)
        self._landed_in: dict[bytes, int] = {}  # message hash → slot, while its blockhash can still be good
        self._prices: dict[int, list[tuple[int, frozenset[Pubkey]]]] = {}  # slot → price and accounts written
        self._start_s = start.unix_time
        self._now = start
        self._blockhashes.advance(start.slot)
        self._set_clock()

    # Loading ----------------------------------------------------------------------------------------------

    def load_program(self, program_id: Pubkey, elf: bytes) -> None:
        """Load a program under the non-upgradeable loader. Raises ProgramUnusable."""
        try:
            self._svm.add_program(program_id, elf)
        except BaseException as error:
            # A bad ELF is a Rust panic, which PyO3 raises outside of Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise ProgramUnusable(
                f"the runtime refuses program {program_id}: it loads SBPF v0 only ({error})"
            ) from error

    def restore(self, address: Pubkey, account: Account) -> None:
        """Set an account of genesis or of an earlier life of this chain."""
        self._versions.index(address, self._live_account(address), account)
        self._svm.set_account(address, account)

    def remember(self, message_hash: bytes, slot: int) -> None:
        """Note a message of an earlier life, so that it isn't run again."""
        self._landed_in[message_hash] = slot

    # Time -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> Moment:
        return self._now

    def slot_at(self, commitment: Commitment) -> int:
        """The newest slot that has reached the commitment."""
        behind = {
            Commitment.PROCESSED: 0,
            Commitment.CONFIRMED: 1,
            Commitment.FINALIZED: self._finality_slots,
        }[commitment]
        return max(0, self._now.slot - behind)

    def commitment_of(self, slot: int) -> Commitment:
        """The highest commitment that `slot` has reached."""
        if slot <= self.slot_at(Commitment.FINALIZED):
            return Commitment.FINALIZED
        if slot <= self.slot_at(Commitment.CONFIRMED):
            return Commitment.CONFIRMED
        return Commitment.PROCESSED

    def advance(self, moment: Moment) -> Advance | None:
        """Move to `moment`; None when the slot stays the same."""
        if moment.slot <= self._now.slot:
            return None
        before = {each: self.slot_at(each) for each in Commitment}
        self._now = Moment(moment.slot, max(moment.unix_time, self._now.unix_time))
        self._blockhashes.advance(moment.slot)
        self._set_clock()
        oldest = moment.slot - 2 * BLOCKHASH_SLOTS
        for stale in [known for known, slot in self._landed_in.items() if slot < oldest]:
            del self._landed_in[stale]
        for old in [slot for slot in self._prices if slot < moment.slot - BLOCKHASH_SLOTS]:
            del self._prices[old]
        changed = {each: frozenset(self._versions.changed_in(before[each], self.slot_at(each))) for each in Commitment}
        self._versions.forget_until(self.slot_at(Commitment.FINALIZED))
        reached = {each: range(before[each] + 1, self.slot_at(each) + 1) for each in Commitment}
        return Advance(moment.slot, changed, reached)

    # Reading ----------------------------------------------------------------------------------------------

    def account(self, address: Pubkey, commitment: Commitment) -> Account | None:
        return self._versions.at(address, self.slot_at(commitment))

    def accounts_of(self, program: Pubkey, commitment: Commitment) -> Iterator[tuple[Pubkey, Account]]:
        """All accounts of a program but those LiteSVM brings along."""
        return self._versions.owned_by(program, self.slot_at(commitment))

    def accounts(self, commitment: Commitment) -> Iterator[tuple[Pubkey, Account]]:
        """All accounts but those LiteSVM brings along."""
        return self._versions.everything(self.slot_at(commitment))

    def blockhash_of(self, slot: int) -> Hash:
        """The blockhash that the block of `slot` left behind."""
        return self._blockhashes.of(slot)

    def blockhash(self, commitment: Commitment) -> tuple[Hash, int]:
        """The newest blockhash, and the last block height at which it is good."""
        slot = self.slot_at(commitment)
        return self._blockhashes.of(slot), slot + BLOCKHASH_SLOTS

    def is_blockhash_valid(self, blockhash: Hash, commitment: Commitment) -> bool:
        return self._blockhashes.is_valid_at(blockhash, self.slot_at(commitment))

    def has_landed(self, message_hash: bytes) -> bool:
        return message_hash in self._landed_in

    def minimum_balance(self, data_bytes: int) -> int:
        return self._rent.minimum_balance(data_bytes)

    def recent_prices(self, addresses: frozenset[Pubkey]) -> list[tuple[int, int]]:
        """(slot, compute price that got into it and, if any are named, wrote all of these accounts), oldest first.

        As Agave does it: the highest of the block's lowest price and each account's lowest price.
        """
        recent = []
        for slot, paid in sorted(self._prices.items()):
            floors = [min(price for price, _ in paid)]
            floors += [
                min((price for price, written in paid if address in written), default=0) for address in addresses
            ]
            recent.append((slot, max(floors)))
        return recent

    # Running ----------------------------------------------------------------------------------------------

    def refusal(  # noqa: PLR0911  # one return per reason
        self,
        transaction: VersionedTransaction,
        commitment: Commitment,
        *,
        check_signatures: bool = True,
        check_age: bool = True,
    ) -> ErrorJson | None:
        """Why the bank of `commitment` doesn't even try this transaction, or None."""
        message = transaction.message
        try:
            transaction.sanitize()
        except SanitizeError:
            return "SanitizeFailure"
        if len(set(message.account_keys)) != len(message.account_keys):
            return "AccountLoadedTwice"
        if check_signatures and not all(transaction.verify_with_results()):
            return "SignatureFailure"
        if not check_age:
            return None
        slot = self.slot_at(commitment)
        if not self._blockhashes.is_valid_at(message.recent_blockhash, slot):
            return "BlockhashNotFound"
        landed_in = self._landed_in.get(hash_of(message))
        if landed_in is not None and landed_in <= slot:
            return "AlreadyProcessed"
        return None

    def execute(self, transaction: VersionedTransaction) -> Landed | Dropped:
        """Run the transaction in the present slot and keep the result."""
        refused = self.refusal(transaction, Commitment.PROCESSED)
        if refused is not None:
            return Dropped(refused)
        run = self._run(transaction, keep=True)
        if run.error is not None and not run.charged:
            return Dropped(run.error)
        landed = Landed(
            signature=transaction.signatures[0],
            transaction=transaction,
            message_hash=hash_of(transaction.message),
            slot=self._now.slot,
            unix_time=self._now.unix_time,
            execution=run,
        )
        self._landed_in[landed.message_hash] = landed.slot
        price = compute_price(transaction.message)
        self._prices.setdefault(landed.slot, []).append((price, run.keys.writable))
        for address, before, after in zip(run.keys.all, run.accounts_before, run.accounts_after, strict=True):
            if before != after:
                self._versions.record(landed.slot, address, before)
                self._versions.index(address, before, after)
        return landed

    def simulate(self, transaction: VersionedTransaction) -> Execution:
        """Run the transaction against the present state and throw the result away; `refusal` is not asked."""
        return self._run(transaction, keep=False)

    def not_run(self, transaction: VersionedTransaction, error: ErrorJson) -> Execution:
        """What is shown of a transaction that was refused: its accounts as they are."""
        keys = self._resolve(transaction.message)
        if isinstance(keys, str):
            return _never_ran(_static_keys(transaction.message), error)
        accounts = tuple(self._live_account(address) for address in keys.all)
        tokens = self._token_balances(keys.all, accounts)
        return Execution(keys, error, 0, False, None, accounts, accounts, tokens, tokens)

    def _run(self, transaction: VersionedTransaction, *, keep: bool) -> Execution:
        message = transaction.message
        keys = self._resolve(message)
        if isinstance(keys, str):
            return _never_ran(_static_keys(message), keys)
        before = tuple(self._live_account(address) for address in keys.all)
        extra = priority_fee(message)
        fee = base_fee(message) + extra
        payer, payer_account = keys.all[0], before[0]
        unpayable = self._unpayable(payer_account, fee)
        if unpayable is not None or payer_account is None:
            return _never_ran(keys, unpayable or "AccountNotFound", before)
        if len(set(keys.all)) != len(keys.all):
            return _never_ran(keys, "AccountLoadedTwice", before)

        error = _unloadable(message, dict(zip(keys.all, before, strict=True)))
        metadata, after = None, before
        if error is None:
            if extra:  # LiteSVM doesn't charge it: taken beforehand, so that no instruction can spend it
                self._svm.set_account(payer, _debited(payer_account, extra))
            error, metadata, after = self._attempt(transaction, keys, before, keep=keep)
            if extra and not keep:
                self._svm.set_account(payer, payer_account)
        charged = error is None or lands(error)
        if error is not None:
            after = (_or_none(_debited(payer_account, fee)), *before[1:]) if charged else before
        if keep:
            self._keep(keys.all, after, failed=error is not None)
        return Execution(
            keys=keys,
            error=error,
            fee=fee,
            charged=charged,
            metadata=metadata,
            accounts_before=before,
            accounts_after=after,
            tokens_before=self._token_balances(keys.all, before),
            tokens_after=self._token_balances(keys.all, after),
        )

    def _attempt(
        self,
        transaction: VersionedTransaction,
        keys: Keys,
        before: tuple[Account | None, ...],
        *,
        keep: bool,
    ) -> tuple[ErrorJson | None, TransactionMetadata, tuple[Account | None, ...]]:
        """LiteSVM's part: error, metadata, and all accounts as a success leaves them."""
        if _LOOKUP_TABLES in keys.all:
            self._set_slot_hashes()
        result = self._svm.send_transaction(transaction) if keep else self._svm.simulate_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            return error_json(result.err()), result.meta(), before
        if isinstance(result, SimulatedTransactionInfo):
            metadata = result.meta()
            shown: dict[Pubkey, Account | None] = {**dict(result.post_accounts())}
        else:
            metadata = result
            shown = {address: self._live_account(address) for address in keys.writable}
        after = tuple(
            _or_none(shown[address]) if address in shown else account
            for address, account in zip(keys.all, before, strict=True)
        )
        return self._rent_error(before, after), metadata, after

    def _keep(
        self,
        addresses: tuple[Pubkey, ...],
        after: tuple[Account | None, ...],
        *,
        failed: bool,
    ) -> None:
        """Make LiteSVM's state equal `after`: undo what a failed run left, and empty what was closed."""
        for address, new in zip(addresses, after, strict=True):
            left = self._svm.get_account(address)
            if new is None and left is not None and (left.lamports or left.data or left.owner != _SYSTEM):
                self._svm.set_account(address, Account(0, b"", _SYSTEM, False, 0))
            elif failed and new is not None and left != new:
                self._svm.set_account(address, new)

    def _unpayable(self, payer: Account | None, fee: int) -> ErrorJson | None:
        if payer is None:
            return "AccountNotFound"
        if payer.owner != _SYSTEM or payer.data:
            return "InvalidAccountForFee"
        if payer.lamports < fee:
            return "InsufficientFundsForFee"
        if not rent_allows(self._rent, payer, _debited(payer, fee)):
            return {"InsufficientFundsForRent": {"account_index": 0}}
        return None

    def _rent_error(
        self,
        before: tuple[Account | None, ...],
        after: tuple[Account | None, ...],
    ) -> ErrorJson | None:
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new and not rent_allows(self._rent, old, new):
                return {"InsufficientFundsForRent": {"account_index": index}}
        return None

    def _resolve(self, message: Message | MessageV0) -> Keys | str:
        """Every account the message names; or the error's name when a lookup table doesn't serve."""
        static = _static_keys(message)
        writable: list[Pubkey] = []
        readonly: list[Pubkey] = []
        for lookup in message.address_table_lookups if isinstance(message, MessageV0) else ():
            table = self._live_account(lookup.account_key)
            if table is None:
                return "AddressLookupTableNotFound"
            if table.owner != _LOOKUP_TABLES:
                return "InvalidAddressLookupTableOwner"
            body = table.data[_LOOKUP_TABLE_HEADER_BYTES:]
            for indexes, into in ((lookup.writable_indexes, writable), (lookup.readonly_indexes, readonly)):
                for index in bytes(indexes):
                    if len(body) < 32 * (index + 1):
                        return "InvalidAddressLookupTableIndex"
                    into.append(Pubkey.from_bytes(body[32 * index : 32 * (index + 1)]))
        tables = len(message.address_table_lookups) if isinstance(message, MessageV0) else 0
        return Keys(static.static, tuple(writable), tuple(readonly), static.writable | frozenset(writable), tables)

    def _token_balances(
        self,
        addresses: tuple[Pubkey, ...],
        accounts: tuple[Account | None, ...],
    ) -> tuple[TokenBalance, ...]:
        balances = []
        shown = dict(zip(addresses, accounts, strict=True))
        for index, account in enumerate(accounts):
            holding = parse_holding(account)
            if holding is None:
                continue
            mint = parse_mint(shown.get(holding.mint) or self._live_account(holding.mint))
            if mint is not None:
                balances.append(TokenBalance(index, holding, mint.decimals))
        return tuple(balances)

    def _live_account(self, address: Pubkey) -> Account | None:
        return _or_none(self._svm.get_account(address))

    def _set_clock(self) -> None:
        epoch = self._now.slot // SLOTS_PER_EPOCH
        self._svm.set_clock(Clock(self._now.slot, self._start_s, epoch, epoch + 1, self._now.unix_time))

    def _set_slot_hashes(self) -> None:
        """Only the lookup-table program reads them, and filling the sysvar costs half a slot's idle budget."""
        newest = self._now.slot - 1
        slots = range(newest, max(-1, newest - _SLOT_HASHES), -1)
        self._svm.set_slot_hashes([(slot, self._blockhashes.of(slot)) for slot in slots])


def hash_of(message: Message | MessageV0) -> bytes:
    """What identifies a message to the duplicate check: its content, whoever's signatures come with it."""
    return hashlib.sha256(bytes(message)).digest()


def _static_keys(message: Message | MessageV0) -> Keys:
    header = message.header
    keys = tuple(message.account_keys)
    signers = header.num_required_signatures
    writable = frozenset(
        key
        for index, key in enumerate(keys)
        if index < signers - header.num_readonly_signed_accounts
        or signers <= index < len(keys) - header.num_readonly_unsigned_accounts
    )
    return Keys(keys, (), (), writable)


def _unloadable(message: Message | MessageV0, accounts: dict[Pubkey, Account | None]) -> ErrorJson | None:
    """The error of a transaction that names a program which isn't one; it lands and pays (SIMD-82)."""
    for instruction in message.instructions:
        program = accounts[message.account_keys[instruction.program_id_index]]
        if program is None:
            return "ProgramAccountNotFound"
        if not program.executable:
            return "InvalidProgramForExecution"
    return None


def _never_ran(keys: Keys, error: ErrorJson, before: tuple[Account | None, ...] | None = None) -> Execution:
    accounts = before if before is not None else (None,) * len(keys.all)
    return Execution(keys, error, 0, False, None, accounts, accounts, (), ())


def _debited(account: Account, lamports: int) -> Account:
    left = account.lamports - lamports
    return Account(left, account.data, account.owner, account.executable, account.rent_epoch)


def _or_none(account: Account | None) -> Account | None:
    """An account without lamports doesn't exist, whatever LiteSVM still keeps of it."""
    return account if account is not None and account.lamports else None
