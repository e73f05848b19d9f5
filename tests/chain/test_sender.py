import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from marketplace.chain.answers import Commitment, SignatureStatus, TransactionFailure
from marketplace.chain.errors import RpcError, RpcUnavailable, TransactionExpired, TransactionFailed
from marketplace.chain.outbox import MemoryOutbox, OutboxEntry, OutboxState, OutboxStore
from marketplace.chain.sender import EXPIRY_MARGIN_BLOCKS, Sender
from tests.chain.outbox_conformance import OutboxConformance

LAST_HEIGHT = 150


class TestMemoryOutbox(OutboxConformance):
    @pytest.fixture
    def outbox(self) -> OutboxStore:
        return MemoryOutbox()


@dataclass
class Cluster:
    """A cluster that a test moves: what lands, when, and whether it answers."""

    height: int = 10
    statuses: dict[Signature, SignatureStatus] = field(default_factory=dict)
    history: dict[Signature, SignatureStatus] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)
    questions: list[tuple[int, bool]] = field(default_factory=list)
    down: bool = False
    refusal: RpcError | None = None

    async def send_transaction(self, transaction: bytes, *, skip_preflight: bool = True) -> Signature:
        assert skip_preflight
        self._answer()
        self.sent.append(transaction)
        if self.refusal is not None:
            raise self.refusal
        return VersionedTransaction.from_bytes(transaction).signatures[0]

    async def get_signature_statuses(
        self, signatures: Sequence[Signature], *, search_history: bool = False
    ) -> list[SignatureStatus | None]:
        self._answer()
        self.questions.append((len(signatures), search_history))
        known = self.statuses | self.history if search_history else self.statuses
        return [known.get(signature) for signature in signatures]

    async def get_block_height(self, commitment: Commitment = Commitment.CONFIRMED) -> int:
        self._answer()
        return self.height

    def _answer(self) -> None:
        if self.down:
            raise RpcUnavailable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def signed(number: int = 1) -> bytes:
    payer = Keypair.from_seed(bytes([number]) * 32)
    step = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=payer.pubkey(), lamports=number))
    return bytes(VersionedTransaction(MessageV0.try_compile(payer.pubkey(), [step], [], Hash.default()), [payer]))


def status(commitment: Commitment, failure: TransactionFailure | None = None) -> SignatureStatus:
    return SignatureStatus(slot=33, failure=failure, commitment=commitment)


