import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.money import (
    AmountOverflow,
    FeeRates,
    MalformedAmount,
    amount_due,
    fee_ceil,
    format_amount,
    hourly_from_gpu_second,
    parse_amount,
    per_gpu_second,
    split_payment,
)
from marketplace.domain.quantities import MAX_U64, Bps, Millis, Tokens

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "money.json").read_text())
amounts = st.integers(0, MAX_U64)
rates = st.integers(0, 10_000)


@pytest.mark.parametrize("vector", VECTORS["amount_due"])
def test_amount_due_equals_the_shared_vectors(vector):
    price, billed = Tokens(int(vector["price_per_hour"])), Millis(int(vector["billed_ms"]))
    if vector["amount"] is None:
        with pytest.raises(AmountOverflow):
            amount_due(price, billed)
    else:
        assert amount_due(price, billed) == int(vector["amount"])


@pytest.mark.parametrize("vector", VECTORS["fee_ceil"])
def test_fee_equals_the_shared_vectors(vector):
    assert fee_ceil(Tokens(int(vector["amount"])), Bps(vector["bps"])) == int(vector["fee"])


@given(st.integers(0, 10**15), st.integers(0, 10**10), st.integers(0, 10**10))
def test_more_time_never_costs_less_and_splitting_time_never_costs_more(price, first, second):
    whole = amount_due(Tokens(price), Millis(first + second))
    parts = amount_due(Tokens(price), Millis(first)) + amount_due(Tokens(price), Millis(second))
    assert parts <= whole <= parts + 1


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=20).map(sorted), rates, rates, rates)
def test_a_payment_is_divided_without_loss_and_no_part_is_negative(steps, protocol, market, node_share):
    terms = FeeRates(Bps(protocol), Bps(min(10_000, protocol + market)), Bps(node_share))
    before = 0
    for now in steps:
        split = split_payment(Tokens(before), Tokens(now), terms)
        assert split.paid == now - before
        assert split.operator + split.stakers + split.market + split.protocol == split.paid
        assert min(split.operator, split.stakers, split.market, split.protocol) >= 0
        before = now


@given(amounts, st.integers(0, 12))
def test_an_amount_survives_its_text(units, decimals):
    text = format_amount(units, decimals)
    assert parse_amount(text, decimals) == units
    assert Decimal(text) * 10**decimals == units


@pytest.mark.parametrize("text", ["", "-1", "1e3", "0.0000001", "1.2.3", " 1", "1_000", "\u0661", "nan", "."])
def test_what_is_not_a_plain_amount_is_refused(text):
    with pytest.raises(MalformedAmount):
        parse_amount(text, 6)


def test_an_amount_over_64_bits_is_refused():
    with pytest.raises(AmountOverflow):
        parse_amount(str(2**64), 0)


@given(st.integers(1, 10**12), st.integers(1, 8))
def test_a_shown_price_taken_as_a_floor_never_falls_below_the_stored_one(price, gpus):
    shown = per_gpu_second(Tokens(price), gpus, 6)
    assert hourly_from_gpu_second(shown, gpus, 6, ceiling=False) >= price
    assert hourly_from_gpu_second(shown, gpus, 6, ceiling=True) >= price


@pytest.mark.parametrize("text", ["x", "-0.1", "Infinity", "NaN", ""])
def test_a_price_that_is_no_number_is_refused(text):
    with pytest.raises(MalformedAmount):
        hourly_from_gpu_second(text, 1, 6, ceiling=True)
