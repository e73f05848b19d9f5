"""The bond of a node: how much is asked for, what is refused, and what is missing."""

from dataclasses import replace

import pytest

from marketplace.services.chain_port import NodeView
from tests.api.conftest import Renter, Wallet
from tests.api.scripted_node import ScriptedNode


@pytest.fixture
async def operator(chain, live_market, live_call):
    return await Renter.funded(Wallet(), chain, live_market, live_call)


async def test_a_node_bonds_what_its_operator_says(operator):
    node = ScriptedNode(operator)
    await node.register(bond="60.5")
    status, shown, _ = await operator("GET", f"/v1/nodes/{node.id}")
    assert status == 200
    assert (shown["bond"], shown["bond_needed"], shown["bond_missing"]) == ("60.500000", "50.000000", "0.000000")


async def test_a_node_that_says_nothing_bonds_the_least(operator):
    node = ScriptedNode(operator)
    await node.register()
    assert (await operator("GET", f"/v1/nodes/{node.id}"))[1]["bond"] == "50.000000"


@pytest.mark.parametrize(
    ("bond", "code"), [("49.999999", "out_of_range"), ("0", "out_of_range"), ("-60", "not_allowed"),
                       ("60.0000001", "not_allowed"), ("1e3", "not_allowed"), ("9" * 30, "not_allowed")]
)  # fmt: skip
async def test_a_bond_that_is_too_small_or_no_amount_is_refused_by_name(operator, bond, code):
    with pytest.raises(AssertionError, match=f"'field': 'bond', 'code': '{code}'"):
        await ScriptedNode(operator).register(bond=bond)


async def test_what_is_missing_keeps_a_node_from_work(operator, live_market):
    node = ScriptedNode(operator)
    await node.register(bond="50")
    presence = live_market.jobs.registry.find(node.id)
    view = presence.chain
    assert isinstance(view, NodeView)
    assert view.bond_missing == 0
    # what the program notes as held after a loss counts on top of the class's bond
    assert replace(view, bond_needed=view.bond + 700_000).bond_missing == 700_000
    # a value computed from shares may be a unit below what the program computes
    assert replace(view, bond_needed=view.bond + 1).bond_missing == 0
