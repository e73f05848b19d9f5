"""Windows aligned to the epoch, the tightest one shown, and what happens when the counter store fails."""

import pytest

from marketplace.errors import StoreUnavailable
from marketplace.services.clock import ManualClock
from marketplace.services.rate_limits import RateLimitReached, RateLimits, RateState, Window

MINUTE = Window(60, 3)
HOUR = Window(3600, 5)


@pytest.fixture
def clock():
    return ManualClock(1_770_976_830_000)


async def test_windows_end_at_multiples_of_their_length(store, clock):
    limits = RateLimits(store, clock)
    assert limits.hit("a", (MINUTE,)) == RateState(3, 2, 1_770_976_860)
    clock.advance(29_999)
    assert limits.hit("a", (MINUTE,)).remaining == 1
    clock.advance(1)
    assert limits.hit("a", (MINUTE,)) == RateState(3, 2, 1_770_976_920)


async def test_the_tightest_window_is_shown_and_the_longer_one_on_a_tie(store, clock):
    limits = RateLimits(store, clock)
    assert limits.look("a", (MINUTE, Window(3600, 3))).reset_s % 3600 == 0
    assert limits.hit("a", (MINUTE, HOUR)).limit == 3
    for _ in range(2):
        limits.hit("a", (MINUTE, HOUR))
    clock.advance(60_000)
    assert limits.hit("a", (MINUTE, HOUR)).limit == 5


async def test_a_refused_request_is_not_counted(store, clock):
    limits = RateLimits(store, clock)
    for _ in range(3):
        limits.hit("a", (MINUTE, HOUR))
    for _ in range(9):
        with pytest.raises(RateLimitReached) as refused:
            limits.hit("a", (MINUTE, HOUR))
        assert refused.value.retry_after_s == 30
    clock.advance(30_000)
    limits.hit("a", (MINUTE, HOUR))
    limits.hit("a", (MINUTE, HOUR))
    with pytest.raises(RateLimitReached) as refused:
        limits.hit("a", (MINUTE, HOUR))
    assert refused.value.state.limit == 5


async def test_subjects_do_not_share(store, clock):
    limits = RateLimits(store, clock)
    limits.hit("a", (MINUTE,))
    assert limits.hit("b", (MINUTE,)).remaining == 2


class FailingStore:
    """A store whose writes fail until it is mended."""

    def __init__(self, store):
        self.store = store
        self.broken = True

    async def write(self, work):
        if self.broken:
            raise StoreUnavailable
        return await self.store.write(work)

    async def read(self, work):
        return await self.store.read(work)


async def test_a_failing_counter_store_lets_requests_pass_and_is_counted(store, clock):
    failures = []
    failing = FailingStore(store)
    limits = RateLimits(failing, clock, on_failure=lambda: failures.append(1))
    limits.hit("a", (MINUTE,))
    await limits.flush()
    assert limits.hit("a", (MINUTE,)).remaining == 1
    assert failures == [1]
    failing.broken = False
    await limits.flush()
    again = RateLimits(store, clock)
    await again.start()
    assert again.look("a", (MINUTE,)).remaining == 1
    await again.stop()
