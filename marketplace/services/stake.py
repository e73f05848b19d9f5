"""Stake to read: a wallet's positions, the pools it can choose from, what happened, and what would have happened.

Source: api.md section 5.6. What is, comes from the chain; what was, from the books. A node is named by the id that
this market gave it, or by the address of its Node account: pools of other markets' nodes are the wallet's, too.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from solders.pubkey import Pubkey

from marketplace.chain.accounts import EpochAccount, EpochSlot, NodeStatus
from marketplace.chain.addresses import parse_address
from marketplace.chain.errors import NotCanonical
from marketplace.chain.stakes import StakeReader
from marketplace.domain.catalogue import region_of
from marketplace.domain.ids import NodeId, is_id
from marketplace.domain.money import AmountOverflow
from marketplace.domain.nodes import uptime
from marketplace.domain.quantities import Bps, Millis, Shares, Stake, Tokens
from marketplace.domain.reputation import reputation
from marketplace.domain.staking import exposure_limit_floor
from marketplace.errors import Conflict, DetailCode, Invalid, NotFound, StaleEpoch, TooEarly
from marketplace.services.chain_link import ChainLink
from marketplace.services.clock import Clock
from marketplace.services.node_registry import NodeRegistry, Presence
from marketplace.services.stake_accounts import Acting, Holding, PoolState, StakeAccounts
from marketplace.services.stake_views import (
    EmissionNow,
    EpochDetails,
    EpochsPage,
    HistoryEntry,
    HistoryPage,
    NodeEpoch,
    PendingCommission,
    PoolDetails,
    PoolEpochRewards,
    PoolSummary,
    Position,
    Positions,
    Simulated,
    TicketView,
    Uptime,
    Weight,
)
from marketplace.services.stake_yields import replay
from marketplace.services.vaults import parse_positive_amount
from marketplace.store.engine import Store, Transaction
from marketplace.store.stake import PoolRewards, StakeKind, StakeRows

PoolSort = Literal["yield", "stake", "commission", "uptime", "free_exposure"]
MAX_EPOCHS: Final = 100
"""Chosen: how far back yields and simulations look at most; each epoch's events are read."""
_SHOWN_EPOCHS: Final = 30
"""Chosen: how many epochs of rewards a pool's own page shows."""


@dataclass(frozen=True, slots=True)
class Units:
    """Symbol and decimals of the payment token, decimals of the stake token."""

    currency: str
    payment: int
    stake: int


