"""The HTTP methods: each takes the chain and its parameters and returns the `result`.

Shapes are those of Agave 3.1.8, compared in tests/localnet/test_against_agave.py.
"""

import base64
from collections.abc import Callable
from typing import Any, Final

import base58
import orjson
from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.localnet.bank import SLOTS_PER_EPOCH
from marketplace.localnet.chain import Chain, PreflightRefused
from marketplace.localnet.errors import GiftDropped
from marketplace.localnet.faucet import Gift, TokenGift
from marketplace.localnet.fees import base_fee, priority_fee
from marketplace.localnet.journal import SummaryRow
from marketplace.localnet.outcome import ErrorJson, error_sentence
from marketplace.localnet.records import Execution
from marketplace.localnet.rendering import (
    balances_json,
    inner_decoded_json,
    loaded_json,
    return_data_json,
    status_json,
    transaction_json,
)
from marketplace.localnet.rpc.accounts import account_json, as_filters
from marketplace.localnet.rpc.envelope import (
    BLOCK_NOT_AVAILABLE,
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    MIN_CONTEXT_SLOT_NOT_REACHED,
    PREFLIGHT_FAILED,
    UNSUPPORTED_VERSION,
    RpcError,
    invalid_params,
)
from marketplace.localnet.rpc.params import (
    Config,
    Encoding,
    Params,
    as_bytes,
    as_config,
    as_pubkey,
    as_signature,
    as_text,
    as_transaction,
)
from marketplace.localnet.slots import BLOCKHASH_SLOTS, Commitment
from marketplace.localnet.tokens import TOKEN_PROGRAM, Mint, TokenHolding, parse_holding, parse_mint, ui_amount

# LiteSVM of solders 0.26 follows Agave 2.2's rules.
API_VERSION: Final = "2.2.0"
# Specified: Agave, rpc-client-api/src/request.rs.
_MOST_ACCOUNTS: Final = 100
_MOST_STATUSES: Final = 256
_MOST_SIGNATURES: Final = 1_000
_MOST_PRIORITY_ACCOUNTS: Final = 128
_MOST_SIMULATED: Final = 64
_LAMPORTS_MOST: Final = 2**63 - 1


