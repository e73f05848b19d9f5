"""`/v1/stake`: positions, pools, history, epochs; a delegator's acts, to be signed. Source: api.md section 5.6."""

from marketplace.api.fields import Page
from marketplace.api.native.stake_bodies import (
    ClaimRequest,
    DelegateRequest,
    DistributeRequest,
    EpochDetailsResponse,
    EpochPath,
    EpochResponse,
    EpochsResponse,
    HistoryResponse,
    PoolsQuery,
    PoolsResponse,
    PositionsQuery,
    PositionsResponse,
    PreparedStakeResponse,
    SimulatedResponse,
    SimulateRequest,
    StakeShapes,
    UnbondRequest,
    WithdrawRequest,
)
from marketplace.api.routes import Call, Route, reading, scope
from marketplace.errors import (
    ChainUnavailable,
    Conflict,
    DetailCode,
    InsufficientFunds,
    InsufficientStake,
    Invalid,
    NotFound,
    NothingToClaim,
    PoolDead,
    StaleEpoch,
    Starting,
    TooEarly,
    TransactionRejected,
)
from marketplace.services.principals import Scope
from marketplace.services.stake import StakeService
from marketplace.services.stake_actions import Asked, StakeActions, UnbondWanted
from marketplace.store.stake import StakeEpoch


def stake_routes(stake: StakeService, actions: StakeActions) -> list[Route]:
    """Read and act."""
    return [*_accounts_read(stake), *_epochs_read(stake), *_acts(stake, actions)]


def _accounts_read(stake: StakeService) -> list[Route]:
    """Positions, pools, history."""

    def shapes() -> StakeShapes:
        return StakeShapes(stake.units)

    async def positions(call: Call, query: PositionsQuery) -> PositionsResponse:
        return shapes().positions(await stake.positions(query.wallet or call.account.wallet))

    async def pools(call: Call, query: PoolsQuery) -> PoolsResponse:
        del call
        found = await stake.pools(query.sort, query.epochs)
        page = found[query.offset : query.offset + query.limit]
        return PoolsResponse(
            pools=[shapes().pool(pool) for pool in page],
            total=len(found),
            has_more=query.offset + len(page) < len(found),
        )

    async def history(call: Call, query: Page) -> HistoryResponse:
        found = await stake.history(call.account.wallet, query.limit, query.offset)
        shape = shapes()
        return HistoryResponse(
            history=[
                shape.history_entry(entry, None if entry.node is None else stake.node_id(entry.node))
                for entry in found.entries
            ],
            total=found.total,
            has_more=query.offset + len(found.entries) < found.total,
            currency=shape.units.currency,
        )

    chain = (ChainUnavailable, Starting)
    read = reading(Scope.STAKE)
    return [
        Route("GET", "/v1/stake/positions", positions, "A wallet's positions and their rewards", read, errors=chain),
        Route("GET", "/v1/stake/pools", pools, "Pools to stake on", read, errors=(Starting,)),
        Route("GET", "/v1/stake/history", history, "The wallet's own actions and rewards", read, errors=(Starting,)),
    ]