class StakeService:
    """Reads; see `stake_actions` for what a wallet can do."""

    def __init__(
        self,
        store: Store,
        link: ChainLink,
        registry: NodeRegistry,
        clock: Clock,
        now: Callable[[], Millis],
        currency: str,
    ) -> None:
        """now: chain time."""
        self._store = store
        self._link = link
        self._registry = registry
        self._clock = clock
        self._now = now
        self._currency = currency

    @property
    def units(self) -> Units:
        """Raises Starting before the chain was read."""
        deployment = self._link.facts.deployment
        return Units(self._currency, deployment.payment_decimals, deployment.stake_decimals)

    @property
    def accounts(self) -> StakeAccounts:
        """Reads of this deployment."""
        deployment = self._link.facts.deployment
        return StakeAccounts(self._link.reader, deployment.payment_mint, deployment.stake_mint)

    def node_address(self, named: str) -> Pubkey:
        """The Node account that an id of this market, or an address, names. Raises NotFound for an unknown id."""
        if is_id("node", named):
            presence = self._registry.find(NodeId(named))
            if presence is None:
                raise NotFound("this market knows no such node; a node of another market is named by its address")
            return Pubkey.from_string(presence.node.address)
        try:
            return parse_address(named)
        except NotCanonical as error:
            raise NotFound("no such node: name it by its id, or by the address of its account") from error

    def node_id(self, node: Pubkey | str) -> NodeId | None:
        """What this market calls the node at an address; None for one that isn't registered here."""
        presence = self._registry.find_by_address(str(node))
        return None if presence is None else presence.node.id

    def operator_of(self, named: str) -> str | None:
        """The wallet that registered the node here; None for one that is named by its address, or unknown."""
        presence = self._registry.find(NodeId(named))
        return None if presence is None else presence.node.operator

    async def acting(self, owner: Pubkey, named: str) -> Acting:
        """What an action on a node starts from. Raises NotFound, Conflict for a node of ours without an account."""
        address = self.node_address(named)
        found = await self.accounts.find_acting(owner, address)
        if found is not None:
            return found
        if is_id("node", named):
            raise Conflict(
                "this node has no account on the chain: it was closed, or never registered there. Nothing was changed",
                extra={"state": "closed"},
            )
        raise NotFound("there is no such node on this chain")

    async def holdings(self, wallet: str) -> list[Holding]:
        """The wallet's positions. Raises ChainUnavailable."""
        pools = await self._store.read(lambda tx: StakeRows(tx).list_pools_of(wallet))
        if not pools:
            return []
        return await self.accounts.holdings(Pubkey.from_string(wallet), [Pubkey.from_string(pool) for pool in pools])

    async def positions(self, wallet: str) -> Positions:
        """With what they earned and would pay. Raises ChainUnavailable."""
        now = self._now()
        return Positions(wallet, tuple(self._position(holding, now) for holding in await self.holdings(wallet)))

    async def pools(self, sort: PoolSort, epochs: int) -> list[PoolSummary]:
        """Pools of this market's nodes that may be delegated to, as of the last look at the chain (seconds ago)."""
        first, last = self._past(epochs)
        rewards = await self._store.read(lambda tx: StakeRows(tx).rewards_by_pool(first, last))
        found = [
            self._summary(presence, rewards, last - first + 1)
            for presence in self._registry
            if presence.chain is not None and presence.chain.status != "retired"
        ]
        rate = self._link.facts.config.params.exposure_rate
        found.sort(key=lambda pool: (*_rank(pool, sort, rate), pool.node_id))
        return found

    async def pool(self, named: str) -> PoolDetails:
        """One pool as the chain holds it, with its recent epochs. Raises NotFound, ChainUnavailable."""
        address = self.node_address(named)
        state = await self.accounts.find_pool(address)
        if state is None:
            raise NotFound("there is no such node on this chain")
        now = self._now()
        epochs = self._link.epochs
        current = epochs.index_at(now)
        pool = str(state.address)
        past, known = await self._store.read(
            lambda tx: (
                StakeRows(tx).list_pool_epochs(pool, current - _SHOWN_EPOCHS, current),
                StakeRows(tx).find_pool(pool) is not None,
            )
        )
        params = self._link.facts.config.params
        klass = self._link.facts.classes.get(bytes(state.node.class_id).rstrip(b"\0").decode(errors="replace"))
        account = state.pool
        return PoolDetails(
            node_id=self.node_id(address),
            node=str(address),
            pool=pool,
            operator=str(state.node.operator),
            market=str(state.node.market),
            status=NodeStatus(state.node.status).name.lower(),
            dead=state.active.is_dead,
            stake=state.active.stake,
            shares=state.active.shares,
            bond=state.active.stake_for_floor(Shares(account.bond_shares)),
            bond_needed=Stake((klass.minimum_bond if klass is not None else 0) + state.node.held),
            commission_bps=state.commission(now),
            pending_commission=_pending(state, now),
            unbonding_stake=state.unbonding.stake,
            unbonding_shares=state.unbonding.shares,
            positions=account.positions,
            unclaimed_payment=Tokens(account.fees_unclaimed),
            unclaimed_stake=Stake(account.emission_unclaimed),
            exposure=Tokens(state.node.exposure),
            exposure_limit=exposure_limit_floor(state.active.stake, params.exposure_rate, params.exposure_multiple),
            uptime_factor=_uptime(state.node.epochs, current),
            epochs=tuple(_node_epoch(slot) for slot in _newest(state.node.epochs, current)),
            rewards=tuple(
                PoolEpochRewards(
                    epoch=row.epoch,
                    payment=Tokens(row.fees - row.fees_commission),
                    stake=Stake(row.emission - row.emission_commission),
                    payment_commission=Tokens(row.fees_commission),
                    stake_commission=Stake(row.emission_commission),
                )
                for row in reversed(past)
                if row.fees or row.emission
            ),
            history_complete=known,
        )

    async def history(self, wallet: str, limit: int, offset: int) -> HistoryPage:
        """The wallet's own actions and what they paid, the newest first."""

        def read(tx: Transaction) -> HistoryPage:
            rows = StakeRows(tx)
            found = rows.list_history(wallet, limit, offset)
            pools = {event.pool: rows.find_pool(event.pool) for event in found if event.pool is not None}
            entries = tuple(
                HistoryEntry(event, None if (pool := pools.get(event.pool or "")) is None else pool.node)
                for event in found
            )
            return HistoryPage(entries, rows.count_history(wallet))

        return await self._store.read(read)

    async def epochs(self, limit: int, offset: int) -> EpochsPage:
        """Epochs of the emission, the newest first, and where the schedule stands. Raises ChainUnavailable."""
        emission, page = await asyncio.gather(
            self._emission_now(),
            self._store.read(lambda tx: (StakeRows(tx).list_epochs(limit, offset), StakeRows(tx).count_epochs())),
        )
        return EpochsPage(emission, tuple(page[0]), page[1])

    async def epoch(self, index: int) -> EpochDetails:
        """One epoch with the weights registered for it and what was drawn. Raises NotFound."""

        def read(tx: Transaction) -> EpochDetails | None:
            rows = StakeRows(tx)
            found = rows.find_epoch(index)
            if found is None:
                return None
            weights: dict[str, Weight] = {}
            for event in rows.list_weights(index, index):
                pool = event.pool or ""
                before = weights.get(pool, Weight(pool, None, Stake(0), None))
                if event.kind is StakeKind.WEIGHT:
                    known = rows.find_pool(pool)
                    weights[pool] = Weight(pool, known.node if known else None, Stake(event.stake), before.drawn)
                else:
                    weights[pool] = Weight(pool, before.node, before.weight, Stake(event.stake))
            return EpochDetails(found, tuple(sorted(weights.values(), key=lambda w: (-w.weight, w.pool))))

        found = await self._store.read(read)
        if found is None:
            raise NotFound("nobody registered for this epoch, and nobody closed it")
        return found

    def epoch_bounds(self, index: int) -> tuple[Millis, Millis]:
        """When an epoch begins, and ends."""
        clock = self._link.epochs
        return clock.begins_at(index), clock.begins_at(index + 1)

    async def epoch_account(self, index: int) -> EpochAccount:
        """The epoch's account. Raises StaleEpoch once it is gone, TooEarly before anybody registered."""
        (found,) = await StakeReader(self._link.reader).find_epochs([index])
        if found is not None:
            return found
        current = self._link.epochs.index_at(self._now())
        if index + 1 < current:
            raise StaleEpoch(extra={"epoch": current})
        raise TooEarly("nobody has registered a weight for this epoch yet; nothing was changed")

    async def simulate(self, named: str, amount: str, epochs: int) -> Simulated:
        """What this stake would have earned in the last `epochs` whole epochs.

        Raises Invalid, NotFound, Conflict where the pool's history isn't in the books, ChainUnavailable.
        """
        stake = Stake(parse_positive_amount("amount", amount, self.units.stake))
        address = self.node_address(named)
        state = await self.accounts.find_pool(address)
        if state is None:
            raise NotFound("there is no such node on this chain")
        if state.active.is_dead:
            raise Conflict("the pool is dead: nothing could be staked on it", extra={"state": "dead"})
        first, last = self._past(epochs)
        pool = str(state.address)

        def read(tx: Transaction) -> Simulated | None:
            rows = StakeRows(tx)
            known = rows.find_pool(pool)
            # Without its first commission nobody can say what of a fee went to its stakers.
            if known is None or known.commission_bps is None:
                return None
            opening = rows.stake_before(pool, first)
            lived = replay(stake, *opening, rows.list_pool_events(pool, first, last), range(first, last + 1))
            return Simulated(self.node_id(address), str(address), pool, stake, first, last, lived)

        try:
            found = await self._store.read(read)
        except AmountOverflow as error:
            raise Invalid.field("amount", DetailCode.OUT_OF_RANGE, "is more than the pool could hold") from error
        if found is None:
            raise Conflict(
                "this market's records begin after the pool's first events: what it earned before isn't known here",
                extra={"state": "unrecorded"},
            )
        if found.lived.entered and not found.lived.shares:
            raise Invalid.field("amount", DetailCode.OUT_OF_RANGE, "is too small for one share")
        return found

    def _past(self, epochs: int) -> tuple[int, int]:
        """The last whole epochs, both ends included; an empty range (first > last) before the first has ended."""
        current = self._link.epochs.index_at(self._now())
        return max(0, current - epochs), current - 1

    async def _emission_now(self) -> EmissionNow:
        state = await StakeReader(self._link.reader).emission()
        config = state.config
        clock = self._link.epochs
        current = clock.index_at(Millis(state.now_ms))
        return EmissionNow(
            epoch=current,
            begins_at=clock.begins_at(current),
            ends_at=clock.begins_at(current + 1),
            next_to_close=config.next_epoch,
            scheduled=Stake(config.scheduled_emission),
            vault=Stake(state.vault),
            committed=Stake(config.committed_emission),
            distributed=Stake(config.distributed_emission),
        )

    def _position(self, holding: Holding, now: Millis) -> Position:
        state = holding.state
        current = self._link.epochs.index_at(now)
        return Position(
            node_id=self.node_id(state.node_address),
            node=str(state.node_address),
            pool=str(state.address),
            bond=holding.position is not None and holding.position.is_operator,
            stake=holding.staked,
            shares=holding.shares,
            value_now=holding.worth_withdrawn,
            pending_payment=holding.pending_payment,
            pending_stake=holding.pending_stake,
            pool_shares=state.active.shares,
            commission_bps=state.commission(now),
            pending_commission=_pending(state, now),
            uptime_factor=_uptime(state.node.epochs, current),
            status=NodeStatus(state.node.status).name.lower(),
            tickets=tuple(
                TicketView(
                    id=str(ticket.address),
                    index=ticket.account.index,
                    shares=ticket.account.shares,
                    value_now=holding.ticket_worth(ticket),
                    unlock_at=Millis(ticket.account.unlock_at),
                    ready=ticket.ready(now),
                )
                for ticket in holding.tickets
            ),
        )

    def _summary(self, presence: Presence, rewards: dict[str, PoolRewards], epochs: int) -> PoolSummary:
        chain, node = presence.chain, presence.node
        assert chain is not None  # noqa: S101 - the caller left out those without
        pool = str(self._link.calls.addresses.pool(Pubkey.from_string(node.address)))
        earned = rewards.get(pool, PoolRewards(0, 0))
        return PoolSummary(
            node_id=node.id,
            node=node.address,
            pool=pool,
            name=node.name,
            class_id=node.class_id,
            region=region_of(node.region),
            operator=node.operator,
            status=chain.status,
            stake=chain.stake,
            bond=chain.bond,
            commission_bps=chain.commission_bps,
            reputation=reputation(chain.record),
            uptime=uptime(self._clock.now(), node.joined_at_ms, presence.down_ms),
            exposure=chain.exposure,
            exposure_limit=chain.exposure_limit,
            epochs=max(0, epochs),
            payment=Tokens(earned.fees),
            emission=Stake(earned.emission),
        )


