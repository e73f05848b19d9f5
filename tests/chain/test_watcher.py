import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.answers import Commitment, LandedTransaction, SignatureInfo, TransactionFailure
from marketplace.chain.errors import RpcUnavailable
from marketplace.chain.program import AnchorCodec
from marketplace.chain.rpc import MAX_HISTORY
from marketplace.chain.watcher import WatchBatch, WatchCursor, Watcher
from tests.chain import golden_program

PROGRAM = Pubkey.from_string("5qwExNyh26kwngLGHpXEPD4PgoiZWia8neGpQRPJUSyN")
CODEC = AnchorCodec(PROGRAM)
GOLDEN = json.loads(golden_program.FILE.read_text())["events"]
A, B = Pubkey.from_bytes(bytes([1]) * 32), Pubkey.from_bytes(bytes([2]) * 32)
SIGNER = Keypair.from_seed(bytes(32))


@cache
def sign(name: object) -> Signature:
    return SIGNER.sign_message(str(name).encode())


@dataclass(frozen=True)
class Entry:
    name: str
    slot: int
    addresses: tuple[Pubkey, ...] = (A,)
    events: tuple[str, ...] = ("Deposited",)
    failed: bool = False

    @property
    def signature(self) -> Signature:
        return sign(self.name)


@dataclass
class Chain:
    """A history in landing order, which a test appends to, forks and finalizes."""

    entries: list[Entry] = field(default_factory=list)
    final_slot: int = 0
    hidden: set[str] = field(default_factory=set)
    listings: int = 0
    asked_from: int | None = None

    async def get_slot(self, commitment: Commitment = Commitment.CONFIRMED) -> int:
        assert commitment is Commitment.FINALIZED
        return self.final_slot

    async def list_signatures(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        until: Signature | None = None,
        limit: int = MAX_HISTORY,
        commitment: Commitment = Commitment.CONFIRMED,
        min_slot: int | None = None,
    ) -> list[SignatureInfo]:
        self.listings += 1
        self.asked_from = min_slot
        lines = [entry for entry in reversed(self.entries) if address in entry.addresses]
        signatures = [entry.signature for entry in lines]
        start = signatures.index(before) + 1 if before is not None else 0
        stop = signatures.index(until) if until in signatures else len(lines)
        failure = TransactionFailure("AccountInUse")
        return [
            SignatureInfo(entry.signature, entry.slot, failure if entry.failed else None, None)
            for entry in lines[start:stop][:limit]
        ]

    async def find_transaction(
        self, signature: Signature, commitment: Commitment = Commitment.CONFIRMED
    ) -> LandedTransaction | None:
        entry = next((e for e in self.entries if e.signature == signature), None)
        if entry is None or entry.name in self.hidden:
            return None
        assert not entry.failed, "a failed transaction has no events to read"
        logs = [f"Program {PROGRAM} invoke [1]"]
        logs += ["Program data: " + base64.b64encode(bytes.fromhex(GOLDEN[name])).decode() for name in entry.events]
        logs.append(f"Program {PROGRAM} success")
        return LandedTransaction(
            signature, entry.slot, None, None, 5_000, 1, None, (), (), (), (), (), tuple(logs)
        )  # fmt: skip


class Book:
    """What a reader records, batch by batch."""

    def __init__(self) -> None:
        self.observed: list[Signature] = []
        self.events: list[tuple[Signature, int]] = []
        self.finalized: list[Signature] = []
        self.dropped: list[Signature] = []

    def take(self, batch: WatchBatch) -> WatchCursor:
        self.observed += [transaction.signature for transaction in batch.observed]
        self.events += [(e.signature, e.index) for transaction in batch.observed for e in transaction.events]
        self.finalized += batch.finalized
        self.dropped += batch.dropped
        return batch.cursor


def signatures(names: Iterable[object]) -> list[Signature]:
    return [sign(name) for name in names]


