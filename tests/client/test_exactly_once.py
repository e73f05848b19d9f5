"""A submission that is interrupted and given again is completed, never paid twice."""

import multiprocessing
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marketplace.client.client import ReaverClient
from marketplace.client.errors import ApiError, NotConfirmed, TransactionFailed, TransactionRefused, Unreachable
from marketplace.client.intents import KEPT_S, IntentStore
from marketplace.client.requests import JobRequest
from tests.client.fake_market import FakeMarket, error

JOB = JobRequest(image="alpine", gpu="cpu-small", max_minutes=10, command=("sleep", "1"))


def intent_files(folder: Path) -> list[Path]:
    return list(folder.glob("intent-*"))


async def submit(client: ReaverClient, request: JobRequest = JOB) -> tuple[str, bool]:
    submission = await client.submit_job(request, await client.quote(request))
    return submission.job.id, submission.resumed


async def test_a_submit_whose_answer_was_lost_is_found_again(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = ["drop after"] * 5
    with pytest.raises(Unreachable):
        await submit(client)
    job, resumed = await submit(new_client())
    assert resumed
    assert list(market.jobs) == [job]
    bodies = [call.body for call in market.spent("/v1/jobs")]
    assert all(body == bodies[0] for body in bodies), "the key binds to one body, quote included"


async def test_an_answered_submit_given_again_is_a_new_job(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient], state_folder: Path
) -> None:
    market.allowance = True
    first, _ = await submit(client)
    second, resumed = await submit(new_client())
    assert first != second
    assert not resumed
    assert not intent_files(state_folder)


