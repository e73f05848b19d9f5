"""Vectors of the staking rules: `python -m tests.domain.staking_vectors` rewrites tests/golden/staking.json.

Each expected value is computed here with fractions, from the formulas of program.md section 5, by neither of the two
programs that are held against it (marketplace/domain/staking.py and the program's math.rs). Null: refused.
Numbers are text, because JSON readers lose the last digits of large ones.
"""

import json
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

FILE = Path(__file__).parents[1] / "golden" / "staking.json"
U64, U128 = 2**64 - 1, 2**128 - 1
# Chosen: 10 million tokens of 6 decimals, which is what a whole supply looks like here.
SUPPLY = 10**13

Vector = dict[str, str | None]


def bucket(case: dict[str, int]) -> dict[str, Fraction | None]:
    """What an amount of stake and of shares is in a bucket, with its virtual unit and share."""
    alive = {"least_alive": _within(ceil(Fraction(case["shares"], 10**6)), U64)}
    if case["stake"] == U64 or case["shares"] == U128:
        return {"minted": None, "burned": None, "worth": None, **alive}
    unit, shares = case["stake"] + 1, case["shares"] + 1
    minted = Fraction(case["amount"] * shares, unit)
    return {
        "minted": _within(floor(minted), U128),
        "burned": _within(ceil(minted), U128),
        "worth": _within(floor(Fraction(case["held"] * unit, shares)), U64),
        **alive,
    }


def accrual(case: dict[str, int]) -> dict[str, Fraction | None]:
    """A reward shared out, and what some of the shares earn of it."""
    waiting = case["reward"] * 2**64 + case["remainder"]
    if case["shares"] == 0 or waiting > U128:
        return {"growth": None, "rest": None, "earned": None}
    growth = floor(Fraction(waiting, case["shares"]))
    return {
        "growth": Fraction(growth),
        "rest": Fraction(waiting - growth * case["shares"]),
        "earned": _within(floor(Fraction(case["held"] * growth, 2**64)), U64),
    }


def distribution(case: dict[str, int]) -> dict[str, Fraction | None]:
    """A pool's part of an emission: by weight, and at most what its fees stand for."""
    if case["total_weight"] == 0:
        return {"amount": None}
    by_weight = floor(Fraction(case["emission"] * case["weight"], case["total_weight"]))
    fees = floor(Fraction(case["protocol_fees"] * case["cap_bps"], 10_000))
    cap = floor(Fraction(fees * 10**6, case["exposure_rate"]))
    return {"amount": _within(min(by_weight, cap), U64)}


def weight(case: dict[str, int]) -> dict[str, Fraction | None]:
    total = min(case["well"] + case["lost"], U64)
    return {"weight": Fraction(floor(Fraction(case["active_stake"] * case["well"], total)) if total else 0)}


def schedule(case: dict[str, int]) -> dict[str, Fraction | None]:
    """An epoch's emission, and the next one's schedule."""
    return {
        "emission": Fraction(min(case["scheduled"], max(case["vault"] - case["committed"], 0))),
        "next": Fraction(floor(Fraction(case["scheduled"] * (10_000 - case["decay_bps"]), 10_000))),
    }


def slash(case: dict[str, int]) -> dict[str, Fraction | None]:
    """The room that an epoch's cap leaves, and what an over-claim takes."""
    if case["value"] + case["slashed"] > U64:
        return {"room": None, "taken": None}
    room = max(floor(Fraction((case["value"] + case["slashed"]) * case["cap_bps"], 10_000)) - case["slashed"], 0)
    part = floor(Fraction(case["value"] * case["part_bps"], 10_000))
    return {"room": Fraction(room), "taken": Fraction(min(part, room))}


def vectors() -> dict[str, list[Vector]]:
    chance = random.Random(4)

    def number(limit: int) -> int:
        """Edges, small numbers and numbers of every size."""
        pick = chance.randrange(8)
        if pick == 0:
            return chance.choice([0, 1, 2, limit - 1, limit])
        return chance.randrange(min(limit, 2 ** chance.randrange(1, limit.bit_length() + 1)) + 1)

    def cases(count: int, **limits: int) -> Iterator[dict[str, int]]:
        for _ in range(count):
            yield {name: number(limit) for name, limit in limits.items()}

    bps = 10_000
    return {
        "buckets": _computed(
            bucket,
            [
                {"stake": 0, "shares": 0, "amount": 1, "held": 0},
                {"stake": SUPPLY, "shares": SUPPLY, "amount": 1, "held": 1},
                {"stake": 1, "shares": 10**6, "amount": SUPPLY, "held": 10**6},
                {"stake": U64 - 1, "shares": U128 - 1, "amount": U64, "held": U128 - 1},
                {"stake": U64, "shares": 1, "amount": 1, "held": 1},
                *cases(60, stake=U64, shares=U128, amount=U64, held=U128),
                *cases(60, stake=SUPPLY, shares=SUPPLY * 10**6, amount=SUPPLY, held=SUPPLY * 10**6),
            ],
        ),
        "accruals": _computed(
            accrual,
            [
                {"reward": 1, "remainder": 0, "shares": 0, "held": 0},
                {"reward": 1, "remainder": 0, "shares": 3, "held": 3},
                {"reward": U64, "remainder": U64, "shares": 1, "held": 1},
                *cases(60, reward=U64, remainder=U128, shares=U128, held=U128),
                *cases(60, reward=SUPPLY, remainder=2**64, shares=SUPPLY, held=SUPPLY),
            ],
        ),
        "weights": _computed(
            weight,
            [
                {"active_stake": SUPPLY, "well": 0, "lost": 5},
                {"active_stake": SUPPLY, "well": 0, "lost": 0},
                {"active_stake": U64, "well": U64, "lost": U64},
                *cases(60, active_stake=U64, well=U64, lost=U64),
            ],
        ),
        "schedules": _computed(
            schedule,
            [
                {"scheduled": 1, "vault": 5, "committed": 9, "decay_bps": 10},
                *cases(60, scheduled=U64, vault=U64, committed=U64, decay_bps=bps),
            ],
        ),
        "distributions": _computed(
            distribution,
            [
                {"emission": 5, "weight": 1, "total_weight": 0, "protocol_fees": 1, "cap_bps": 1, "exposure_rate": 1},
                {
                    "emission": U64,
                    "weight": U64,
                    "total_weight": U64,
                    "protocol_fees": U64,
                    "cap_bps": bps,
                    "exposure_rate": 1,
                },
                *(
                    {**case, "total_weight": case["weight"] + case["total_weight"], "exposure_rate": rate}
                    for case in cases(60, emission=U64, weight=U64, total_weight=U64, protocol_fees=U64, cap_bps=bps)
                    for rate in [number(10**9) + 1]
                ),
            ],
        ),
        "slashes": _computed(
            slash,
            [
                {"value": 0, "slashed": 0, "cap_bps": 5_000, "part_bps": 2_000},
                {"value": 100, "slashed": 100, "cap_bps": 5_000, "part_bps": 2_000},
                {"value": U64, "slashed": 1, "cap_bps": bps, "part_bps": bps},
                *cases(60, value=U64, slashed=U64, cap_bps=bps, part_bps=bps),
            ],
        ),
    }


def _computed(
    formula: Callable[[dict[str, int]], dict[str, Fraction | None]], cases: list[dict[str, int]]
) -> list[Vector]:
    return [
        {
            **{name: str(value) for name, value in case.items()},
            **{name: None if value is None else str(value) for name, value in formula(case).items()},
        }
        for case in cases
    ]


def _within(value: int, limit: int) -> Fraction | None:
    return Fraction(value) if value <= limit else None


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
