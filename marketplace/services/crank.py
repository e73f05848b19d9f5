"""The crank: what anybody may do to keep a deployment going, decided from what the chain shows, and done once.

Epochs are registered, closed, distributed and ended; contests and escrows whose time is over are closed; the protocol's
fees are swept. Every act stands by itself: the program refuses one that somebody else has done, which changes nothing
and is no error. So cranks may race, stop anywhere and start again. A round is bounded; what is left is the next one's.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeVar

from solders.pubkey import Pubkey

from marketplace.chain.accounts import (
    EpochAccount,
    EpochSlot,
    EpochState,
    EscrowAccount,
    EscrowState,
    MarketAccount,
    NodeAccount,
    Params,
    PoolAccount,
)
from marketplace.chain.builders import CallBuilder, EscrowRef, NodeRef
from marketplace.chain.instructions import ProgramInstruction
from marketplace.chain.reader import Located
from marketplace.chain.stakes import EmissionState
from marketplace.domain.quantities import Millis, Stake, Tokens
from marketplace.domain.staking import EpochClock, weight_floor

EPOCH_SLOTS: Final = 3
"""Specified (NodeAccount.epochs): a node remembers an epoch at its index modulo this."""


_Due = TypeVar("_Due")


class CrankDuty(StrEnum):
    """What a crank does, in the order of a round."""

    END = "end"
    CLOSE = "close"
    DISTRIBUTE = "distribute"
    REGISTER = "register"
    CONTEST = "contest"
    REAP = "reap"
    SWEEP = "sweep"


BATCHES: Final = {
    CrankDuty.END: 8,
    CrankDuty.CLOSE: 8,
    CrankDuty.DISTRIBUTE: 5,
    CrankDuty.REGISTER: 6,
    CrankDuty.CONTEST: 1,
    CrankDuty.REAP: 2,
    CrankDuty.SWEEP: 6,
}
"""Chosen: so many acts of one kind fit a packet beside their signature; tests/services/test_crank.py measures it."""
MOST_REFUSALS: Final = 8
"""Chosen: after so many refused transactions a round leaves a duty, so that it comes to the others."""


@dataclass(frozen=True, slots=True)
class CrankRules:
    """How much one round does.

    transactions: landed at most. sweep_from: base units worth a transaction's fee. patience_ms: how long contests and
    escrows are left to whoever else looks after them (a market's own services) before the crank does it.
    """

    transactions: int = 64
    sweep_from: int = 1_000_000
    patience_ms: int = 0


# Decisions: pure, from one reading of the chain


@dataclass(frozen=True, slots=True)
class EpochDue:
    """An epoch to be closed, or whose account is to be ended. rent_payer: None where it has no account."""

    epoch: int
    rent_payer: Pubkey | None


@dataclass(frozen=True, slots=True)
class NodeDue:
    """A node whose weight is to be registered for an epoch, or that draws its part of it. node: its account."""

    node: Pubkey
    epoch: int


@dataclass(frozen=True, slots=True)
class EscrowDue:
    """An escrow whose contest or time is over. node: account of the contested or running attempt's node."""

    address: Pubkey
    escrow: EscrowRef
    node: Pubkey | None


def epoch_clock(state: EmissionState) -> EpochClock:
    return EpochClock(Millis(state.config.epoch_start), Millis(state.config.epoch_length))


def epochs_to_end(state: EmissionState, epochs: Iterable[EpochAccount]) -> list[EpochDue]:
    """Closed epochs whose distribution is over: what they did not draw is free again, and their rent returns."""
    clock, now = epoch_clock(state), Millis(state.now_ms)
    return [
        EpochDue(epoch.index, epoch.rent_payer)
        for epoch in epochs
        if epoch.state == EpochState.CLOSED and not clock.may_distribute(epoch.index, now)
    ]


def epochs_to_close(state: EmissionState, epochs: Iterable[EpochAccount], most: int) -> list[EpochDue]:
    """The next epochs in order, as far as their time has come: at most so many.

    None while schedule or vault is empty and nobody has registered for anything: closing would only cost its fee.
    What is missed meanwhile is caught up when there is something to give.
    """
    clock, now = epoch_clock(state), Millis(state.now_ms)
    payers = {epoch.index: epoch.rent_payer for epoch in epochs}
    if not payers and not can_give(state):
        return []
    due: list[EpochDue] = []
    index = state.config.next_epoch
    while len(due) < most and clock.may_close(index, now):
        due.append(EpochDue(index, payers.get(index)))
        index += 1
    return due


def weights_to_register(state: EmissionState, nodes: Iterable[Located[NodeAccount]]) -> list[NodeDue]:
    """Nodes with an attempt that ended well in the epoch before, in that epoch's window.

    Nothing while neither schedule nor vault could pay anything: registering would only cost its fee.
    """
    clock, now = epoch_clock(state), Millis(state.now_ms)
    epoch = clock.index_at(now) - 1
    if epoch < state.config.next_epoch or not clock.may_register(epoch, now):
        return []
    if not can_give(state):
        return []
    due = []
    for node in nodes:
        slot = slot_of(node.account, epoch)
        if slot is not None and slot.well > 0 and not slot.registered:
            due.append(NodeDue(node.address, epoch))
    return due


def can_give(state: EmissionState) -> bool:
    """Whether an epoch closed now could give anything, or a later one: schedule and vault hold something."""
    return state.config.scheduled_emission > 0 and state.vault > 0


def has_weight(node: NodeAccount, pool: PoolAccount, epoch: int) -> bool:
    """Whether the program would accept the node's weight of an epoch."""
    slot = slot_of(node, epoch)
    return slot is not None and weight_floor(Stake(pool.active_stake), Tokens(slot.well), Tokens(slot.lost)) > 0


def parts_to_distribute(
    state: EmissionState, epochs: Iterable[EpochAccount], nodes: Sequence[Located[NodeAccount]]
) -> list[NodeDue]:
    """Nodes that registered a weight for a closed epoch with an emission, and have not drawn their part."""
    clock, now = epoch_clock(state), Millis(state.now_ms)
    due = []
    for epoch in distributing(epochs):
        if not clock.may_distribute(epoch.index, now):
            continue
        for node in nodes:
            slot = slot_of(node.account, epoch.index)
            if slot is not None and slot.registered and not slot.distributed:
                due.append(NodeDue(node.address, epoch.index))
    return due


def distributing(epochs: Iterable[EpochAccount]) -> list[EpochAccount]:
    """Closed epochs that still have something to give."""
    return [
        epoch
        for epoch in epochs
        if epoch.state == EpochState.CLOSED and epoch.emission > 0 and epoch.served < epoch.registered
    ]


def contests_to_close(params: Params, now_ms: int, escrows: Iterable[Located[EscrowAccount]]) -> list[EscrowDue]:
    """Escrows whose contest window has passed."""
    due = []
    for found in escrows:
        contest = found.account.contest
        if contest.attempt.number and now_ms > contest.released_at + params.contest:
            due.append(EscrowDue(found.address, EscrowRef.of(found.account), contest.attempt.node))
    return due


def escrows_to_reap(params: Params, now_ms: int, escrows: Iterable[Located[EscrowAccount]]) -> list[EscrowDue]:
    """Open escrows that nobody assigned in time, assigned ones that nobody ended in time.

    An assigned one with an open contest waits for that: only one attempt can be contested at a time.
    """
    due = []
    for found in escrows:
        escrow = found.account
        if escrow.state == EscrowState.OPEN and now_ms > escrow.assign_by:
            due.append(EscrowDue(found.address, EscrowRef.of(escrow), None))
        elif (
            escrow.state == EscrowState.ASSIGNED
            and not escrow.contest.attempt.number
            and now_ms > reap_deadline(params, escrow)
        ):
            due.append(EscrowDue(found.address, EscrowRef.of(escrow), escrow.attempt.node))
    return due


def reap_deadline(params: Params, escrow: EscrowAccount) -> int:
    """The last moment that an assigned escrow's attempt could bill, and the grace. Source: reap.rs, `deadline`."""
    last = escrow.attempt.assigned_at + params.ready_limit + escrow.max_time - escrow.ended_time
    return (min(last, escrow.stop_at) if escrow.stop_at else last) + params.reap_grace


def markets_to_sweep(markets: Iterable[Located[MarketAccount]], sweep_from: int) -> list[Pubkey]:
    """Markets that hold enough of the protocol's fees."""
    return [market.address for market in markets if market.account.protocol_owed >= max(sweep_from, 1)]


def slot_of(node: NodeAccount, epoch: int) -> EpochSlot | None:
    """What a node did in an epoch; None where it did nothing, or has forgotten it."""
    slot = node.epochs[epoch % EPOCH_SLOTS]
    return slot if slot.epoch == epoch else None


def next_boundary(clock: EpochClock, now: Millis) -> Millis:
    """When something about epochs may become due next: an epoch begins, or its second half."""
    epoch = clock.index_at(now)
    half = clock.begins_at(epoch) + clock.length // 2
    return Millis(half) if now < half else clock.begins_at(epoch + 1)


# A round


class CrankRefused(Exception):
    """The program refused a transaction, or its simulation did; nothing changed. Caught by the round.

    name: the program's own name of the error, None where it was not ours.
    """

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class CrankChain(Protocol):
    """The chain as a crank needs it; `crank_chain.SolanaCrank` is the real one.

    Everything raises ChainError when nobody answers. Listings are of what this crank looks after: everything, or
    one market's.
    """

    @property
    def submitter(self) -> Pubkey:
        """Who signs and pays."""
        ...

    @property
    def calls(self) -> CallBuilder: ...

    async def emission(self) -> EmissionState: ...

    async def list_epochs(self) -> list[EpochAccount]: ...

    async def list_nodes(self) -> list[Located[NodeAccount]]: ...

    async def find_nodes(self, addresses: Sequence[Pubkey]) -> list[Located[NodeAccount] | None]: ...

    async def find_pools(self, nodes: Sequence[Pubkey]) -> list[PoolAccount | None]:
        """One entry per Node address."""
        ...

    async def list_escrows(self) -> list[Located[EscrowAccount]]: ...

    async def list_markets(self) -> list[Located[MarketAccount]]: ...

    async def perform(self, calls: Sequence[ProgramInstruction]) -> str:
        """Have the calls land in one transaction; its signature. Raises CrankRefused."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """An act that landed. subject: an address, or an epoch's index and the address that it was done for."""

    duty: CrankDuty
    subject: str
    signature: str


@dataclass(frozen=True, slots=True)
class NotDone:
    """An act that was refused: somebody else did it, or its time is not as this reading had it."""

    duty: CrankDuty
    subject: str
    because: str


@dataclass(frozen=True, slots=True)
class CrankReport:
    """One round.

    now: chain time of its reading. left: acts that wait for the next round because this one was full. wake_at: the
    next boundary of an epoch, in chain time.
    """

    now: Millis
    done: tuple[Done, ...]
    refused: tuple[NotDone, ...]
    left: int
    wake_at: Millis


@dataclass(slots=True)
class _Round:
    chain: CrankChain
    budget: int
    done: list[Done] = field(default_factory=list)
    refused: list[NotDone] = field(default_factory=list)
    left: int = 0

    async def act(self, duty: CrankDuty, acts: Sequence[tuple[str, ProgramInstruction]]) -> None:
        """Land acts of one kind, some at a time; where a transaction is refused, each of its acts alone."""
        size = BATCHES[duty]
        waiting = [acts[start : start + size] for start in range(0, len(acts), size)]
        refusals = 0
        while waiting and refusals < MOST_REFUSALS:
            batch = waiting.pop(0)
            if self.budget <= 0:
                self.left += len(batch)
            elif not await self._land(duty, batch):
                refusals += 1
                if len(batch) > 1:
                    waiting[:0] = [[act] for act in batch]

    async def _land(self, duty: CrankDuty, batch: Sequence[tuple[str, ProgramInstruction]]) -> bool:
        try:
            signature = await self.chain.perform([call for _, call in batch])
        except CrankRefused as refused:
            if len(batch) == 1:
                self.refused.append(NotDone(duty, batch[0][0], refused.name or str(refused)))
            return False
        self.budget -= 1
        self.done += [Done(duty, subject, signature) for subject, _ in batch]
        return True


async def crank_once(chain: CrankChain, rules: CrankRules | None = None) -> CrankReport:
    """Do what is due now, within the rules' bounds. Raises ChainError; what was done until then stays done."""
    rules = rules or CrankRules()
    state = await chain.emission()
    this = _Round(chain, rules.transactions)
    await _epochs(chain, state, this)
    await _escrows(chain, state, rules, this)
    await _fees(chain, state, rules, this)
    now = Millis(state.now_ms)
    return CrankReport(now, tuple(this.done), tuple(this.refused), this.left, next_boundary(epoch_clock(state), now))


async def _epochs(chain: CrankChain, state: EmissionState, this: _Round) -> None:
    calls, who = chain.calls, chain.submitter
    epochs = await chain.list_epochs()
    for duty, due in (
        (CrankDuty.END, epochs_to_end(state, epochs)),
        (CrankDuty.CLOSE, epochs_to_close(state, epochs, this.budget * BATCHES[CrankDuty.CLOSE])),
    ):
        await this.act(duty, [(str(e.epoch), calls.close_epoch(who, e.epoch, e.rent_payer)) for e in due])
        if due:
            # An ended epoch frees what a later one may draw; a closed one may be distributed at once.
            epochs = await chain.list_epochs()
    if distributing(epochs):
        payers = {epoch.index: epoch.rent_payer for epoch in epochs}
        parts = _in_turn(parts_to_distribute(state, epochs, await chain.list_nodes()), state)
        await this.act(
            CrankDuty.DISTRIBUTE,
            [(f"{d.epoch} {d.node}", calls.distribute(who, d.node, d.epoch, payers[d.epoch])) for d in parts],
        )
    await _weights(chain, state, this)


async def _weights(chain: CrankChain, state: EmissionState, this: _Round) -> None:
    clock, now = epoch_clock(state), Millis(state.now_ms)
    if not clock.may_register(clock.index_at(now) - 1, now):
        return
    nodes = await chain.list_nodes()
    due = _in_turn(weights_to_register(state, nodes), state)
    pools = await chain.find_pools([entry.node for entry in due])
    accounts = {node.address: node.account for node in nodes}
    await this.act(
        CrankDuty.REGISTER,
        [
            (f"{d.epoch} {d.node}", chain.calls.register_weight(chain.submitter, d.node, d.epoch))
            for d, pool in zip(due, pools, strict=True)
            if pool is not None and has_weight(accounts[d.node], pool, d.epoch)
        ],
    )


async def _escrows(chain: CrankChain, state: EmissionState, rules: CrankRules, this: _Round) -> None:
    params, now, who = state.config.params, state.now_ms - rules.patience_ms, chain.submitter
    escrows = await chain.list_escrows()
    contests = _in_turn(contests_to_close(params, now, escrows), state)
    reaps = _in_turn(escrows_to_reap(params, now, escrows), state)
    wanted = list({due.node for due in [*contests, *reaps] if due.node is not None})
    found = await chain.find_nodes(wanted) if wanted else []
    nodes = {node.address: NodeRef.of(node.account) for node in found if node is not None}
    await this.act(
        CrankDuty.CONTEST,
        [
            (str(due.address), chain.calls.close_contest(due.escrow, nodes[due.node], who))
            for due in contests
            if due.node is not None and due.node in nodes
        ],
    )
    await this.act(
        CrankDuty.REAP,
        [
            (str(due.address), chain.calls.reap(due.escrow, nodes[due.node] if due.node is not None else None, who))
            for due in reaps
            if due.node is None or due.node in nodes
        ],
    )


async def _fees(chain: CrankChain, state: EmissionState, rules: CrankRules, this: _Round) -> None:
    due = markets_to_sweep(await chain.list_markets(), rules.sweep_from)
    token = state.config.protocol_token
    await this.act(
        CrankDuty.SWEEP,
        [(str(market), chain.calls.sweep_protocol_fees(chain.submitter, market, token)) for market in due],
    )


def _in_turn(due: Sequence[_Due], state: EmissionState) -> list[_Due]:
    """In another order each second: acts that are always refused don't stand before the same others for ever."""
    order = random.Random(state.now_ms)  # noqa: S311 - spreads turns, guards nothing
    return order.sample(due, len(due))