async def test_events_come_once_in_order_and_again_as_final() -> None:
    chain, book = Chain(), Book()
    watcher = Watcher(chain, CODEC)
    chain.entries = [Entry("1", 10, events=("EscrowOpened", "Assigned")), Entry("2", 10), Entry("3", 12)]
    cursor = book.take(await watcher.poll(WatchCursor.start([A])))
    assert book.observed == signatures("123")
    assert book.events[:2] == [(sign(1), 0), (sign(1), 1)]
    assert book.finalized == []
    chain.final_slot = 11
    cursor = book.take(await watcher.poll(cursor))
    assert book.finalized == signatures("12")
    assert cursor.addresses[0].final == sign(2)
    chain.entries.append(Entry("4", 13))
    chain.final_slot = 20
    cursor = book.take(await watcher.poll(cursor))
    assert book.observed == signatures("1234")
    assert book.finalized == signatures("1234")
    assert (await watcher.poll(cursor)).empty


async def test_a_poll_that_was_not_recorded_is_repeated_as_a_whole() -> None:
    chain = Chain([Entry("1", 10), Entry("2", 11)], final_slot=10)
    watcher = Watcher(chain, CODEC)
    start = WatchCursor.start([A])
    assert await watcher.poll(start) == await watcher.poll(start)


async def test_a_dropped_fork_is_reported_and_its_transaction_may_land_again() -> None:
    chain, book = Chain([Entry("1", 10), Entry("2", 11)]), Book()
    watcher = Watcher(chain, CODEC)
    cursor = book.take(await watcher.poll(WatchCursor.start([A])))
    chain.entries = [Entry("1", 10)]
    cursor = book.take(await watcher.poll(cursor))
    assert book.dropped == [], "absent is not yet gone"
    chain.final_slot = 12
    cursor = book.take(await watcher.poll(cursor))
    assert book.dropped == signatures("2")
    chain.entries.append(Entry("2", 14))
    cursor = book.take(await watcher.poll(cursor))
    assert book.observed == signatures("122")


async def test_an_endpoint_that_lags_behind_the_final_slot_is_not_asked() -> None:
    """Its history lacks what is final elsewhere, which would look like a dropped fork."""
    chain = Chain([Entry("1", 10)], final_slot=12)
    await Watcher(chain, CODEC).poll(WatchCursor.start([A]))
    assert chain.asked_from == 12


async def test_a_transaction_that_moved_to_another_slot_is_not_dropped() -> None:
    chain, book = Chain([Entry("1", 10)]), Book()
    watcher = Watcher(chain, CODEC)
    cursor = book.take(await watcher.poll(WatchCursor.start([A])))
    chain.entries, chain.final_slot = [Entry("1", 13)], 12
    cursor = book.take(await watcher.poll(cursor))
    assert (book.dropped, book.finalized) == ([], [])
    chain.final_slot = 13
    book.take(await watcher.poll(cursor))
    assert book.finalized == signatures("1")


async def test_reading_stops_at_a_transaction_that_the_node_does_not_have_yet() -> None:
    chain, book = Chain([Entry("1", 10), Entry("2", 11), Entry("3", 12)], hidden={"2"}), Book()
    watcher = Watcher(chain, CODEC)
    batch = await watcher.poll(WatchCursor.start([A]))
    assert not batch.caught_up
    cursor = book.take(batch)
    assert book.observed == signatures("1")
    chain.hidden.clear()
    book.take(await watcher.poll(cursor))
    assert book.observed == signatures("123")


async def test_failed_transactions_have_no_events_and_do_not_stop_the_reading() -> None:
    chain, book = Chain([Entry("1", 10, failed=True), Entry("2", 11)], final_slot=20), Book()
    cursor = book.take(await Watcher(chain, CODEC).poll(WatchCursor.start([A])))
    assert book.observed == signatures("2")
    assert cursor.addresses[0].final == sign(2)


