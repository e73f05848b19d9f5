"""Days of prices: lowest, highest, sums and waits, each by its own class, region and day."""

from marketplace.store.prices import DAY_MS, PriceDay, PriceDays


async def test_a_day_keeps_its_extremes_and_its_sums(store):
    def write(tx):
        days = PriceDays(tx)
        days.note_choice(5 * DAY_MS, "a100", "eu", 700, 40)
        days.note_choice(6 * DAY_MS - 1, "a100", "eu", 500, 90)
        days.note_floor(5 * DAY_MS, "a100", "eu", 450)
        days.note_floor(5 * DAY_MS, "a100", "eu", 460)
        days.note_choice(5 * DAY_MS, "a100", "eu", 600, 20)
        days.note_floor(6 * DAY_MS, "a100", "na", 10)
        days.note_floor(6 * DAY_MS, "h100", "eu", 20)

    await store.write(write)
    whole = PriceDay(5, "a100", "eu", 450, 500, 700, 1_800, 3, 150, 90)

    async def page(*narrowed, limit=10, offset=0):
        return await store.read(lambda tx: PriceDays(tx).page(*narrowed, limit=limit, offset=offset))

    assert await page(5, "a100", "eu") == ([whole], 1)
    found, total = await page(0, None, None)
    assert [(day.day, day.class_id, day.region) for day in found] == [
        (6, "a100", "na"), (6, "h100", "eu"), (5, "a100", "eu"),
    ]  # fmt: skip
    assert (total, found[0].lowest, found[0].floor) == (3, None, 10)
    assert (await page(0, None, None, limit=1, offset=2))[0] == [whole]
    assert (await page(6, "a100", "eu")) == ([], 0)
