"""A living chain: the bank, its journal and real time. What is answered here is durable."""

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import orjson
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.localnet.bank import Advance, Bank, hash_of
from marketplace.localnet.config import ChainConfig
from marketplace.localnet.crash import crash_point
from marketplace.localnet.errors import ConfigInvalid, FolderMismatch, GiftDropped, ProgramUnusable
from marketplace.localnet.faucet import Benefactor, Gift
from marketplace.localnet.journal import ChainRow, Journal, StartRow, TransactionRow
from marketplace.localnet.outcome import ErrorJson, error_sentence
from marketplace.localnet.records import Dropped, Execution, Landed
from marketplace.localnet.rendering import memo_of, meta_json, version_of
from marketplace.localnet.slots import BLOCKHASH_SLOTS, Commitment, Moment, SlotClock
from marketplace.localnet.tokens import MINT_BYTES, TOKEN_PROGRAM, mint_data

# Chosen: so many slots are reserved at once, so that an idle chain writes once in half a minute, and a killed one
# comes back fewer slots later than a blockhash lives.
_RESERVED_SLOTS: Final = 64
# Chosen: what the faucet holds at genesis, 500 million SOL; far from the 63 bits an SQLite integer has.
_FAUCET_LAMPORTS: Final = 500_000_000 * 10**9


@dataclass(frozen=True, slots=True)
class Identity:
    """What clients of this chain need to know of it."""

    genesis_hash: str
    program_id: Pubkey
    payment_mint: Pubkey
    payment_decimals: int
    stake_mint: Pubkey
    stake_decimals: int
    mint_authority: Pubkey
    slot_ms: int
    finality_slots: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Accepted. It may still be dropped, as everywhere, if nobody asked for the preflight."""

    signature: Signature


@dataclass(frozen=True, slots=True)
class PreflightRefused:
    """The preflight failed; run is None where the transaction wasn't even tried."""

    error: ErrorJson
    run: Execution | None


class Chain:
    """One thread; call `tick` before reading, so that the slot is the present one."""

    def __init__(
        self,
        config: ChainConfig,
        journal: Journal,
        benefactor: Benefactor,
        *,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the chain in an empty journal, or bring back the one that is there.

        Raises ConfigInvalid, ProgramUnusable, FolderMismatch, JournalBroken.
        """
        mint_authority = benefactor.mint_authority.pubkey()
        mints = {
            _address(config.payment_mint, "payment_mint"): config.payment_decimals,
            _address(config.stake_mint, "stake_mint"): config.stake_decimals,
        }
        row = journal.find_chain() or _give_birth(journal, mints, benefactor, int(wall_s()))
        if row.configuration != _fixed(mints, benefactor):
            raise FolderMismatch(
                "mints, decimals or keys differ from those this chain was created with: put them back, "
                "or run `reaver-localnet reset` and lose the chain.",
            )
        first_slot = row.slots_reserved + 1
        not_before_s = max(int(wall_s()), journal.latest_unix_time())
        self.journal = journal
        self.benefactor = benefactor
        self.bank = Bank(
            salt=row.salt,
            finality_slots=config.finality_slots,
            start=Moment(first_slot, not_before_s),
        )
        self.identity = Identity(
            genesis_hash=str(Pubkey.from_bytes(row.genesis_hash)),
            program_id=program_address(config.program_id),
            payment_mint=_address(config.payment_mint, "payment_mint"),
            payment_decimals=config.payment_decimals,
            stake_mint=_address(config.stake_mint, "stake_mint"),
            stake_decimals=config.stake_decimals,
            mint_authority=mint_authority,
            slot_ms=config.slot_ms,
            finality_slots=config.finality_slots,
        )
        for address, account in journal.accounts():
            self.bank.restore(address, account)
        for message_hash, slot in journal.message_hashes_since(first_slot - 2 * BLOCKHASH_SLOTS):
            self.bank.remember(message_hash, slot)
        for program_id, path in _programs(config):
            self.bank.load_program(program_id, _read_program(path))
        self._reserved = first_slot + _RESERVED_SLOTS
        journal.reserve_slots(self._reserved)
        journal.add_start(StartRow(first_slot, int(not_before_s * 1000), config.slot_ms))
        self._clock = SlotClock(
            first_slot=first_slot,
            slot_ms=config.slot_ms,
            not_before_s=not_before_s,
            wall_s=wall_s,
            monotonic_s=monotonic_s,
        )
        self.on_advance: list[Callable[[Advance], None]] = []
        self.on_landed: list[Callable[[Landed], None]] = []

    @classmethod
    def in_memory(cls, config: ChainConfig) -> Self:
        """A chain without a file, for tests in the same process: real time, fresh keys."""
        return cls(config, Journal(":memory:"), Benefactor(Keypair(), Keypair()))

    def close(self) -> None:
        """End in order: the next start goes on at the next slot."""
        self.journal.settle_slot(self.bank.now.slot)
        self.journal.close()

    # Time -------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Let the slot follow real time, and tell who waits for it."""
        moment = self._clock.now()
        if moment.slot > self._reserved:
            self._reserved = moment.slot + _RESERVED_SLOTS
            self.journal.reserve_slots(self._reserved)
        advance = self.bank.advance(moment)
        if advance is not None:
            for listener in self.on_advance:
                listener(advance)

    def until_next_slot_s(self) -> float:
        return self._clock.until_next_slot_s()

    def unix_time_of(self, slot: int) -> int | None:
        """The second of a slot that has passed: what its transactions saw, else what real time says it was."""
        if slot > self.bank.now.slot:
            return None
        seen = self.journal.unix_time_of(slot)
        if seen is not None:
            return seen
        start = self.journal.find_start(slot)
        return (start.unix_ms + (slot - start.first_slot) * start.slot_ms) // 1000 if start is not None else None

    # Transactions -----------------------------------------------------------------------------------------

    def submit(self, transaction: VersionedTransaction, preflight: Commitment | None) -> Sent | PreflightRefused:
        """Run a transaction in the present slot, once; durable when this returns.

        preflight: the commitment whose blockhashes and duplicates decide, None to skip it. A transaction that
        skipped it and can't be included is dropped without a word, as a cluster does.
        """
        if preflight is not None:
            refused = self.bank.refusal(transaction, preflight)
            if refused is not None:
                return PreflightRefused(refused, None)
            if self.bank.has_landed(hash_of(transaction.message)):
                return Sent(transaction.signatures[0])  # known, only not yet at that commitment: sent again
            run = self.bank.simulate(transaction)
            if run.error is not None:
                return PreflightRefused(run.error, run)
        self._land(transaction)
        return Sent(transaction.signatures[0])

    def give(self, wallet: Pubkey, gift: Gift) -> Signature:
        """Send a gift; its signature. The same gift twice in a slot is two transactions.

        The transaction may have failed, as any may; raises GiftDropped when it could not even be included.
        """
        blockhash, _ = self.bank.blockhash(Commitment.PROCESSED)
        for serial in itertools.count():
            transaction = self.benefactor.gift_transaction(wallet, gift, blockhash, serial)
            if not self.bank.has_landed(hash_of(transaction.message)):
                break
        outcome = self._land(transaction)
        if isinstance(outcome, Dropped):
            raise GiftDropped(f"the faucet can't give that: {error_sentence(outcome.error)}")
        return outcome.signature

    def _land(self, transaction: VersionedTransaction) -> Landed | Dropped:
        outcome = self.bank.execute(transaction)
        if isinstance(outcome, Dropped):
            return outcome
        crash_point("localnet.before_journal")
        self._write(outcome)
        crash_point("localnet.after_journal")
        for listener in self.on_landed:
            listener(outcome)
        return outcome

    def _write(self, landed: Landed) -> None:
        error = landed.execution.error
        self.journal.append(
            TransactionRow(
                signature=landed.signature,
                message_hash=landed.message_hash,
                slot=landed.slot,
                unix_time=landed.unix_time,
                error=orjson.dumps(error).decode() if error is not None else None,
                memo=memo_of(landed.message),
                version=version_of(landed.message),
                wire=bytes(landed.transaction),
                meta=orjson.dumps(meta_json(landed.execution)),
            ),
            mentions=landed.execution.keys.all,
            changed=list(landed.changed().items()),
        )


def program_address(address_or_file: str) -> Pubkey:
    """The address itself, or the public key of the keypair in the file Solana's tools wrote. Raises ConfigInvalid."""
    if "/" not in address_or_file and "." not in address_or_file:
        return _address(address_or_file, "program_id")
    try:
        return Keypair.from_json(Path(address_or_file).read_text(encoding="utf-8")).pubkey()
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"program_id: {address_or_file} is no keypair file: {error}") from error


