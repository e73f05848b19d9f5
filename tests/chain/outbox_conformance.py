"""What every OutboxStore must do. A store's own test module subclasses this and gives the fixture `outbox`."""

import asyncio

from solders.keypair import Keypair

from marketplace.chain.answers import TransactionFailure
from marketplace.chain.outbox import OutboxEntry, OutboxState, OutboxStore


def entry(operation: str, number: int) -> OutboxEntry:
    signature = Keypair.from_seed(bytes(32)).sign_message(f"{operation}:{number}".encode())
    return OutboxEntry(operation, signature, b"\x00raw\xff", last_valid_block_height=100 + number)


class OutboxConformance:
    async def test_an_entry_comes_back_as_it_was_recorded(self, outbox: OutboxStore) -> None:
        first = entry("pay:a", 1)
        assert await outbox.insert(first) == first
        assert await outbox.find(first.signature) == first
        assert await outbox.latest("pay:a") == first
        assert await outbox.find(entry("pay:a", 2).signature) is None
        assert await outbox.latest("pay:b") is None

    async def test_an_operation_that_can_still_land_takes_no_second_entry(self, outbox: OutboxStore) -> None:
        first = await outbox.insert(entry("pay:a", 1))
        for state in (OutboxState.BUILT, OutboxState.SENT, OutboxState.CONFIRMED, OutboxState.FINALIZED):
            await outbox.update(first.moved(state, slot=7))
            present = await outbox.insert(entry("pay:a", 2))
            assert present.signature == first.signature
            assert present.state is state
        assert await outbox.find(entry("pay:a", 2).signature) is None

    async def test_only_what_is_still_built_becomes_sent(self, outbox: OutboxStore) -> None:
        first = await outbox.insert(entry("pay:a", 1))
        assert await outbox.mark_sent(first.signature)
        assert await outbox.find(first.signature) == first.moved(OutboxState.SENT)
        landed = first.moved(OutboxState.CONFIRMED, slot=7)
        await outbox.update(landed)
        assert not await outbox.mark_sent(first.signature)
        assert await outbox.find(first.signature) == landed
        assert not await outbox.mark_sent(entry("pay:a", 2).signature)

    async def test_an_operation_goes_on_after_its_entry_expired_or_failed(self, outbox: OutboxStore) -> None:
        first = await outbox.insert(entry("pay:a", 1))
        await outbox.update(first.moved(OutboxState.EXPIRED))
        second = await outbox.insert(entry("pay:a", 2))
        assert second == entry("pay:a", 2)
        failure = TransactionFailure("InstructionError", 1, 6005)
        await outbox.update(second.moved(OutboxState.FAILED, slot=9, failure=failure))
        assert await outbox.insert(entry("pay:a", 3)) == entry("pay:a", 3)
        kept = await outbox.find(second.signature)
        assert kept is not None
        assert (kept.slot, kept.failure) == (9, failure)
        latest = await outbox.latest("pay:a")
        assert latest is not None
        assert latest.signature == entry("pay:a", 3).signature

    async def test_two_inserts_at_once_leave_one_entry(self, outbox: OutboxStore) -> None:
        results = await asyncio.gather(*(outbox.insert(entry("pay:a", n)) for n in range(8)))
        assert len({result.signature for result in results}) == 1

    async def test_unfinished_entries_are_listed_oldest_first(self, outbox: OutboxStore) -> None:
        entries = [await outbox.insert(entry(f"pay:{n}", n)) for n in range(6)]
        for known, state in zip(entries, OutboxState, strict=True):
            await outbox.update(known.moved(state))
        assert [e.operation for e in await outbox.list_unfinished()] == ["pay:0", "pay:1", "pay:2"]
