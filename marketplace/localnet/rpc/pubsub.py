"""Subscriptions: what one WebSocket connection waits for, and what it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import orjson
from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.localnet.bank import Advance
from marketplace.localnet.chain import Chain
from marketplace.localnet.records import Landed
from marketplace.localnet.rpc.accounts import account_json
from marketplace.localnet.rpc.envelope import METHOD_NOT_FOUND, RpcError, invalid_params
from marketplace.localnet.rpc.params import DataSlice, Encoding, Params
from marketplace.localnet.slots import Commitment
from marketplace.localnet.tokens import parse_holding, parse_mint

# Chosen: enough for any client here, and an end for one that forgets to unsubscribe.
_MOST_SUBSCRIPTIONS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _SignatureWatch:
    signature: Signature
    commitment: Commitment


@dataclass(frozen=True, slots=True)
class _AccountWatch:
    address: Pubkey
    commitment: Commitment
    encoding: Encoding
    data_slice: DataSlice | None


class Subscriptions:
    """The subscriptions of one connection. `send` queues a text for the connection; it may not block."""

    def __init__(self, chain: Chain, send: Callable[[bytes], None], ids: "count[int]") -> None:
        self._chain = chain
        self._send = send
        self._ids = ids
        self._signatures: dict[int, _SignatureWatch] = {}
        self._accounts: dict[int, _AccountWatch] = {}
        self._pending: list[int] = []  # subscribed but not yet answered with their number
        chain.on_advance.append(self.see_advance)
        chain.on_landed.append(self.see_landed)

    def close(self) -> None:
        self._chain.on_advance.remove(self.see_advance)
        self._chain.on_landed.remove(self.see_landed)

    def call(self, method: str, values: list[Any]) -> Any:
        """Subscribe or unsubscribe. Raises RpcError. Call `announce` once the answer is sent."""
        params = Params(values)
        self._chain.tick()
        if method == "signatureSubscribe":
            return self._subscribe_signature(params)
        if method == "accountSubscribe":
            return self._subscribe_account(params)
        if method == "signatureUnsubscribe":
            return _remove(self._signatures, params)
        if method == "accountUnsubscribe":
            return _remove(self._accounts, params)
        raise RpcError(METHOD_NOT_FOUND, "Method not found")

    def announce(self) -> None:
        """Tell what had already happened when it was subscribed to; after the answer, so that its number is known."""
        pending, self._pending = self._pending, []
        for number in pending:
            self._notify_signature(number)

    def see_landed(self, landed: Landed) -> None:
        for number, watch in list(self._signatures.items()):
            if watch.commitment is Commitment.PROCESSED and watch.signature == landed.signature:
                self._notify_signature(number)
        changed = landed.changed()
        for number, account in self._accounts.items():
            if account.commitment is Commitment.PROCESSED and account.address in changed:
                self._notify_account(number, account)

    def see_advance(self, advance: Advance) -> None:
        for commitment in Commitment:  # in their order, even when one advance reaches several
            for number, pending in list(self._signatures.items()):
                if pending.commitment is commitment:
                    self._notify_signature(number)
        for number, watch in self._accounts.items():
            if watch.commitment is not Commitment.PROCESSED and watch.address in advance.changed[watch.commitment]:
                self._notify_account(number, watch)

    def _subscribe_signature(self, params: Params) -> int:
        params.need(1)
        try:
            signature = params.signature(0)
        except RpcError:
            raise invalid_params("Invalid Request: Invalid signature provided") from None
        number = self._next_number()
        self._signatures[number] = _SignatureWatch(signature, params.config(1).commitment())
        self._pending.append(number)
        return number

    def _subscribe_account(self, params: Params) -> int:
        params.need(1)
        try:
            address = params.pubkey(0)
        except RpcError:
            raise invalid_params("Invalid Request: Invalid pubkey provided") from None
        config = params.config(1)
        watch = _AccountWatch(address, config.commitment(), config.encoding(Encoding.BINARY), config.data_slice())
        number = self._next_number()
        self._accounts[number] = watch
        return number

    def _next_number(self) -> int:
        if len(self._signatures) + len(self._accounts) >= _MOST_SUBSCRIPTIONS:
            raise RpcError(-32600, f"at most {_MOST_SUBSCRIPTIONS} subscriptions on a connection")
        return next(self._ids)

    def _notify_signature(self, number: int) -> None:
        watch = self._signatures.get(number)
        if watch is None:
            return
        row = self._chain.journal.find_summary(watch.signature)
        slot = self._chain.bank.slot_at(watch.commitment)
        if row is None or row.slot > slot:
            return
        del self._signatures[number]  # told once, then over
        error = orjson.loads(row.error) if row.error is not None else None
        self._notify("signatureNotification", number, slot, {"err": error})

    def _notify_account(self, number: int, watch: _AccountWatch) -> None:
        bank = self._chain.bank
        account = bank.account(watch.address, watch.commitment)
        holding = parse_holding(account)
        mint = parse_mint(bank.account(holding.mint, watch.commitment)) if holding is not None else None
        shown = account if account is not None else Account(0, b"", Pubkey.default(), False, 0)
        try:
            value = account_json(watch.address, shown, watch.encoding, watch.data_slice, mint)
        except RpcError as error:
            value = {"error": error.message}  # as Agave puts it: too large for base58
        self._notify("accountNotification", number, bank.slot_at(watch.commitment), value)

    def _notify(self, method: str, number: int, slot: int, value: Any) -> None:
        result = {"context": {"slot": slot}, "value": value}
        notification = {"jsonrpc": "2.0", "method": method, "params": {"result": result, "subscription": number}}
        self._send(orjson.dumps(notification))


def _remove(watches: dict[int, Any], params: Params) -> bool:
    if watches.pop(params.u64(0), None) is None:
        raise invalid_params("Invalid subscription id.")
    return True