async def test_an_interruption_after_signing_goes_on_with_the_same_escrow(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.before["POST /v1/transactions"] = ["drop after"] * 5
    with pytest.raises(Unreachable):
        await submit(client)
    assert len(market.signed) == 5
    assert len(set(market.signed)) == 1, "the same bytes each time"
    job, resumed = await submit(new_client())
    assert resumed
    assert list(market.jobs) == [job]
    assert len(set(market.signed)) == 1


async def test_missing_money_keeps_the_key(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = [error(402, "insufficient_escrow", "too little")]
    with pytest.raises(ApiError) as refused:
        await submit(client)
    assert refused.value.code == "insufficient_escrow"
    _, resumed = await submit(new_client())
    assert resumed
    assert len({call.key for call in market.spent("/v1/jobs")}) == 1


async def test_a_refused_submit_frees_its_key(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = [error(422, "validation_error", "no")]
    with pytest.raises(ApiError):
        await submit(client)
    _, resumed = await submit(new_client())
    assert not resumed


async def test_a_quote_that_expired_before_anything_was_bound_is_replaced(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = ["drop"] * 5
    with pytest.raises(Unreachable):
        await submit(client)
    market.quotes.clear()
    job, resumed = await submit(new_client())
    assert resumed
    assert list(market.jobs) == [job]


async def test_the_key_is_on_disk_before_the_call(market: FakeMarket, client: ReaverClient, state_folder: Path) -> None:
    market.allowance = True
    market.before["POST /v1/jobs"] = ["drop"] * 5
    with pytest.raises(Unreachable):
        await submit(client)
    (file,) = intent_files(state_folder)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert market.spent("/v1/jobs")[0].key in file.read_text()


def _open(folder: Path, body: object, now_s: int = 1000) -> str:
    with IntentStore(folder).open(api_url="u", wallet="w", route="POST /v1/jobs", body=body, now_s=now_s) as intent:
        return intent.key


def test_another_body_has_another_key(tmp_path: Path) -> None:
    assert _open(tmp_path, {"a": 1}) == _open(tmp_path, {"a": 1})
    assert _open(tmp_path, {"a": 1}) != _open(tmp_path, {"a": 2})


def test_an_intent_older_than_the_markets_memory_is_new(tmp_path: Path) -> None:
    first = _open(tmp_path, {}, now_s=1000)
    assert _open(tmp_path, {}, now_s=1000 + KEPT_S) == first
    assert _open(tmp_path, {}, now_s=1001 + KEPT_S) != first


def _hold(folder: Path, started: "multiprocessing.synchronize.Event", end: "multiprocessing.synchronize.Event") -> None:
    with IntentStore(folder).open(api_url="u", wallet="w", route="r", body={}, now_s=1000):
        started.set()
        end.wait(100)


def test_two_processes_at_once_are_two_intents(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, started, end))
    process.start()
    try:
        assert started.wait(100)
        store = IntentStore(tmp_path)
        with store.open(api_url="u", wallet="w", route="r", body={}, now_s=1000) as mine:
            assert not mine.resumed
    finally:
        end.set()
        process.join(100)
    with store.open(api_url="u", wallet="w", route="r", body={}, now_s=1001) as left_over:
        assert left_over.resumed
        assert left_over.key != mine.key


def test_a_damaged_intent_is_a_new_one(tmp_path: Path) -> None:
    first = _open(tmp_path, {})
    (file,) = tmp_path.glob("intent-*")
    file.write_text("{")
    assert _open(tmp_path, {}) != first


async def test_a_landed_escrow_that_the_market_has_not_seen_is_signed_once(
    market: FakeMarket, client: ReaverClient
) -> None:
    market.states = ["sent", "sent"]
    market.unseen = 3
    job, _ = await submit(client)
    assert list(market.jobs) == [job]
    assert len(market.signed) == 1


async def test_an_expired_transaction_is_replaced_for_the_same_escrow(market: FakeMarket, client: ReaverClient) -> None:
    market.states = ["sent", "expired"]
    submission = await client.submit_job(JOB, await client.quote(JOB))
    assert len(set(market.signed)) == 2, "new bytes, signed once each"
    assert len(submission.signed) == 1
    assert len({call.key for call in market.spent("/v1/jobs")}) == 1


class _RisingNonces(dict[str, int]):
    """A market that gives a key another nonce each time it is asked."""

    def setdefault(self, key: str, default: int = 0) -> int:
        self[key] = self.get(key, 0) + 1
        return self[key]


async def test_an_escrow_of_another_nonce_is_not_signed_beside_the_first(
    market: FakeMarket, client: ReaverClient
) -> None:
    market.states = ["sent", "expired"]
    market._nonces = _RisingNonces()
    with pytest.raises(TransactionRefused, match="was signed for this submission already"):
        await submit(client)
    assert len(set(market.signed)) == 1


async def test_nor_by_the_next_run_of_the_same_command(
    market: FakeMarket, client: ReaverClient, new_client: Callable[[], ReaverClient]
) -> None:
    market._nonces = _RisingNonces()
    market.before["POST /v1/transactions"] = ["drop"] * 5
    with pytest.raises(Unreachable):
        await submit(client)
    market.pending.clear()
    with pytest.raises(TransactionRefused, match="was signed for this submission already"):
        await submit(new_client())
    assert not market.signed


async def test_an_expired_transaction_refused_by_the_relay_is_replaced(
    market: FakeMarket, client: ReaverClient
) -> None:
    market.before["POST /v1/transactions"] = [error(409, "transaction_expired", "too late")]
    with pytest.raises(NotConfirmed):
        # This market goes on offering the same bytes; the client neither signs nor sends them again.
        await submit(client)
    assert market.signed == []
    assert len(market.spent("/v1/transactions")) == 1


async def test_an_escrow_that_failed_on_chain_is_an_error(market: FakeMarket, client: ReaverClient) -> None:
    market.states = ["failed"]
    with pytest.raises(TransactionFailed):
        await submit(client)


def test_old_intents_do_not_pile_up(tmp_path: Path) -> None:
    now_s = int(time.time())
    _open(tmp_path, {"a": 1}, now_s=now_s)
    _open(tmp_path, {"b": 1}, now_s=now_s + KEPT_S - 60)
    assert len(intent_files(tmp_path)) == 2
    with IntentStore(tmp_path).open(api_url="u", wallet="w", route="r", body={}, now_s=now_s) as held:
        _open(tmp_path, {"c": 1}, now_s=now_s + 2 * KEPT_S)
        assert len(intent_files(tmp_path)) == 2, "the new one, and the one that is in use"
        held.answered()