def _address(text: str, field: str) -> Pubkey:
    try:
        return Pubkey.from_string(text)
    except ValueError as error:
        raise ConfigInvalid(f"{field}: {text!r} is no address: {error}") from error


def _programs(config: ChainConfig) -> list[tuple[Pubkey, Path]]:
    programs = [(program_address(each.id), Path(each.file)) for each in config.programs]
    if config.program is not None:
        programs.insert(0, (program_address(config.program_id), config.program))
    if len({program_id for program_id, _ in programs}) != len(programs):
        raise ConfigInvalid("two programs have the same address")
    return programs


def _read_program(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProgramUnusable(
            f"the program file {path} can't be read ({error.strerror}): build it with scripts/build-program, "
            "or correct `program` in the [chain] section.",
        ) from error


def _fixed(mints: dict[Pubkey, int], benefactor: Benefactor) -> str:
    """What genesis wrote into accounts, and so can't change under a living chain."""
    return orjson.dumps(
        {
            "mints": [[str(mint), decimals] for mint, decimals in mints.items()],
            "mint_authority": str(benefactor.mint_authority.pubkey()),
            "faucet": str(benefactor.faucet.pubkey()),
        },
    ).decode()


def _give_birth(journal: Journal, mints: dict[Pubkey, int], benefactor: Benefactor, unix_time: int) -> ChainRow:
    salt = secrets.token_bytes(32)
    row = ChainRow(
        salt=salt,
        genesis_hash=hashlib.sha256(b"genesis" + salt + unix_time.to_bytes(8, "little")).digest(),
        configuration=_fixed(mints, benefactor),
        slots_reserved=0,  # slot 0 is genesis, final from the start; transactions begin in slot 1
    )
    authority = benefactor.mint_authority.pubkey()
    bank = Bank(salt=salt, finality_slots=1, start=Moment(0, unix_time))
    rent = bank.minimum_balance(MINT_BYTES)
    genesis = [
        (mint, Account(rent, mint_data(authority, decimals), TOKEN_PROGRAM, False, 0))
        for mint, decimals in mints.items()
    ]
    genesis.append((benefactor.faucet.pubkey(), Account(_FAUCET_LAMPORTS, b"", Pubkey.default(), False, 0)))
    journal.create_chain(row, genesis)
    journal.add_start(StartRow(0, unix_time * 1000, 1))
    return row