class Methods:
    """All methods over one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._bank = chain.bank
        self._table: dict[str, Callable[[Params], Any]] = {
            "getHealth": lambda _: "ok",
            "getVersion": lambda _: {"solana-core": API_VERSION, "feature-set": None},
            "getGenesisHash": lambda _: chain.identity.genesis_hash,
            "getIdentity": lambda _: {"identity": str(chain.benefactor.faucet.pubkey())},
            "getFirstAvailableBlock": lambda _: 0,
            "minimumLedgerSlot": lambda _: 0,
            "getSlot": self.get_slot,
            "getBlockHeight": self.get_slot,  # every slot has its block here
            "getTransactionCount": lambda _: chain.journal.count_transactions(),
            "getEpochInfo": self.get_epoch_info,
            "getLatestBlockhash": self.get_latest_blockhash,
            "isBlockhashValid": self.is_blockhash_valid,
            "getBalance": self.get_balance,
            "getAccountInfo": self.get_account_info,
            "getMultipleAccounts": self.get_multiple_accounts,
            "getProgramAccounts": self.get_program_accounts,
            "getTokenAccountBalance": self.get_token_account_balance,
            "getTokenAccountsByOwner": self.get_token_accounts_by_owner,
            "getTokenSupply": self.get_token_supply,
            "getMinimumBalanceForRentExemption": self.get_minimum_balance,
            "getFeeForMessage": self.get_fee_for_message,
            "getRecentPrioritizationFees": self.get_recent_prioritization_fees,
            "simulateTransaction": self.simulate_transaction,
            "sendTransaction": self.send_transaction,
            "getSignatureStatuses": self.get_signature_statuses,
            "getTransaction": self.get_transaction,
            "getSignaturesForAddress": self.get_signatures_for_address,
            "requestAirdrop": self.request_airdrop,
            "getBlockTime": self.get_block_time,
            "localnetInfo": lambda _: self.localnet_info(),
            "localnetFaucet": self.localnet_faucet,
        }

    def call(self, method: str, params: list[Any]) -> Any:
        """The result of a method. Raises RpcError."""
        found = self._table.get(method)
        if found is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        self._chain.tick()
        return found(Params(params))

    # Slots ------------------------------------------------------------------------------------------------

    def get_slot(self, params: Params) -> int:
        return self._slot(params.config(0))

    def get_epoch_info(self, params: Params) -> dict[str, int]:
        slot = self._slot(params.config(0))
        return {
            "absoluteSlot": slot,
            "blockHeight": slot,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self._chain.journal.count_transactions(),
        }

    def get_block_time(self, params: Params) -> int:
        slot = params.u64(0)
        unix_time = self._chain.unix_time_of(slot)
        if unix_time is None:
            raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
        return unix_time

    def get_latest_blockhash(self, params: Params) -> dict[str, Any]:
        config = params.config(0)
        blockhash, last_valid = self._bank.blockhash(config.commitment())
        return self._with_context(config, {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid})

    def is_blockhash_valid(self, params: Params) -> dict[str, Any]:
        config = params.config(1)
        blockhash = Hash.from_bytes(bytes(params.pubkey(0)))  # the same 32 bytes in the same alphabet
        return self._with_context(config, self._bank.is_blockhash_valid(blockhash, config.commitment()))

    # Accounts ---------------------------------------------------------------------------------------------

    def get_balance(self, params: Params) -> dict[str, Any]:
        config = params.config(1)
        account = self._bank.account(params.pubkey(0), config.commitment())
        return self._with_context(config, account.lamports if account is not None else 0)

    def get_account_info(self, params: Params) -> dict[str, Any]:
        address, config = params.pubkey(0), params.config(1)
        account = self._bank.account(address, config.commitment())
        return self._with_context(config, self._account_json(address, account, config, Encoding.BINARY))

    def get_multiple_accounts(self, params: Params) -> dict[str, Any]:
        addresses = [as_pubkey(each) for each in params.list_of(0, _MOST_ACCOUNTS)]
        config = params.config(1)
        commitment = config.commitment()
        shown = [
            self._account_json(address, self._bank.account(address, commitment), config, Encoding.BASE64)
            for address in addresses
        ]
        return self._with_context(config, shown)

    def get_program_accounts(self, params: Params) -> Any:
        program, config = params.pubkey(0), params.config(1)
        filters = as_filters(config.raw("filters"))
        shown = [
            {"pubkey": str(address), "account": self._account_json(address, account, config, Encoding.BINARY)}
            for address, account in self._bank.accounts_of(program, config.commitment())
            if filters.match(account)
        ]
        if config.boolean("withContext"):
            return self._with_context(config, shown)
        self._slot(config)
        return shown

    def get_minimum_balance(self, params: Params) -> int:
        return self._bank.minimum_balance(min(params.u64(0), 10 * 1024 * 1024))

    # Tokens -----------------------------------------------------------------------------------------------

    def get_token_account_balance(self, params: Params) -> dict[str, Any]:
        config = params.config(1)
        account = self._token_account(params.pubkey(0), config)
        holding = parse_holding(account)
        if holding is None:
            raise invalid_params("Invalid param: not a Token account")
        mint = parse_mint(self._bank.account(holding.mint, config.commitment()))
        if mint is None:
            raise invalid_params("Invalid param: could not find mint")
        return self._with_context(config, ui_amount(holding.amount, mint.decimals))

    def get_token_supply(self, params: Params) -> dict[str, Any]:
        config = params.config(1)
        mint = parse_mint(self._token_account(params.pubkey(0), config))
        if mint is None:
            raise invalid_params("Invalid param: not a Token mint")
        return self._with_context(config, ui_amount(mint.supply, mint.decimals))

    def get_token_accounts_by_owner(self, params: Params) -> dict[str, Any]:
        owner, which, config = params.pubkey(0), params.required_config(1), params.config(2)
        commitment = config.commitment()
        wanted = self._wanted_mint(which, config)
        shown = []
        for address, account in self._bank.accounts_of(TOKEN_PROGRAM, commitment):
            holding = parse_holding(account)
            if holding is not None and holding.owner == owner and wanted in (None, holding.mint):
                shown.append(
                    {"pubkey": str(address), "account": self._account_json(address, account, config, Encoding.BINARY)},
                )
        return self._with_context(config, shown)

    def _wanted_mint(self, which: Config, config: Config) -> Pubkey | None:
        """The mint that getTokenAccountsByOwner is about, or None for all."""
        if which.raw("mint") is not None:
            address = as_pubkey(which.raw("mint"))
            account = self._bank.account(address, config.commitment())
            if account is None:
                raise invalid_params("Invalid param: could not find mint")
            if parse_mint(account) is None:
                raise invalid_params("Invalid param: Token mint could not be unpacked")
            return address
        if which.raw("programId") is not None:
            if as_pubkey(which.raw("programId")) != TOKEN_PROGRAM:
                raise invalid_params("Invalid param: unrecognized Token program id")
            return None
        raise invalid_params("Invalid params: expected `mint` or `programId`.")

    def _token_account(self, address: Pubkey, config: Config) -> Account:
        account = self._bank.account(address, config.commitment())
        if account is None:
            raise invalid_params("Invalid param: could not find account")
        return account

    # Fees -------------------------------------------------------------------------------------------------

    def get_fee_for_message(self, params: Params) -> dict[str, Any]:
        config = params.config(1)
        data = as_bytes(params.text(0), "base64")
        try:
            message = from_bytes_versioned(data)
        except ValueError as error:
            raise invalid_params(
                f"failed to deserialize solana_message::versions::VersionedMessage: {error}",
            ) from None
        known = self._bank.is_blockhash_valid(message.recent_blockhash, config.commitment())
        return self._with_context(config, base_fee(message) + priority_fee(message) if known else None)

    def get_recent_prioritization_fees(self, params: Params) -> list[dict[str, int]]:
        addresses = frozenset(as_pubkey(each) for each in params.optional_list(0, _MOST_PRIORITY_ACCOUNTS))
        return [{"slot": slot, "prioritizationFee": price} for slot, price in self._bank.recent_prices(addresses)]

    # Sending ----------------------------------------------------------------------------------------------

    def send_transaction(self, params: Params) -> str:
        text, config = params.text(0), params.config(1)
        transaction = as_transaction(text, config.text("encoding") or "base58")
        preflight = None
        if not config.boolean("skipPreflight"):
            preflight = config.commitment("preflightCommitment")
            self._check_context(config, self._bank.slot_at(preflight))
        outcome = self._chain.submit(transaction, preflight)
        if isinstance(outcome, PreflightRefused):
            raise RpcError(
                PREFLIGHT_FAILED,
                f"Transaction simulation failed: {error_sentence(outcome.error)}",
                _preflight_json(outcome),
            )
        return str(outcome.signature)

    def simulate_transaction(self, params: Params) -> dict[str, Any]:
        text, config = params.text(0), params.config(1)
        transaction = as_transaction(text, config.text("encoding") or "base58")
        commitment = config.commitment()
        replace, verify = config.boolean("replaceRecentBlockhash"), config.boolean("sigVerify")
        if replace and verify:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        wanted = _wanted_accounts(config)
        replacement = None
        if replace:
            blockhash, last_valid = self._bank.blockhash(commitment)
            transaction = _with_blockhash(transaction, blockhash)
            replacement = {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid}
        refused = self._bank.refusal(transaction, commitment, check_signatures=verify, check_age=not replace)
        run = self._bank.simulate(transaction) if refused is None else None
        value = _simulation_json(refused, run)
        value["replacementBlockhash"] = replacement
        if run is not None and config.boolean("innerInstructions"):
            value["innerInstructions"] = inner_decoded_json(run)
        if wanted is not None and run is not None and run.error is None:
            after = dict(zip(run.keys.all, run.accounts_after, strict=True))
            addresses, shape = wanted
            value["accounts"] = [
                self._account_json(
                    address,
                    after[address] if address in after else self._bank.account(address, commitment),
                    shape,
                    Encoding.BASE64,
                )
                for address in addresses
            ]
        return self._with_context(config, value)

    def request_airdrop(self, params: Params) -> str:
        params.need(2)
        wallet, lamports = params.pubkey(0), params.u64(1)
        if lamports > _LAMPORTS_MOST:
            raise invalid_params(f"Invalid params: {lamports} lamports are more than there are.")
        return str(self._give(wallet, Gift(lamports, ())))

    # History ----------------------------------------------------------------------------------------------

    def get_signature_statuses(self, params: Params) -> dict[str, Any]:
        signatures = [as_signature(each) for each in params.list_of(0, _MOST_STATUSES)]
        config = params.config(1)
        oldest = 0
        if not config.boolean("searchTransactionHistory"):
            oldest = self._bank.slot_at(Commitment.FINALIZED) - BLOCKHASH_SLOTS
        statuses = []
        for signature in signatures:
            row = self._chain.journal.find_summary(signature)
            statuses.append(self._status(row) if row is not None and row.slot >= oldest else None)
        return self._in_context(self._bank.slot_at(Commitment.PROCESSED), statuses)

    def _status(self, row: SummaryRow) -> dict[str, Any]:
        reached = self._bank.commitment_of(row.slot)
        error = orjson.loads(row.error) if row.error is not None else None
        return {
            "slot": row.slot,
            "confirmations": None if reached is Commitment.FINALIZED else self._bank.now.slot - row.slot,
            "err": error,
            "status": status_json(error),
            "confirmationStatus": reached.value,
        }

    def get_transaction(self, params: Params) -> dict[str, Any] | None:
        signature, config = params.signature(0), _history_config(params, 1)
        row = self._chain.journal.find_transaction(signature)
        if row is None or row.slot > self._bank.slot_at(_history_commitment(config)):
            return None
        newest = config.integer("maxSupportedTransactionVersion")
        if row.version != "legacy" and newest is None:
            raise RpcError(
                UNSUPPORTED_VERSION,
                f"Transaction version ({row.version}) is not supported by the requesting client. "
                "Please try the request again with the following configuration parameter: "
                f'"maxSupportedTransactionVersion": {row.version}',
            )
        shown: dict[str, Any] = {
            "slot": row.slot,
            "blockTime": row.unix_time,
            "meta": orjson.loads(row.meta),
            "transaction": _encoded_transaction(row.wire, config.text("encoding") or "json"),
        }
        if newest is not None:
            shown["version"] = "legacy" if row.version == "legacy" else int(row.version)
        return shown

    def get_signatures_for_address(self, params: Params) -> list[dict[str, Any]]:
        address, config = params.pubkey(0), _history_config(params, 1)
        limit = config.integer("limit")
        if limit is None:
            limit = _MOST_SIGNATURES
        if not 1 <= limit <= _MOST_SIGNATURES:
            raise invalid_params(f"Invalid limit; max {_MOST_SIGNATURES}")
        highest = self._slot_in(config, _history_commitment(config))
        before = until = None
        if config.raw("before") is not None:
            before = self._chain.journal.find_summary(as_signature(config.raw("before")))
            if before is None:
                return []  # as Agave: nothing is before what nobody knows
        if config.raw("until") is not None:
            until = self._chain.journal.find_summary(as_signature(config.raw("until")))
        rows = self._chain.journal.list_mentions(
            address,
            before=before.seq if before is not None else None,
            until=until.seq if until is not None else 0,
            highest_slot=highest,
            limit=limit,
        )
        return [
            {
                "signature": str(row.signature),
                "slot": row.slot,
                "err": orjson.loads(row.error) if row.error is not None else None,
                "memo": row.memo,
                "blockTime": row.unix_time,
                "confirmationStatus": self._bank.commitment_of(row.slot).value,
            }
            for row in rows
        ]

    # Ours: no cluster has these ---------------------------------------------------------------------------

    def localnet_info(self) -> dict[str, Any]:
        identity = self._chain.identity
        return {
            "genesisHash": identity.genesis_hash,
            "programId": str(identity.program_id),
            "paymentMint": str(identity.payment_mint),
            "paymentDecimals": identity.payment_decimals,
            "stakeMint": str(identity.stake_mint),
            "stakeDecimals": identity.stake_decimals,
            "mintAuthority": str(identity.mint_authority),
            "slotMs": identity.slot_ms,
            "finalitySlots": identity.finality_slots,
        }

    def localnet_faucet(self, params: Params) -> dict[str, Any]:
        """[wallet, {"lamports", "payment", "stake"}] in base units → the signature of one transaction with all."""
        wallet, config = params.pubkey(0), params.required_config(1)
        identity = self._chain.identity
        amounts = {name: config.integer(name) or 0 for name in ("lamports", "payment", "stake")}
        if max(amounts.values()) > _LAMPORTS_MOST:
            raise invalid_params("Invalid params: the faucet can't give that much.")
        gift = Gift(
            amounts["lamports"],
            (TokenGift(identity.payment_mint, amounts["payment"]), TokenGift(identity.stake_mint, amounts["stake"])),
        )
        if gift.is_empty:
            raise invalid_params("Invalid params: name at least one of `lamports`, `payment`, `stake`.")
        signature = self._give(wallet, gift)
        row = self._chain.journal.find_summary(signature)
        if row is not None and row.error is not None:
            reason = error_sentence(orjson.loads(row.error))
            raise RpcError(INTERNAL_ERROR, f"the gift failed: {reason} (transaction {signature})")
        return {"signature": str(signature), "slot": self._bank.now.slot}

    def _give(self, wallet: Pubkey, gift: Gift) -> Signature:
        try:
            return self._chain.give(wallet, gift)
        except GiftDropped as dropped:
            raise RpcError(INTERNAL_ERROR, str(dropped)) from dropped

    # Shared -----------------------------------------------------------------------------------------------

    def _account_json(
        self,
        address: Pubkey,
        account: Account | None,
        config: Config,
        default: Encoding,
    ) -> dict[str, Any] | None:
        encoding, data_slice = config.encoding(default), config.data_slice()
        if account is None:
            return None
        mint: Mint | None = None
        if encoding is Encoding.JSON_PARSED:
            holding: TokenHolding | None = parse_holding(account)
            if holding is not None:
                mint = parse_mint(self._bank.account(holding.mint, Commitment.PROCESSED))
        return account_json(address, account, encoding, data_slice, mint)

    def _with_context(self, config: Config, value: Any) -> dict[str, Any]:
        return self._in_context(self._slot(config), value)

    def _in_context(self, slot: int, value: Any) -> dict[str, Any]:
        return {"context": {"apiVersion": API_VERSION, "slot": slot}, "value": value}

    def _slot(self, config: Config) -> int:
        return self._slot_in(config, config.commitment())

    def _slot_in(self, config: Config, commitment: Commitment) -> int:
        slot = self._bank.slot_at(commitment)
        self._check_context(config, slot)
        return slot

    def _check_context(self, config: Config, slot: int) -> None:
        least = config.integer("minContextSlot")
        if least is not None and slot < least:
            raise RpcError(
                MIN_CONTEXT_SLOT_NOT_REACHED,
                "Minimum context slot has not been reached",
                {"contextSlot": slot},
            )


def _history_config(params: Params, index: int) -> Config:
    """The older form gives the encoding alone, as a string."""
    values = params.optional_raw(index)
    return Config({"encoding": values}) if isinstance(values, str) else params.config(index)


def _history_commitment(config: Config) -> Commitment:
    commitment = config.commitment()
    if commitment is Commitment.PROCESSED:
        raise invalid_params("Method does not support commitment below `confirmed`")
    return commitment


def _encoded_transaction(wire: bytes, encoding: str) -> Any:
    if encoding == "json":
        return transaction_json(VersionedTransaction.from_bytes(wire))
    if encoding == "base64":
        return [base64.b64encode(wire).decode(), "base64"]
    if encoding in ("base58", "binary"):
        text = base58.b58encode(wire).decode()
        return text if encoding == "binary" else [text, "base58"]
    if encoding == "jsonParsed":
        raise invalid_params("jsonParsed transactions are not offered by reaver-localnet, use json or base64")
    raise invalid_params(
        f"Invalid params: unknown variant `{encoding}`, expected one of `json`, `base58`, `base64`, `jsonParsed`.",
    )


def _wanted_accounts(config: Config) -> tuple[list[Pubkey], Config] | None:
    accounts = config.object("accounts")
    if accounts is None:
        return None
    addresses = accounts.raw("addresses")
    if not isinstance(addresses, list):
        raise invalid_params("Invalid params: `accounts` needs `addresses`.")
    if len(addresses) > _MOST_SIMULATED:
        raise invalid_params(f"Too many accounts provided; max {_MOST_SIMULATED}")
    return [as_pubkey(as_text(each)) for each in addresses], as_config({"encoding": accounts.raw("encoding")})


def _with_blockhash(transaction: VersionedTransaction, blockhash: Hash) -> VersionedTransaction:
    """The same transaction with another blockhash; its signatures no longer fit and aren't checked."""
    old = transaction.message
    message: Message | MessageV0
    if isinstance(old, MessageV0):
        message = MessageV0(old.header, old.account_keys, blockhash, old.instructions, old.address_table_lookups)
    else:
        header = old.header
        message = Message.new_with_compiled_instructions(
            header.num_required_signatures,
            header.num_readonly_signed_accounts,
            header.num_readonly_unsigned_accounts,
            old.account_keys,
            blockhash,
            old.instructions,
        )
    return VersionedTransaction.populate(message, transaction.signatures)


