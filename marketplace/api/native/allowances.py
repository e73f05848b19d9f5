"""`/v1/allowance`: leave for this market to spend within caps. Source: api.md section 5.7."""

from marketplace.api.fields import AmountText, DecimalText, InstantText, RequestModel, ResponseModel, SecondsInstant
from marketplace.api.native.prepared import PreparedResponse, prepared_response
from marketplace.api.routes import Call, Route, reading, scope
from marketplace.domain.money import format_amount
from marketplace.errors import ChainUnavailable, Invalid, NotFound, Starting, TransactionRejected
from marketplace.services.allowances import AllowanceService, AllowanceView, RequestedAllowance
from marketplace.services.principals import Scope


class AllowanceEntry(ResponseModel):
    address: str
    market: str
    matcher: str
    per_job: DecimalText
    per_day: DecimalText
    used_today: DecimalText
    day_resets_at: SecondsInstant
    total: DecimalText
    used_total: DecimalText
    max_price_per_hour: DecimalText
    expires_at: SecondsInstant
    state: str
    currency: str


class AllowanceList(ResponseModel):
    allowances: list[AllowanceEntry]


class GrantRequest(RequestModel):
    """Caps in the payment token. expires_at: RFC 3339."""

    per_job: AmountText
    per_day: AmountText
    total: AmountText
    max_price_per_hour: AmountText
    expires_at: InstantText


def allowance_routes(allowances: AllowanceService) -> list[Route]:
    """List, grant, revoke."""

    def entry(view: AllowanceView) -> AllowanceEntry:
        decimals = allowances.decimals
        return AllowanceEntry(
            address=view.address,
            market=view.market,
            matcher=view.matcher,
            per_job=format_amount(view.per_job, decimals),
            per_day=format_amount(view.per_day, decimals),
            used_today=format_amount(view.used_today, decimals),
            day_resets_at=view.day_resets_at,
            total=format_amount(view.total, decimals),
            used_total=format_amount(view.used_total, decimals),
            max_price_per_hour=format_amount(view.max_price_per_hour, decimals),
            expires_at=view.expires_at,
            state=view.state.value,
            currency=allowances.currency,
        )

    async def list_allowances(call: Call) -> AllowanceList:
        views = await allowances.list_for_wallet(call.account.wallet)
        return AllowanceList(allowances=[entry(view) for view in views])

    async def grant(call: Call, body: GrantRequest) -> PreparedResponse:
        asked = RequestedAllowance(
            per_job=body.per_job,
            per_day=body.per_day,
            total=body.total,
            max_price_per_hour=body.max_price_per_hour,
            expires_at=body.expires_at,
        )
        return prepared_response(await allowances.prepare_grant(call.account, call.idempotency, asked))

    async def revoke(call: Call) -> PreparedResponse:
        return prepared_response(await allowances.prepare_revocation(call.account, call.idempotency))

    chain = (ChainUnavailable, Starting)
    return [
        Route("GET", "/v1/allowance", list_allowances, "Allowances of the wallet", reading(Scope.MONEY), errors=chain),
        Route(
            "POST",
            "/v1/allowance",
            grant,
            "A grant to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(Invalid, TransactionRejected, *chain),
        ),
        Route(
            "DELETE",
            "/v1/allowance",
            revoke,
            "A revocation to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(NotFound, TransactionRejected, *chain),
        ),
    ]
