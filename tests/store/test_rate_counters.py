"""Two limiters over one database count together."""

import pytest

from marketplace.services.clock import ManualClock
from marketplace.services.rate_limits import RateLimitReached, RateLimits, Window

MINUTE = (Window(60, 10),)


async def test_two_limiters_over_one_database_share_every_count(store):
    clock = ManualClock(1_770_976_830_000)
    one, other = RateLimits(store, clock), RateLimits(store, clock)
    for _ in range(4):
        one.hit("key_a", MINUTE)
    await one.flush()
    # what the other lets pass before its flush is all that it can give away
    assert other.hit("key_a", MINUTE).remaining == 9
    await other.flush()
    assert other.look("key_a", MINUTE).remaining == 5
    assert one.hit("key_a", MINUTE).remaining == 5
    await one.flush()
    assert one.look("key_a", MINUTE).remaining == 4
    assert one.look("key_b", MINUTE).remaining == 10
    for _ in range(4):
        one.hit("key_a", MINUTE)
    with pytest.raises(RateLimitReached):
        one.hit("key_a", MINUTE)
    # hits that come while the sums are read are in no sum, and are not lost
    await one.flush()
    other.hit("key_a", MINUTE)
    flushing = other.flush()
    await flushing
    assert other.look("key_a", MINUTE).remaining == 0
    clock.advance(60_000)
    assert other.hit("key_a", MINUTE).remaining == 9


async def test_a_limiter_that_starts_later_knows_what_others_counted(store):
    clock = ManualClock(1_770_976_830_000)
    first = RateLimits(store, clock)
    for n in range(700):
        first.hit(f"address:{n}", MINUTE)
    await first.flush()
    later = RateLimits(store, clock)
    await later.start()
    assert later.look("address:699", MINUTE).remaining == 9
    await later.stop()