class Bench:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.outbox = MemoryOutbox()
        self.clock = Clock()
        self.changes: list[OutboxState] = []
        self.sender = self.restart()

    def restart(self) -> Sender:
        async def note(entry: OutboxEntry) -> None:
            self.changes.append(entry.state)

        self.sender = Sender(
            self.cluster,
            self.outbox,
            on_change=note,
            error_name={6001: "WrongArguments"}.get,
            tick_s=0.001,
            monotonic=self.clock,
        )
        return self.sender

    async def state(self, entry: OutboxEntry) -> OutboxState:
        found = await self.outbox.find(entry.signature)
        assert found is not None
        return found.state


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_payment_goes_from_built_to_finalized(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    assert entry.state is OutboxState.SENT
    bench.cluster.statuses[entry.signature] = status(Commitment.PROCESSED)
    await bench.sender.tick()
    assert await bench.state(entry) is OutboxState.SENT, "processed is nothing"
    bench.cluster.statuses[entry.signature] = status(Commitment.CONFIRMED)
    assert await bench.sender.tick() == 1
    bench.cluster.statuses[entry.signature] = status(Commitment.FINALIZED)
    assert await bench.sender.tick() == 0
    assert bench.changes == [OutboxState.SENT, OutboxState.CONFIRMED, OutboxState.FINALIZED]


async def test_it_is_recorded_before_it_is_sent(bench: Bench) -> None:
    bench.cluster.down = True
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    assert await bench.state(entry) is OutboxState.BUILT
    bench.cluster.down = False
    bench.restart()
    await bench.sender.tick()
    assert bench.cluster.sent == [entry.raw]
    assert await bench.state(entry) is OutboxState.SENT


async def test_what_landed_before_its_sender_was_answered_stays_landed(bench: Bench) -> None:
    class Slow(Cluster):
        """Takes a transaction at once, and says so after the tick beside it has seen it land."""

        async def send_transaction(self, transaction: bytes, *, skip_preflight: bool = True) -> Signature:
            taken = await super().send_transaction(transaction)
            self.statuses[taken] = status(Commitment.CONFIRMED)
            await bench.sender.tick()
            return taken

    bench.cluster = Slow()
    bench.restart()
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    assert (entry.state, entry.slot) == (OutboxState.CONFIRMED, 33)
    assert await bench.state(entry) is OutboxState.CONFIRMED
    assert bench.changes == [OutboxState.CONFIRMED]


async def test_the_same_bytes_are_sent_again_until_confirmed(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    await bench.sender.tick()
    assert len(bench.cluster.sent) == 1, "not before its time"
    bench.clock.now += 1
    await bench.sender.tick()
    assert bench.cluster.sent == [entry.raw, entry.raw]
    bench.cluster.statuses[entry.signature] = status(Commitment.CONFIRMED)
    bench.clock.now += 1
    await bench.sender.tick()
    bench.clock.now += 1
    await bench.sender.tick()
    assert len(bench.cluster.sent) == 2


async def test_a_confirmed_transaction_with_an_error_is_a_failure(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    failure = TransactionFailure("InstructionError", 0, 6001)
    bench.cluster.statuses[entry.signature] = status(Commitment.CONFIRMED, failure)
    assert await bench.sender.tick() == 0
    with pytest.raises(TransactionFailed, match="WrongArguments") as caught:
        await bench.sender.wait(entry.signature, timeout_s=5)
    assert caught.value.failure == failure


async def test_an_operation_is_not_signed_again_while_the_first_can_land(bench: Bench) -> None:
    first = await bench.sender.submit("pay", signed(1), LAST_HEIGHT)
    again = await bench.sender.submit("pay", signed(2), LAST_HEIGHT)
    assert again.signature == first.signature
    assert bench.cluster.sent == [first.raw]


async def test_a_transaction_expires_only_after_a_look_into_the_history(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    bench.clock.now += 5
    bench.cluster.height = LAST_HEIGHT + EXPIRY_MARGIN_BLOCKS
    assert await bench.sender.tick() == 1
    assert len(bench.cluster.sent) == 1, "nothing is sent past its last height"
    bench.cluster.height += 1
    assert await bench.sender.tick() == 0
    assert bench.cluster.questions[-1] == (1, True)
    with pytest.raises(TransactionExpired):
        await bench.sender.wait(entry.signature, timeout_s=5)
    second = await bench.sender.submit("pay", signed(2), LAST_HEIGHT + 300)
    assert second.state is OutboxState.SENT


async def test_a_transaction_found_in_the_history_is_not_expired(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    bench.cluster.height = LAST_HEIGHT + 1_000
    bench.cluster.history[entry.signature] = status(Commitment.FINALIZED)
    assert await bench.sender.tick() == 0
    assert await bench.state(entry) is OutboxState.FINALIZED


async def test_a_confirmed_transaction_whose_fork_was_dropped_goes_out_again(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    bench.cluster.statuses[entry.signature] = status(Commitment.CONFIRMED)
    await bench.sender.tick()
    del bench.cluster.statuses[entry.signature]
    await bench.sender.tick()
    assert bench.cluster.sent == [entry.raw, entry.raw]
    bench.cluster.height = LAST_HEIGHT + 100
    await bench.sender.tick()
    assert await bench.state(entry) is OutboxState.EXPIRED


async def test_a_refused_send_is_no_verdict(bench: Bench) -> None:
    bench.cluster.refusal = RpcError("sendTransaction", -32002, "already processed")
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    bench.cluster.statuses[entry.signature] = status(Commitment.CONFIRMED)
    await bench.sender.tick()
    assert await bench.state(entry) is OutboxState.CONFIRMED


async def test_one_question_is_asked_for_all_open_payments(bench: Bench) -> None:
    for number in range(1, 20):
        await bench.sender.submit(f"pay:{number}", signed(number), LAST_HEIGHT)
    await bench.sender.tick()
    assert bench.cluster.questions == [(19, False)]


async def test_half_signed_bytes_are_not_recorded(bench: Bench) -> None:
    payer, other = Keypair.from_seed(bytes([1]) * 32), Keypair.from_seed(bytes([2]) * 32)
    step = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=payer.pubkey(), lamports=1))
    message = MessageV0.try_compile(payer.pubkey(), [step], [], Hash.default())
    forged = VersionedTransaction.populate(message, [other.sign_message(b"else")])
    with pytest.raises(ValueError, match="signed"):
        await bench.sender.submit("pay", bytes(forged), LAST_HEIGHT)
    assert await bench.outbox.latest("pay") is None


async def test_the_loop_survives_an_outage_and_ends_what_a_crash_left_open(bench: Bench) -> None:
    bench.cluster.down = True
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    sender = bench.restart()
    loop = asyncio.create_task(sender.run())
    waiting = asyncio.create_task(sender.wait(entry.signature, timeout_s=30, until=OutboxState.FINALIZED))
    await asyncio.sleep(0.01)
    bench.cluster.down = False
    bench.cluster.statuses[entry.signature] = status(Commitment.FINALIZED)
    assert (await waiting).state is OutboxState.FINALIZED
    loop.cancel()


async def test_a_wait_that_runs_out_says_how_things_stand(bench: Bench) -> None:
    entry = await bench.sender.submit("pay", signed(), LAST_HEIGHT)
    assert (await bench.sender.wait(entry.signature, timeout_s=0.01)).state is OutboxState.SENT
    with pytest.raises(KeyError):
        await bench.sender.wait(Signature.default(), timeout_s=0.01)


async def test_a_listener_that_fails_does_not_stop_the_others_payments(bench: Bench) -> None:
    told: list[str] = []

    async def stumble(entry: OutboxEntry) -> None:
        told.append(entry.operation)
        if entry.operation == "bad" and entry.state is OutboxState.FINALIZED:
            raise LookupError("the books are closed")

    sender = Sender(bench.cluster, bench.outbox, on_change=stumble, tick_s=0.001, monotonic=bench.clock)
    for number, operation in enumerate(("bad", "good"), start=1):
        entry = await sender.submit(operation, signed(number), LAST_HEIGHT)
        bench.cluster.statuses[entry.signature] = status(Commitment.FINALIZED)
    loop = asyncio.create_task(sender.run())
    ended = await sender.wait(entry.signature, timeout_s=10, until=OutboxState.FINALIZED)
    assert ended.operation == "good"
    loop.cancel()