def _rank(pool: PoolSummary, sort: PoolSort, rate: int) -> tuple[Fraction | int]:
    match sort:
        case "yield":
            # Rewards of both tokens at the published rate, for each unit of stake.
            return (-(pool.payment * 1_000_000 + pool.emission * rate) // max(1, pool.stake),)
        case "stake":
            return (-pool.stake,)
        case "commission":
            return (pool.commission_bps,)
        case "uptime":
            return (-pool.uptime,)
        case "free_exposure":
            return (-pool.free_exposure,)


def _pending(state: PoolState, now: Millis) -> PendingCommission | None:
    pool = state.pool
    if not pool.pending_commission_at or now >= pool.pending_commission_at:
        return None
    return PendingCommission(Bps(pool.pending_commission_bps), Millis(pool.pending_commission_at))


def _newest(slots: Sequence[EpochSlot], current: int) -> list[EpochSlot]:
    """Slots that say something, the newest first. A slot of epoch 0 without amounts was never used."""

    def says(slot: EpochSlot) -> bool:
        taken = slot.compensated + slot.slashed_active + slot.slashed_unbonding
        return bool(slot.epoch or slot.well or slot.lost or taken)

    used = [slot for slot in slots if slot.epoch <= current and says(slot)]
    return sorted(used, key=lambda slot: -slot.epoch)


def _uptime(slots: Sequence[EpochSlot], current: int) -> Uptime | None:
    """The factor of the newest epoch with attempts; None without any."""
    for slot in _newest(slots, current):
        if slot.well + slot.lost:
            return Uptime(slot.epoch, slot.well, slot.lost)
    return None


def _node_epoch(slot: EpochSlot) -> NodeEpoch:
    return NodeEpoch(
        epoch=slot.epoch,
        well=Tokens(slot.well),
        lost=Tokens(slot.lost),
        protocol_fees=Tokens(slot.protocol_fees),
        compensated=Stake(slot.compensated),
        slashed=Stake(slot.slashed_active + slot.slashed_unbonding),
        weight=Stake(slot.weight),
        registered=slot.registered,
        distributed=slot.distributed,
    )