def _simulation_json(refused: ErrorJson | None, run: Execution | None) -> dict[str, Any]:
    """The value of simulateTransaction, and the data of a failed preflight."""
    ran = run is not None and run.fee > 0
    value: dict[str, Any] = {
        "accounts": None,
        "err": refused if run is None else run.error,
        "fee": run.fee if run is not None and ran else None,
        "innerInstructions": None,
        "loadedAccountsDataSize": run.loaded_bytes if run is not None and run.metadata is not None else 0,
        "loadedAddresses": loaded_json(run) if run is not None else {"readonly": [], "writable": []},
        "logs": run.metadata.logs() if run is not None and run.metadata is not None else [],
        "preBalances": None,
        "postBalances": None,
        "preTokenBalances": None,
        "postTokenBalances": None,
        "replacementBlockhash": None,
        "returnData": return_data_json(run.metadata) if run is not None else None,
        "unitsConsumed": run.metadata.compute_units_consumed() if run is not None and run.metadata is not None else 0,
    }
    if run is not None and ran:
        value.update(balances_json(run))
    return value


def _preflight_json(refused: PreflightRefused) -> dict[str, Any]:
    """Agave shows neither balances nor loaded addresses here."""
    value = _simulation_json(refused.error, refused.run)
    for name in ("loadedAddresses", "preBalances", "postBalances", "preTokenBalances", "postTokenBalances"):
        value[name] = None
    return value
