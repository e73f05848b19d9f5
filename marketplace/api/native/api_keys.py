"""`/v1/api-keys`: credentials for programs. Source: api.md section 4.5."""

from collections.abc import Callable
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from marketplace.api.fields import (
    AmountText,
    DecimalText,
    InstantText,
    KeyIdPath,
    MillisInstant,
    Page,
    RequestModel,
    ResponseModel,
    field_error,
)
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.ids import KeyId
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Tokens
from marketplace.errors import DetailCode, Forbidden, Invalid, NotFound, QuotaExceeded
from marketplace.services.api_keys import ApiKeyService, KeyUse, NewKey
from marketplace.services.principals import KeyRate, Scope
from marketplace.services.vaults import parse_positive_amount
from marketplace.store.api_keys import ApiKey


class SpendLimitRequest(RequestModel):
    per_day: AmountText | None = None
    total: AmountText | None = None

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.per_day is None and self.total is None:
            raise field_error(DetailCode.REQUIRED, "give per_day, total or both")
        return self


class ApiKeyRequest(RequestModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    expires_at: InstantText | None = None
    rate_class: KeyRate = KeyRate.CLIENT
    spend_limit: SpendLimitRequest | None = None


class SpendLimitView(ResponseModel):
    """spent: settled, and held for jobs that are not settled yet."""

    per_day: DecimalText | None
    total: DecimalText | None
    spent_today: DecimalText
    spent: DecimalText
    currency: str


class ApiKeyView(ResponseModel):
    id: str
    name: str
    prefix: str
    scopes: list[str]
    created_at: MillisInstant
    expires_at: MillisInstant | None
    last_used_at: MillisInstant | None
    rate_class: str
    spend_limit: SpendLimitView | None


class MadeApiKeyView(ResponseModel):
    """key: shown once; null when this answer is repeated later than five minutes."""

    id: str
    name: str
    key: str | None
    prefix: str
    scopes: list[str]
    created_at: MillisInstant
    expires_at: MillisInstant | None
    rate_class: str
    spend_limit: SpendLimitView | None


class ApiKeyList(ResponseModel):
    api_keys: list[ApiKeyView]
    total: int
    has_more: bool


def api_key_routes(keys: ApiKeyService, decimals: Callable[[], int], currency: str) -> list[Route]:
    """Make, list, delete. decimals: of the payment token; raises Starting before the chain was read."""

    def limit_view(key: ApiKey, today: Tokens) -> SpendLimitView | None:
        if key.per_day is None and key.total is None:
            return None
        places = decimals()
        return SpendLimitView(
            per_day=None if key.per_day is None else format_amount(key.per_day, places),
            total=None if key.total is None else format_amount(key.total, places),
            spent_today=format_amount(today, places),
            spent=format_amount(key.spent, places),
            currency=currency,
        )

    def view(use: KeyUse) -> ApiKeyView:
        key = use.key
        return ApiKeyView(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            scopes=key.scopes.split(),
            created_at=key.created_at,
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            rate_class=key.rate_class,
            spend_limit=limit_view(key, use.spent_today),
        )

    def cap(name: str, text: str | None) -> Tokens | None:
        return None if text is None else parse_positive_amount(f"spend_limit.{name}", text, decimals())

    async def create(call: Call, body: ApiKeyRequest) -> Reply[MadeApiKeyView]:
        limit = body.spend_limit
        wanted = NewKey(
            name=body.name,
            scopes=frozenset(body.scopes),
            rate=body.rate_class,
            expires_at=body.expires_at,
            per_day=None if limit is None else cap("per_day", limit.per_day),
            total=None if limit is None else cap("total", limit.total),
        )
        key, secret, made = await keys.create(call.account, call.idempotency, wanted)
        answer = MadeApiKeyView(
            id=key.id,
            name=key.name,
            key=secret,
            prefix=key.prefix,
            scopes=key.scopes.split(),
            created_at=key.created_at,
            expires_at=key.expires_at,
            rate_class=key.rate_class,
            spend_limit=limit_view(key, Tokens(0)),
        )
        return Reply(answer, status=201, headers={} if made else {"Idempotent-Replayed": "true"})

    async def list_keys(call: Call, query: Page) -> ApiKeyList:
        found, total = await keys.list_keys(call.account_id, limit=query.limit, offset=query.offset)
        return ApiKeyList(
            api_keys=[view(use) for use in found], total=total, has_more=query.offset + len(found) < total
        )

    async def delete_key(call: Call, key_id: KeyIdPath) -> None:
        await keys.delete(call.account_id, KeyId(key_id))

    return [
        Route(
            "POST", "/v1/api-keys", create, "Make an API key; it is shown this once", scope(Scope.KEYS), status=201,
            idempotent=True, keep_answer=False, secrets=("key",), errors=(Invalid, Forbidden, QuotaExceeded),
        ),
        Route("GET", "/v1/api-keys", list_keys, "API keys of the account", reading(Scope.KEYS)),
        Route(
            "DELETE", "/v1/api-keys/{key_id}", delete_key, "Delete an API key", scope(Scope.KEYS), status=204,
            errors=(NotFound,),
        ),
    ]  # fmt: skip