async def test_a_long_history_is_read_page_by_page_and_batch_by_batch() -> None:
    chain, book = Chain([Entry(str(n), n) for n in range(1_200)], final_slot=5_000), Book()
    watcher, cursor = Watcher(chain, CODEC, batch=500), WatchCursor.start([A])
    for _ in range(3):
        cursor = book.take(await watcher.poll(cursor))
    assert book.observed == signatures(range(1_200))
    assert book.finalized == book.observed
    assert chain.listings == 2 + 1 + 1, "two pages once, then only what is new"


async def test_lines_that_an_endpoint_repeats_are_read_once() -> None:
    class Stuttering(Chain):
        async def list_signatures(self, address: Pubkey, **options: object) -> list[SignatureInfo]:
            page = await super().list_signatures(address, limit=MAX_HISTORY)
            return [*page, *page[1:]]

    chain, book = Stuttering([Entry("1", 10), Entry("2", 11), Entry("3", 12)], final_slot=11), Book()
    watcher = Watcher(chain, CODEC, batch=1)
    cursor = WatchCursor.start([A])
    for _ in range(3):
        cursor = book.take(await watcher.poll(cursor))
    assert book.observed == signatures("123")


async def test_a_transaction_of_two_addresses_is_observed_once() -> None:
    chain, book = Chain(), Book()
    chain.entries = [Entry("1", 5, (B,)), Entry("2", 5, (A, B)), Entry("3", 5, (A,)), Entry("4", 6, (B,))]
    cursor = book.take(await Watcher(chain, CODEC).poll(WatchCursor.start([A, B])))
    assert book.observed == signatures("1234")
    chain.final_slot = 9
    book.take(await Watcher(chain, CODEC).poll(cursor))
    assert book.finalized == signatures("1234")


async def test_following_waits_out_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flaky(Chain):
        failures = 2

        async def get_slot(self, commitment: Commitment = Commitment.CONFIRMED) -> int:
            if self.failures:
                self.failures -= 1
                raise RpcUnavailable
            return await super().get_slot(commitment)

    watcher = Watcher(Flaky([Entry("1", 10)]), CODEC, poll_s=0.001)
    async for batch in watcher.follow(WatchCursor.start([A])):
        assert [transaction.signature for transaction in batch.observed] == signatures("1")
        break


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("land"), st.sampled_from([(A,), (B,), (A, B)]), st.booleans()),
        st.tuples(st.just("finalize"), st.integers(0, 3)),
        st.tuples(st.just("poll"), st.booleans()),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=60)
async def test_whatever_happens_each_transaction_is_recorded_once(steps: list[tuple[object, ...]]) -> None:
    """Land, finalize, poll and crash (a poll that isn't recorded) in any order."""
    chain, book, cursor, slot = Chain(), Book(), WatchCursor.start([A, B]), 1
    watcher = Watcher(chain, CODEC, batch=3)
    for step in steps:
        if step[0] == "land":
            slot += int(bool(step[2]))
            chain.entries.append(Entry(str(len(chain.entries)), slot, step[1]))  # type: ignore[arg-type]
        elif step[0] == "finalize":
            chain.final_slot = min(chain.final_slot + int(step[1]), slot - 1)  # type: ignore[call-overload]
        else:
            batch = await watcher.poll(cursor)
            if step[1]:
                cursor = book.take(batch)
    chain.final_slot = slot + 1
    for _ in range(len(chain.entries) + 2):
        cursor = book.take(await watcher.poll(cursor))
    everything = [entry.signature for entry in chain.entries]
    assert sorted(map(str, book.observed)) == sorted(map(str, everything)), "each once"
    assert sorted(map(str, book.finalized)) == sorted(map(str, everything))
    for address in (A, B):
        own = [entry.signature for entry in chain.entries if address in entry.addresses]
        assert [signature for signature in book.observed if signature in own] == own, "in the address's order"