def _epochs_read(stake: StakeService) -> list[Route]:
    """Epochs, and what they would have brought."""

    def shapes() -> StakeShapes:
        return StakeShapes(stake.units)

    def epoch_response(epoch: StakeEpoch) -> EpochResponse:
        begins_at, ends_at = stake.epoch_bounds(epoch.epoch)
        return shapes().epoch(epoch, begins_at, ends_at)

    async def epochs(call: Call, query: Page) -> EpochsResponse:
        del call
        found = await stake.epochs(query.limit, query.offset)
        return EpochsResponse(
            epochs=[epoch_response(epoch) for epoch in found.epochs],
            total=found.total,
            has_more=query.offset + len(found.epochs) < found.total,
            current=shapes().emission(found.now),
        )

    async def epoch(call: Call, epoch: EpochPath) -> EpochDetailsResponse:
        del call
        found = await stake.epoch(epoch)
        weights = [
            shapes().weight(weight, None if weight.node is None else stake.node_id(weight.node))
            for weight in found.weights
        ]
        return EpochDetailsResponse(**epoch_response(found.epoch).__dict__, weights=weights)

    async def simulate(call: Call, body: SimulateRequest) -> SimulatedResponse:
        del call
        return shapes().simulated(await stake.simulate(body.node_id, body.amount, body.epochs))

    chain = (ChainUnavailable, Starting)
    read = reading(Scope.STAKE)
    return [
        Route("GET", "/v1/stake/epochs", epochs, "Epochs of the emission", read, errors=chain),
        Route("GET", "/v1/stake/epochs/{epoch}", epoch, "An epoch with its weights", read, errors=(NotFound, *chain)),
        Route(
            "POST", "/v1/stake/simulate", simulate, "What a stake would have earned", read,
            errors=(Invalid, NotFound, Conflict, *chain),
        ),
    ]  # fmt: skip


def _acts(stake: StakeService, actions: StakeActions) -> list[Route]:
    """What a delegator does."""

    def shapes() -> StakeShapes:
        return StakeShapes(stake.units)

    def asked(call: Call) -> Asked:
        return Asked(call.account, call.idempotency)

    async def delegate(call: Call, body: DelegateRequest) -> PreparedStakeResponse:
        found = await actions.delegate(asked(call), body.node_id, body.amount, body.mint)
        return shapes().prepared(found)

    async def claim(call: Call, body: ClaimRequest) -> PreparedStakeResponse:
        _exactly_one({"node_id": body.node_id is not None, "all": body.all})
        return shapes().prepared(await actions.claim(asked(call), body.node_id))

    async def unbond(call: Call, body: UnbondRequest) -> PreparedStakeResponse:
        _exactly_one({"amount": body.amount is not None, "shares": body.shares is not None, "all": body.all})
        wanted = UnbondWanted(body.amount, body.shares, body.all)
        return shapes().prepared(await actions.unbond(asked(call), body.node_id, wanted))

    async def withdraw(call: Call, body: WithdrawRequest) -> PreparedStakeResponse:
        _exactly_one({"ticket_id": body.ticket_id is not None, "all": body.all})
        return shapes().prepared(await actions.withdraw(asked(call), body.ticket_id))

    async def distribute(call: Call, body: DistributeRequest) -> PreparedStakeResponse:
        return shapes().prepared(await actions.distribute(asked(call), body.node_id, body.epoch))

    chain = (ChainUnavailable, Starting)
    common = (Invalid, NotFound, TransactionRejected, *chain)
    acting = (
        ("delegate", delegate, "Stake on a node", (Conflict, PoolDead, InsufficientFunds, *common)),
        ("claim", claim, "Pay out rewards", (NothingToClaim, *common)),
        ("unbond", unbond, "Take stake out of a pool", (Conflict, InsufficientStake, *common)),
        ("withdraw", withdraw, "Pay out what was unbonded", (TooEarly, NothingToClaim, *common)),
        ("distribute", distribute, "Draw a pool's part of an epoch", (StaleEpoch, TooEarly, Conflict, *common)),
    )
    return [
        Route(
            "POST", f"/v1/stake/{word}", handler, f"{summary}; to be signed", scope(Scope.STAKE),
            idempotent=True, keep_answer=False, errors=errors,
        )
        for word, handler, summary, errors in acting
    ]  # fmt: skip


def _exactly_one(given: dict[str, bool]) -> None:
    """Raises Invalid unless exactly one of the named fields is given."""
    named = [name for name, is_given in given.items() if is_given]
    if len(named) == 1:
        return
    if not named:
        raise Invalid.field(next(iter(given)), DetailCode.REQUIRED, f"one of {', '.join(given)} is needed")
    raise Invalid.field(named[-1], DetailCode.CONFLICT, f"only one of {', '.join(given)} can be given")
