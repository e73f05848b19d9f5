"""Retiring a node, one run after the other, until nothing of it is left on chain.

Each run does what the operator can do now (retire, take out what is owed, the bond, ripe tickets, rewards) and says
what is left to wait for. The last one closes node, pool and position, and all their rent comes back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from marketplace.chain.accounts import NodeStatus
from marketplace.chain.acts import Act
from node.staking.acts import OperatorStake, Planned, Sending, StakingRefused
from node.staking.standing import Standing


class Outcome(StrEnum):
    """What the chain says of the node after a run."""

    RETIRED = "retired"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Retirement:
    """One run. left: what stands between the node and its closing, in words."""

    outcome: Outcome
    acts: tuple[Act, ...]
    left: tuple[str, ...] = ()


def intention(stake: OperatorStake, now: Standing) -> tuple[str, ...]:
    """What retiring means for this node, in words, before anything is signed. Raises StakingRefused where it can't."""
    if now.node.attempts:
        raise StakingRefused(
            f"{now.node.attempts} attempts of this node are running or contested: it can't retire yet. Drain it "
            "(`reaver-node drain`), wait until they have ended and their contest windows are over, and repeat this"
        )
    lines = []
    if now.status is not NodeStatus.RETIRED:
        lines.append("the node takes no work any more, for good; nobody can stake on it")
    if now.position.shares:
        lines.append(f"the bond of {stake.stake(now.bond)} stake tokens starts to unbond")
    if now.delegators:
        lines.append(f"{now.delegators} delegators stay until they unbond: the node's accounts close after the last")
    lines.extend(left for left in stake.left(now) if left.startswith("ticket"))
    return tuple(lines) or ("the node's accounts close, all rent comes back",)


async def retire(stake: OperatorStake, *, sending: Sending, done: Callable[[Planned, Act], None]) -> Retirement:
    """Go as far as the chain allows now. done: told after each act. Raises what `OperatorStake.act` raises."""
    acts: list[Act] = []

    async def act(planned: Planned) -> None:
        landed = await stake.act(planned, sending)
        acts.append(landed)
        done(planned, landed)

    now = await stake.get()
    intention(stake, now)
    if now.status is not NodeStatus.RETIRED:
        await act(stake.retire(now))
    while (standing := await stake.find()) is not None:
        step = _own_step(stake, standing)
        if step is None:
            break
        await act(step)
    if standing is None:
        return Retirement(Outcome.CLOSED, tuple(acts))
    left = stake.left(standing)
    if left:
        return Retirement(Outcome.RETIRED, tuple(acts), left)
    await act(stake.retire(standing))
    closed = await stake.find() is None
    return Retirement(Outcome.CLOSED if closed else Outcome.RETIRED, tuple(acts))


def _own_step(stake: OperatorStake, now: Standing) -> Planned | None:
    """The next thing that only the operator can take out, None when what is left is not his to move, or not yet."""
    if now.node.owed:
        return stake.withdraw_owed(now)
    if now.position.shares:
        return stake.unbond(now, None)
    ready = now.ready_tickets()
    if ready:
        return stake.withdraw(now, ready[0])
    if now.pending_payment or now.pending_stake:
        return stake.claim(now)
    return None
