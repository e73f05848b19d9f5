"""Sending, simulating, and what it costs."""

from typing import Any, Final

from solders.hash import Hash
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from marketplace.localnet.chain import PreflightRefused
from marketplace.localnet.errors import GiftDropped
from marketplace.localnet.faucet import LAMPORTS_MOST, Gift
from marketplace.localnet.fees import base_fee, priority_fee
from marketplace.localnet.outcome import ErrorJson, error_sentence
from marketplace.localnet.records import Execution
from marketplace.localnet.rendering import balances_json, inner_parsed_json, loaded_json, return_data_json
from marketplace.localnet.rpc.envelope import INTERNAL_ERROR, PREFLIGHT_FAILED, RpcError, invalid_params
from marketplace.localnet.rpc.params import (
    CUT_SHORT,
    Config,
    Encoding,
    Params,
    as_bytes,
    as_pubkey,
    as_text,
    as_transaction,
    as_variant,
    missing_field,
    wrong_type,
)
from marketplace.localnet.rpc.reading import Method, Reading

# Specified: Agave, rpc-client-api/src/request.rs.
_MOST_PRIORITY_ACCOUNTS: Final = 128
_SEND_CONFIG: Final = "RpcSendTransactionConfig"
_SIMULATE_CONFIG: Final = "RpcSimulateTransactionConfig"
_WIRE_ENCODINGS: Final = ["binary", "base64", "base58", "json", "jsonParsed"]


class SendingMethods(Reading):
    def table(self) -> dict[str, Method]:
        return {
            "getFeeForMessage": Method(self.get_fee_for_message, 1, 2),
            "getRecentPrioritizationFees": Method(self.get_recent_prioritization_fees, 0, 1),
            "simulateTransaction": Method(self.simulate_transaction, 1, 2),
            "sendTransaction": Method(self.send_transaction, 1, 2),
            "requestAirdrop": Method(self.request_airdrop, 2, 3),
        }

    def get_fee_for_message(self, params: Params) -> dict[str, Any]:
        text, config = params.text(0), params.config(1)
        data = as_bytes(text, "base64")
        try:
            message = from_bytes_versioned(data)
        except ValueError:
            raise invalid_params(
                f"failed to deserialize solana_message::non_bpf_modules::versions::VersionedMessage: {CUT_SHORT}",
            ) from None
        known = self._bank.is_blockhash_valid(message.recent_blockhash, config.commitment())
        return self._with_context(config, base_fee(message) + priority_fee(message) if known else None)

    def get_recent_prioritization_fees(self, params: Params) -> list[dict[str, int]]:
        addresses = frozenset(as_pubkey(each) for each in params.optional_list(0, _MOST_PRIORITY_ACCOUNTS))
        return [{"slot": slot, "prioritizationFee": price} for slot, price in self._bank.recent_prices(addresses)]

    def send_transaction(self, params: Params) -> str:
        text, config = params.text(0), params.config(1, _SEND_CONFIG)
        skip = config.boolean("skipPreflight")
        commitment = config.checked_commitment("preflightCommitment")
        config.integer("maxRetries", "usize")  # nothing is lost on the way here, so nothing is tried again
        transaction = as_transaction(text, _wire_encoding(config))
        preflight = None
        if not skip:
            preflight = commitment
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
        text, config = params.text(0), params.config(1, _SIMULATE_CONFIG)
        replace, verify = config.boolean("replaceRecentBlockhash"), config.boolean("sigVerify")
        inner, commitment = config.boolean("innerInstructions"), config.commitment()
        accounts = _accounts_config(config)
        transaction = as_transaction(text, _wire_encoding(config))
        slot = self._slot(config)
        if replace and verify:
            raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
        replacement = None
        if replace:
            blockhash, last_valid = self._bank.blockhash(commitment)
            transaction = _with_blockhash(transaction, blockhash)
            replacement = {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid}
        refused = self._bank.refusal(transaction, commitment, check_signatures=verify, check_age=not replace)
        if refused is None:
            run = self._bank.simulate(transaction)
        elif refused == "SignatureFailure":
            run = None  # noticed before any account is looked at
        else:
            run = self._bank.not_run(transaction, refused)
        wanted = _wanted_accounts(accounts, run)
        value = _simulation_json(refused, run)
        value["replacementBlockhash"] = replacement
        if run is not None and inner:
            value["innerInstructions"] = inner_parsed_json(run)
        if wanted is not None and run is not None:
            after = dict(zip(run.keys.all, run.accounts_after, strict=True))
            addresses, shape = wanted
            value["accounts"] = (
                [
                    self._account_json(
                        address,
                        after[address] if address in after else self._bank.account(address, commitment),
                        shape,
                        Encoding.BASE64,
                    )
                    for address in addresses
                ]
                if run.error is None
                else [None for _ in addresses]
            )
        return self._in_context(slot, value)

    def request_airdrop(self, params: Params) -> str:
        params.need(2)
        text, lamports = params.text(0), params.u64(1)
        params.config(2, "RpcRequestAirdropConfig")
        wallet = as_pubkey(text)
        if lamports > LAMPORTS_MOST:
            raise invalid_params(f"Invalid params: {lamports} lamports are more than there are.")
        try:
            return str(self._chain.give(wallet, Gift(lamports, ())))
        except GiftDropped as dropped:
            raise RpcError(INTERNAL_ERROR, str(dropped)) from dropped


