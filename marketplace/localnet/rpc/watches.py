"""What can be subscribed to: each watch says what it has to tell when a transaction lands and when the slot moves."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from solders.account import Account
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from marketplace.localnet.bank import Advance
from marketplace.localnet.chain import Chain
from marketplace.localnet.journal import TransactionRow
from marketplace.localnet.parsed.transactions import LoadedKeys
from marketplace.localnet.records import Landed
from marketplace.localnet.rpc.accounts import Filters, account_json
from marketplace.localnet.rpc.params import DataSlice, Encoding
from marketplace.localnet.slots import BLOCKHASH_SLOTS, Commitment
from marketplace.localnet.tokens import parse_holding, parse_mint


class Watch(ABC):
    """One subscription. `kind` is its name: of the methods `…Subscribe`, `…Unsubscribe` and of `…Notification`."""

    kind: str
    is_over = False

    def __init__(self, chain: Chain, commitment: Commitment) -> None:
        self._chain = chain
        self._commitment = commitment

    def on_start(self) -> Iterable[Any]:
        """What had already happened when it was subscribed to."""
        return ()

    def on_landed(self, landed: Landed) -> Iterable[Any]:
        """The results to tell when a transaction lands; asked of watches of `processed` alone."""
        del landed
        return ()

    @abstractmethod
    def on_advance(self, advance: Advance) -> Iterable[Any]:
        """The results to tell when the slot has moved."""

    @property
    def commitment(self) -> Commitment:
        return self._commitment

    def _in_context(self, value: Any) -> dict[str, Any]:
        return {"context": {"slot": self._chain.bank.slot_at(self._commitment)}, "value": value}

    def _account_json(
        self,
        address: Pubkey,
        account: Account,
        encoding: Encoding,
        data_slice: DataSlice | None,
    ) -> dict[str, Any]:
        holding = parse_holding(account)
        mint = None
        if holding is not None:
            mint = parse_mint(self._chain.bank.account(holding.mint, self._commitment))
        return account_json(address, account, encoding, data_slice, mint)


class SignatureWatch(Watch):
    """Told once, when the transaction reaches the commitment; before that, if wanted, when it is received."""

    kind = "signature"

    def __init__(self, chain: Chain, commitment: Commitment, signature: Signature, *, received: bool) -> None:
        super().__init__(chain, commitment)
        self._signature = signature
        self.tells_received = received

    def on_start(self) -> Iterable[Any]:
        return self._outcome()

    def on_landed(self, landed: Landed) -> Iterable[Any]:
        if landed.signature != self._signature:
            return
        if self.tells_received:
            self.tells_received = False
            yield {"context": {"slot": landed.slot}, "value": "receivedSignature"}
        if self._commitment is Commitment.PROCESSED:
            yield from self._outcome()

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        del advance
        return self._outcome()

    def _outcome(self) -> Iterator[Any]:
        if self.is_over:
            return
        row = self._chain.journal.find_summary(self._signature)
        if row is None or row.slot > self._chain.bank.slot_at(self._commitment):
            return
        self.is_over = True
        yield self._in_context({"err": orjson.loads(row.error) if row.error is not None else None})


class AccountWatch(Watch):
    """Told at each change; an account that is gone is shown empty."""

    kind = "account"

    def __init__(
        self,
        chain: Chain,
        commitment: Commitment,
        address: Pubkey,
        encoding: Encoding,
        data_slice: DataSlice | None,
    ) -> None:
        super().__init__(chain, commitment)
        self._address = address
        self._encoding = encoding
        self._data_slice = data_slice

    def on_landed(self, landed: Landed) -> Iterable[Any]:
        return self._state() if self._address in landed.changed() else ()

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        if self._commitment is Commitment.PROCESSED or self._address not in advance.changed[self._commitment]:
            return ()
        return self._state()

    def _state(self) -> list[Any]:
        account = self._chain.bank.account(self._address, self._commitment)
        shown = account if account is not None else Account(0, b"", Pubkey.default(), False, 0)
        return [self._in_context(self._account_json(self._address, shown, self._encoding, self._data_slice))]


class ProgramWatch(Watch):
    """Told of each account of the program that changes and passes the filters; whole, as Agave shows it here."""

    kind = "program"

    def __init__(
        self,
        chain: Chain,
        commitment: Commitment,
        program: Pubkey,
        filters: Filters,
        encoding: Encoding,
    ) -> None:
        super().__init__(chain, commitment)
        self._program = program
        self._filters = filters
        self._encoding = encoding

    def on_landed(self, landed: Landed) -> Iterable[Any]:
        return self._states(landed.changed())

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        if self._commitment is Commitment.PROCESSED:
            return ()
        return self._states(sorted(advance.changed[self._commitment], key=bytes))

    def _states(self, addresses: Iterable[Pubkey]) -> Iterator[Any]:
        for address in addresses:
            account = self._chain.bank.account(address, self._commitment)
            if account is not None and account.owner == self._program and self._filters.match(account):
                shown = self._account_json(address, account, self._encoding, None)
                yield self._in_context({"pubkey": str(address), "account": shown})


class LogsWatch(Watch):
    """Told of each transaction with its logs; mentions None: of all of them."""

    kind = "logs"

    def __init__(self, chain: Chain, commitment: Commitment, mentions: Pubkey | None) -> None:
        super().__init__(chain, commitment)
        self._mentions = mentions

    def on_landed(self, landed: Landed) -> Iterable[Any]:
        run = landed.execution
        if self._mentions is None or self._mentions in run.keys.all:
            logs = run.metadata.logs() if run.metadata is not None else []
            yield self._told(landed.slot, landed.signature, run.error, logs)

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        slots = advance.reached[self._commitment]
        if self._commitment is Commitment.PROCESSED or not slots:
            return
        for row in self._chain.journal.list_slots(slots[0], slots[-1]):
            if self._mentions is None or self._is_named(row, self._mentions):
                meta = orjson.loads(row.meta)
                yield self._told(row.slot, row.signature, meta["err"], meta["logMessages"] or [])

    @staticmethod
    def _is_named(row: TransactionRow, address: Pubkey) -> bool:
        message = VersionedTransaction.from_bytes(row.wire).message
        return address in LoadedKeys(message, orjson.loads(row.meta)["loadedAddresses"]).all

    @staticmethod
    def _told(slot: int, signature: Signature, error: Any, logs: list[str]) -> dict[str, Any]:
        return {"context": {"slot": slot}, "value": {"signature": str(signature), "err": error, "logs": logs}}


class SlotWatch(Watch):
    """Told of each slot that begins, but of the newest alone where very many passed at once."""

    kind = "slot"

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain, Commitment.PROCESSED)

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        behind = self._chain.bank.now.slot - self._chain.bank.slot_at(Commitment.FINALIZED)
        for slot in advance.reached[Commitment.PROCESSED][-BLOCKHASH_SLOTS:]:
            yield {"slot": slot, "parent": slot - 1, "root": max(0, slot - behind)}


class RootWatch(Watch):
    """Told of each slot that is final, likewise."""

    kind = "root"

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain, Commitment.FINALIZED)

    def on_advance(self, advance: Advance) -> Iterable[Any]:
        return advance.reached[Commitment.FINALIZED][-BLOCKHASH_SLOTS:]
