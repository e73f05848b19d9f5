"""Subscriptions: what one WebSocket connection waits for, and what it is told."""

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

import orjson
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.localnet.bank import Advance
from marketplace.localnet.chain import Chain
from marketplace.localnet.records import Landed
from marketplace.localnet.rpc.accounts import Filters, as_filters, single_entry
from marketplace.localnet.rpc.envelope import INVALID_REQUEST, METHOD_NOT_FOUND, RpcError, invalid_params
from marketplace.localnet.rpc.params import (
    Config,
    Encoding,
    Params,
    as_pubkey,
    as_signature,
    as_text,
    as_variant,
    wrong_type,
)
from marketplace.localnet.rpc.watches import (
    AccountWatch,
    LogsWatch,
    ProgramWatch,
    RootWatch,
    SignatureWatch,
    SlotWatch,
    Watch,
)
from marketplace.localnet.slots import Commitment

# Chosen: enough for any client here, and an end for one that forgets to unsubscribe.
_MOST_SUBSCRIPTIONS: Final = 10_000


class Subscriptions:
    """The subscriptions of one connection. `send` queues a text for the connection; it may not block."""

    def __init__(self, chain: Chain, send: Callable[[bytes], None], ids: "count[int]") -> None:
        self._chain = chain
        self._send = send
        self._ids = ids
        self._watches: dict[int, Watch] = {}
        self._pending: list[int] = []  # subscribed but not yet answered with their number
        self._makers: dict[str, Callable[[Params], Watch]] = {
            "signatureSubscribe": self._signature_watch,
            "accountSubscribe": self._account_watch,
            "programSubscribe": self._program_watch,
            "logsSubscribe": self._logs_watch,
            "slotSubscribe": self._slot_watch,
            "rootSubscribe": self._root_watch,
        }
        self._unmakers: Final = {name.replace("Subscribe", "Unsubscribe"): name for name in self._makers}
        chain.on_advance.append(self.see_advance)
        chain.on_landed.append(self.see_landed)

    def close(self) -> None:
        self._chain.on_advance.remove(self.see_advance)
        self._chain.on_landed.remove(self.see_landed)

    def call(self, method: str, values: list[Any]) -> Any:
        """Subscribe or unsubscribe. Raises RpcError. Call `announce` once the answer is sent."""
        params = Params(values)
        self._chain.tick()
        maker = self._makers.get(method)
        if maker is not None:
            return self._subscribe(maker(params))
        if method in self._unmakers:
            return self._unsubscribe(method.removesuffix("Unsubscribe"), params)
        raise RpcError(METHOD_NOT_FOUND, "Method not found")

    def announce(self) -> None:
        """Tell what had already happened when it was subscribed to; after the answer, so that its number is known."""
        pending, self._pending = self._pending, []
        for number in pending:
            watch = self._watches.get(number)
            if watch is not None:
                self._tell(number, watch, watch.on_start())

    def see_landed(self, landed: Landed) -> None:
        for number, watch in list(self._watches.items()):
            wants = watch.commitment is Commitment.PROCESSED
            if wants or (isinstance(watch, SignatureWatch) and watch.tells_received):
                self._tell(number, watch, watch.on_landed(landed))

    def see_advance(self, advance: Advance) -> None:
        for commitment in Commitment:  # in their order, even when one advance reaches several
            for number, watch in list(self._watches.items()):
                if watch.commitment is commitment:
                    self._tell(number, watch, watch.on_advance(advance))

    def _subscribe(self, watch: Watch) -> int:
        if len(self._watches) >= _MOST_SUBSCRIPTIONS:
            raise RpcError(INVALID_REQUEST, f"at most {_MOST_SUBSCRIPTIONS} subscriptions on a connection")
        number = next(self._ids)
        self._watches[number] = watch
        self._pending.append(number)
        return number

    def _unsubscribe(self, kind: str, params: Params) -> bool:
        if not len(params):
            raise invalid_params("Invalid params: invalid length 0, expected a tuple of size 1.")
        number = params.u64(0)
        watch = self._watches.get(number)
        if watch is None or watch.kind != kind:
            raise invalid_params("Invalid subscription id.")
        del self._watches[number]
        return True

    def _tell(self, number: int, watch: Watch, results: Iterable[Any]) -> None:
        for result in results:
            params = {"result": result, "subscription": number}
            self._send(orjson.dumps({"jsonrpc": "2.0", "method": f"{watch.kind}Notification", "params": params}))
        if watch.is_over:
            self._watches.pop(number, None)  # told once, then over

    # What each kind is asked with --------------------------------------------------------------------------

    def _signature_watch(self, params: Params) -> Watch:
        text, config = params.text(0), params.config(1, "RpcSignatureSubscribeConfig")
        received = config.boolean("enableReceivedNotification")
        return SignatureWatch(self._chain, config.commitment(), _signature(text), received=received)

    def _account_watch(self, params: Params) -> Watch:
        text, config = params.text(0), params.config(1, "RpcAccountInfoConfig")
        encoding, data_slice = config.encoding(Encoding.BINARY), config.data_slice()
        return AccountWatch(self._chain, config.commitment(), _address(text, "pubkey"), encoding, data_slice)

    def _program_watch(self, params: Params) -> Watch:
        text, config = params.text(0), params.config(1, "RpcProgramAccountsConfig")
        program, filters = _address(text, "pubkey"), _filters(config)
        config.data_slice()  # checked, and not followed: Agave doesn't either
        return ProgramWatch(self._chain, config.commitment(), program, filters, config.encoding(Encoding.BINARY))

    def _logs_watch(self, params: Params) -> Watch:
        params.need(1)
        kind, value = single_entry(params.optional_raw(0))
        as_variant(kind, ["all", "allWithVotes", "mentions"])
        config = params.config(1, "RpcTransactionLogsConfig")
        mentions = None
        if kind == "mentions":
            if not isinstance(value, list):
                raise wrong_type(value, "a sequence")
            texts = [as_text(each) for each in value]
            if len(texts) != 1:
                raise invalid_params("Invalid Request: Only 1 address supported")
            mentions = _address(texts[0], "mentions")
        return LogsWatch(self._chain, config.commitment(), mentions)

    def _slot_watch(self, _: Params) -> Watch:
        return SlotWatch(self._chain)

    def _root_watch(self, _: Params) -> Watch:
        return RootWatch(self._chain)


def _filters(config: Config) -> Filters:
    """Read with the rest of the parameters here, and so with the words that its errors begin with."""
    try:
        return as_filters(config.raw("filters"))
    except RpcError as error:
        if error.message.startswith("Invalid params: "):
            raise
        raise invalid_params(f"Invalid params: {error.message}") from None


def _address(text: str, what: str) -> Pubkey:
    try:
        return as_pubkey(text)
    except RpcError:
        raise invalid_params(f"Invalid Request: Invalid {what} provided") from None


def _signature(text: str) -> Signature:
    try:
        return as_signature(text)
    except RpcError:
        raise invalid_params("Invalid Request: Invalid signature provided") from None
