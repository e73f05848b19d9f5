from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.reputation import Record, reputation

counts = st.integers(0, 10**9)


def test_a_new_node_starts_at_one_half():
    assert reputation(Record(0, 0)) == Fraction(1, 2)


def test_a_loss_weighs_as_much_as_three_good_ends():
    assert reputation(Record(3, 1)) == Fraction(1, 2)


@given(counts, counts)
def test_reputation_stays_between_zero_and_one_and_follows_the_record(well, lost):
    value = reputation(Record(well, lost))
    assert 0 < value < 1
    assert reputation(Record(well + 1, lost)) > value
    assert reputation(Record(well, lost + 1)) < value