def _wire_encoding(config: Config) -> str:
    """The encoding of the transaction given; base58 where nothing is said."""
    given = config.raw("encoding")
    return "base58" if given is None else as_variant(given, _WIRE_ENCODINGS)


def _accounts_config(config: Config) -> Config | None:
    accounts = config.object("accounts", "RpcSimulateTransactionAccountsConfig")
    if accounts is None:
        return None
    accounts.encoding(Encoding.BASE64)
    if accounts.raw("addresses") is None:
        raise missing_field("addresses")
    if not isinstance(accounts.raw("addresses"), list):
        raise wrong_type(accounts.raw("addresses"), "a sequence")
    return accounts


def _wanted_accounts(accounts: Config | None, run: Execution | None) -> tuple[list[Pubkey], Config] | None:
    """The accounts to show after the simulation: at most as many as the transaction has."""
    if accounts is None:
        return None
    if accounts.encoding(Encoding.BASE64) in (Encoding.BINARY, Encoding.BASE58):
        raise invalid_params("base58 encoding not supported")
    texts = [as_text(each) for each in accounts.raw("addresses")]
    if run is not None and len(texts) > len(run.keys.all):
        raise invalid_params(f"Too many accounts provided; max {len(run.keys.all)}")
    return [as_pubkey(each) for each in texts], Config({"encoding": accounts.raw("encoding")})


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
    metadata = run.metadata if run is not None else None
    value: dict[str, Any] = {
        "accounts": None,
        "err": refused if run is None else run.error,
        "fee": run.fee if run is not None and run.fee else None,
        "innerInstructions": None,
        "loadedAccountsDataSize": run.loaded_bytes if run is not None and metadata is not None else 0,
        "loadedAddresses": loaded_json(run) if run is not None else {"readonly": [], "writable": []},
        "logs": metadata.logs() if metadata is not None else [],
        "preBalances": None,
        "postBalances": None,
        "preTokenBalances": None,
        "postTokenBalances": None,
        "replacementBlockhash": None,
        "returnData": return_data_json(metadata),
        "unitsConsumed": metadata.compute_units_consumed() if metadata is not None else 0,
    }
    if run is not None:
        value.update(balances_json(run))
    return value


def _preflight_json(refused: PreflightRefused) -> dict[str, Any]:
    """Agave shows neither balances nor loaded addresses here."""
    value = _simulation_json(refused.error, refused.run)
    for name in ("loadedAddresses", "preBalances", "postBalances", "preTokenBalances", "postTokenBalances"):
        value[name] = None
    return value
