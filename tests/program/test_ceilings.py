"""Section 7 of program.md: what every instruction may cost at most, the size of the binary, bytes of a transaction and
signatures of a job. The measured figures are in docs/benchmarks.md (`scripts/bench program`).
"""

import json

import pytest

from tests.program.measure import Cost, flows, measure
from tests.program.world import ROOT, program_path

CEILINGS = {
    # given by the design
    "open_escrow": 15_000,
    "assign": 12_000,
    "settle": 40_000,
    "release_node": 45_000,
    "quit": 45_000,
    "contest": 45_000,
    "close_contest": 25_000,
    "delegate": 25_000,
    "unbond": 25_000,
    "register_node": 50_000,
    # of the same kind as one of them
    "extend_escrow": 12_000,
    "cancel_escrow": 12_000,
    "reap": 12_000,
    "prove_overclaim": 45_000,
    "unbond_bond": 25_000,
    "bond": 25_000,
    "withdraw_ticket": 25_000,
    "claim": 25_000,
    "retire": 50_000,
    "open_vault": 25_000,
    "register_market": 25_000,
    "initialize": 50_000,
    # one transfer at most
    "deposit": 12_000,
    "withdraw": 12_000,
    "withdraw_owed": 12_000,
    "withdraw_fees": 12_000,
    "sweep_protocol_fees": 12_000,
    "claim_compensation": 12_000,
    "distribute": 25_000,
    # books only, or one account made
    "grant_allowance": 12_000,
    "revoke_allowance": 5_000,
    "set_class": 12_000,
    "register_weight": 12_000,
    "close_epoch": 12_000,
    "update_node": 5_000,
    "set_commission": 5_000,
    "drain": 5_000,
    "rotate_keys": 5_000,
    "set_fee": 5_000,
    "suspend_node": 5_000,
    "set_params": 5_000,
    "set_pause": 5_000,
    "propose_admin": 5_000,
    "accept_admin": 5_000,
}
"""Compute units."""

BINARY = 120 * 1024
TRANSACTION = 1_232
INSTRUCTIONS = [
    entry["name"] for entry in json.loads((ROOT / "programs_idl/reaver_market.json").read_text())["instructions"]
]


@pytest.fixture(scope="module")
def costs() -> dict[str, list[Cost]]:
    return dict(measure())


def test_compute_units_stay_under_their_ceilings(
    costs: dict[str, list[Cost]], capsys: pytest.CaptureFixture[str]
) -> None:
    most = {name: max(cost.units for cost in found) for name, found in costs.items()}
    with capsys.disabled():
        print("\ncompute units:", ", ".join(f"{name} {units}" for name, units in sorted(most.items())))
    assert set(most) == set(CEILINGS) == set(INSTRUCTIONS)
    assert {name: units for name, units in most.items() if units > CEILINGS[name]} == {}


def test_every_transaction_fits_the_network(costs: dict[str, list[Cost]]) -> None:
    longest = {name: max(cost.transaction_bytes for cost in found) for name, found in costs.items()}
    assert {name: size for name, size in longest.items() if size > TRANSACTION} == {}


def test_the_signatures_of_a_job_are_the_published_ones() -> None:
    assert {flow.name: flow.signatures for flow in flows()} == {"free node": 4, "queued": 5, "one failover": 9}


def test_the_binary_stays_small() -> None:
    assert program_path().stat().st_size < BINARY
