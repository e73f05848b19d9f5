from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.ids import NodeId
from marketplace.domain.matching import Candidate, Constraint, Request, band, choose, obstacle
from marketplace.domain.pricing import Priority, band_limit, firm_price, with_priority
from marketplace.domain.quantities import Tokens


def request(**changes):
    values = {
        "tiers": (("a100",),),
        "regions": frozenset({"eu"}),
        "gpu_count": 1,
        "priority": Priority.NORMAL,
        "max_price_per_hour": Tokens(1_000),
        "exposure": Tokens(500),
    }
    return Request(**{**values, **changes})


def candidate(name="n1", **changes):
    values = {
        "node_id": NodeId(name),
        "class_id": "a100",
        "region": "eu",
        "floor_per_hour": Tokens(900),
        "free_slots": 2,
        "exposure_room": Tokens(500),
        "reputation": Fraction(1, 2),
        "accepts_work": True,
        "can_egress": True,
    }
    return Candidate(**{**values, **changes})


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"class_id": "h100"}, Constraint.CLASS),
        ({"region": "na"}, Constraint.REGION),
        ({"accepts_work": False}, Constraint.STATUS),
        ({"can_egress": False}, Constraint.NETWORK),
        ({"free_slots": 0}, Constraint.CAPACITY),
        ({"exposure_room": Tokens(499)}, Constraint.EXPOSURE),
        ({"floor_per_hour": Tokens(1_001)}, Constraint.PRICE),
        ({"spec_version": 1}, Constraint.VERSION),
        ({"cuda": 1203}, Constraint.CUDA),
        ({"reputation": Fraction(2, 5)}, Constraint.REPUTATION),
        ({}, None),
    ],
)
def test_each_obstacle_is_named(change, constraint):
    asked = request(min_cuda=1204, min_reputation=Fraction(1, 2), spec_version=2)
    assert obstacle(asked, candidate(**{"cuda": 1204, "spec_version": 2, **change})) is constraint


def test_a_preferred_class_goes_before_a_cheaper_one_while_any_of_it_fits():
    nodes = [candidate("dear"), candidate("cheap", class_id="v100", floor_per_hour=Tokens(1))]
    asked = request(tiers=(("a100",), ("v100",)))
    assert [c.node_id for c in band(asked, nodes)] == ["dear"]
    assert [c.node_id for c in band(asked, [nodes[1], candidate("dear", free_slots=0)])] == ["cheap"]
    assert [c.node_id for c in band(request(tiers=(("a100", "v100"),)), nodes)] == ["cheap"]


def test_a_node_that_failed_is_not_asked_again():
    assert obstacle(request(excluded=frozenset({NodeId("n1")})), candidate()) is Constraint.EXCLUDED


def test_urgency_raises_what_a_node_is_paid_and_may_pass_the_ceiling():
    assert obstacle(request(priority=Priority.HIGH), candidate()) is Constraint.PRICE


def test_only_floors_within_two_percent_of_the_lowest_compete():
    nodes = [
        candidate("a", floor_per_hour=Tokens(500)),
        candidate("b", floor_per_hour=Tokens(510)),
        candidate("c", floor_per_hour=Tokens(511)),
    ]
    assert [c.node_id for c in band(request(), nodes)] == ["a", "b"]


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=8), st.sampled_from(Priority))
def test_the_firm_price_covers_every_node_of_the_band(floors, priority):
    lowest = Tokens(min(floors))
    price = firm_price(lowest, priority)
    assert all(with_priority(Tokens(f), priority) <= price for f in floors if f <= band_limit(lowest))


@given(st.integers(0, 2**64))
def test_the_same_draw_chooses_the_same_node(draw):
    nodes = [candidate("a"), candidate("b", reputation=Fraction(1, 4))]
    assert choose(nodes, None, draw) == choose(nodes, None, draw)


def test_the_choice_follows_reputation_and_the_image():
    good, poor = candidate("a", reputation=Fraction(3, 4)), candidate("b", reputation=Fraction(1, 4))
    draws = [choose([good, poor], None, n * 10_000 + 1) for n in range(100)]
    assert draws.count(good) == 75
    holding = candidate("b", reputation=Fraction(3, 4), images=frozenset({"img"}))
    draws = [choose([good, holding], "img", n * 22_500) for n in range(100)]
    assert 60 < draws.count(holding) < 75


def test_nobody_is_chosen_from_nothing():
    assert choose([], None, 1) is None
    assert band(request(), []) == []
