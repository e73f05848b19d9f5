"""`/v1/webhooks`: events sent to a URL, signed, tried again for a day, replayed. Source: api.md section 5.9."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from marketplace.api.fields import (
    InstantText,
    MillisInstant,
    Page,
    RequestModel,
    ResponseModel,
    WebhookIdPath,
    field_error,
)
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.ids import WebhookId
from marketplace.domain.quantities import Millis
from marketplace.domain.webhooks import Delivery, Webhook
from marketplace.errors import Conflict, CursorExpired, DetailCode, Invalid, NotFound, QuotaExceeded
from marketplace.services.principals import Scope
from marketplace.services.webhooks import Rotated, WebhookChanges, WebhookService
from marketplace.store.events import Event

Url = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Patterns = Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=64)]
Description = Annotated[str, StringConstraints(max_length=256)]


def _cursor(text: str) -> str:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise field_error(DetailCode.NOT_ALLOWED, "must be a cursor of the feed, such as 1250")
    return text


class WebhookRequest(RequestModel):
    """events: types and patterns such as job.*; all of them by default."""

    url: Url
    events: Patterns = Field(default_factory=lambda: ["*"])
    description: Description = ""
    active: bool = True


class WebhookPatch(RequestModel):
    """What is to change."""

    url: Url | None = None
    events: Patterns | None = None
    description: Description | None = None
    active: bool | None = None


class ReplayRequest(RequestModel):
    """after: a cursor; from: an instant. One of them."""

    after: Annotated[str, AfterValidator(_cursor)] | None = None
    since: InstantText | None = Field(default=None, alias="from")

    @model_validator(mode="after")
    def _one_start(self) -> "ReplayRequest":
        if (self.after is None) == (self.since is None):
            raise Invalid.field("after", DetailCode.CONFLICT, "give one of after (a cursor) and from (an instant)")
        return self


class WebhookView(ResponseModel):
    """disabled_reason: why the market stopped: gone (410), or unreachable for a day."""

    id: str
    url: str
    events: list[str]
    active: bool
    created_at: MillisInstant
    description: str
    updated_at: MillisInstant
    last_delivered_at: MillisInstant | None
    disabled_reason: str | None


class CreatedWebhook(ResponseModel):
    """secret: shown here and never again."""

    id: str
    url: str
    events: list[str]
    active: bool
    secret: str
    created_at: MillisInstant
    description: str


class WebhookList(ResponseModel):
    webhooks: list[WebhookView]
    total: int
    has_more: bool


class SecretView(ResponseModel):
    """old_secret_until: how long the secret before signs too."""

    secret: str
    old_secret_until: MillisInstant | None


class DeliveryView(ResponseModel):
    """attempts: made so far. last_status: what the receiver answered; null when it didn't, then last_error says why."""

    event_id: str | None
    cursor: str
    type: str | None
    state: str
    attempts: int
    queued_at: MillisInstant
    next_attempt_at: MillisInstant | None
    last_attempt_at: MillisInstant | None
    last_status: int | None
    last_error: str | None


class DeliveryList(ResponseModel):
    deliveries: list[DeliveryView]
    total: int
    has_more: bool


class ReplayView(ResponseModel):
    """queued: how many events. until: the cursor up to which; later ones come by themselves."""

    queued: int
    until: str


def webhook_routes(webhooks: WebhookService) -> list[Route]:  # noqa: C901 - a function for each route
    """Everything of webhooks."""

    async def create(call: Call, body: WebhookRequest) -> Reply[CreatedWebhook]:
        webhook, secret = await webhooks.create(
            call.account_id, url=body.url, patterns=body.events, description=body.description, active=body.active
        )
        made = CreatedWebhook(
            id=webhook.id,
            url=webhook.url,
            events=list(webhook.patterns),
            active=webhook.active,
            secret=secret,
            created_at=Millis(webhook.created_at_ms),
            description=webhook.description,
        )
        return Reply(made, status=201, headers={"Location": f"/v1/webhooks/{webhook.id}"})

    async def list_webhooks(call: Call, query: Page) -> WebhookList:
        found = await webhooks.list_own(call.account_id)
        page = found[query.offset : query.offset + query.limit]
        return WebhookList(
            webhooks=[_view(webhook) for webhook in page],
            total=len(found),
            has_more=query.offset + len(page) < len(found),
        )

    async def get(call: Call, webhook_id: WebhookIdPath) -> WebhookView:
        return _view(await webhooks.get(call.account_id, WebhookId(webhook_id)))

    async def patch(call: Call, webhook_id: WebhookIdPath, body: WebhookPatch) -> WebhookView:
        changes = WebhookChanges(body.url, body.events, body.description, body.active)
        return _view(await webhooks.update(call.account_id, WebhookId(webhook_id), changes))

    async def delete(call: Call, webhook_id: WebhookIdPath) -> None:
        await webhooks.delete(call.account_id, WebhookId(webhook_id))

    async def rotate(call: Call, webhook_id: WebhookIdPath) -> SecretView:
        return _secret(await webhooks.rotate(call.account_id, WebhookId(webhook_id)))

    async def rotate_default(call: Call) -> SecretView:
        return _secret(await webhooks.rotate_default(call.account_id))

    async def test(call: Call, webhook_id: WebhookIdPath) -> DeliveryView:
        return _delivery(*await webhooks.test(call.account_id, WebhookId(webhook_id)))

    async def list_deliveries(call: Call, webhook_id: WebhookIdPath, query: Page) -> DeliveryList:
        found, total = await webhooks.list_deliveries(
            call.account_id, WebhookId(webhook_id), limit=query.limit, offset=query.offset
        )
        return DeliveryList(
            deliveries=[_delivery(delivery, event) for delivery, event in found],
            total=total,
            has_more=query.offset + len(found) < total,
        )

    async def replay(call: Call, webhook_id: WebhookIdPath, body: ReplayRequest) -> ReplayView:
        queued, until = await webhooks.replay(
            call.account_id,
            WebhookId(webhook_id),
            after=None if body.after is None else int(body.after),
            since_ms=body.since,
        )
        return ReplayView(queued=queued, until=str(until))

    write, one = scope(Scope.WEBHOOKS), "/v1/webhooks/{webhook_id}"
    return [
        Route(
            "POST", "/v1/webhooks", create, "Have events sent to a URL", write, status=201, idempotent=True,
            secrets=("secret",), errors=(Invalid, QuotaExceeded),
        ),
        Route("GET", "/v1/webhooks", list_webhooks, "Webhooks of the account", reading(Scope.WEBHOOKS)),
        Route(
            "POST", "/v1/webhooks/default-secret", rotate_default,
            "A new secret for webhooks that jobs name; the one before signs too for a day", write,
            idempotent=True, secrets=("secret",),
        ),
        Route("GET", one, get, "A webhook", reading(Scope.WEBHOOKS), errors=(NotFound,)),
        Route("PATCH", one, patch, "Change a webhook", write, errors=(NotFound, Invalid)),
        Route(
            "POST", f"{one}/rotate", rotate, "A new secret; the one before signs too for a day", write,
            idempotent=True, secrets=("secret",), errors=(NotFound,),
        ),
        Route("POST", f"{one}/test", test, "Deliver a test event now", write, errors=(NotFound, Conflict)),
        Route(
            "GET", f"{one}/deliveries", list_deliveries, "What was delivered, and what is to be",
            reading(Scope.WEBHOOKS),
            errors=(NotFound,),
        ),
        Route(
            "POST", f"{one}/replay", replay, "Deliver past events again, from a cursor or an instant", write,
            status=202, errors=(NotFound, Conflict, CursorExpired, Invalid),
        ),
        Route("DELETE", one, delete, "Delete a webhook and what is queued for it", write, status=204,
              errors=(NotFound,)),
    ]  # fmt: skip


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=list(webhook.patterns),
        active=webhook.active,
        created_at=Millis(webhook.created_at_ms),
        description=webhook.description,
        updated_at=Millis(webhook.updated_at_ms),
        last_delivered_at=_instant(webhook.delivered_at_ms),
        disabled_reason=None if webhook.disabled_reason is None else webhook.disabled_reason.value,
    )


def _secret(rotated: Rotated) -> SecretView:
    return SecretView(secret=rotated.secret, old_secret_until=_instant(rotated.old_until_ms))


def _delivery(delivery: Delivery, event: Event | None) -> DeliveryView:
    return DeliveryView(
        event_id=None if event is None else event.id,
        cursor=str(delivery.cursor),
        type=None if event is None else event.type,
        state=delivery.state.value,
        attempts=delivery.attempts,
        queued_at=Millis(delivery.created_at_ms),
        next_attempt_at=_instant(delivery.due_at_ms),
        last_attempt_at=_instant(delivery.last_at_ms),
        last_status=delivery.last_status,
        last_error=delivery.last_error,
    )


def _instant(at_ms: int | None) -> Millis | None:
    return None if at_ms is None else Millis(at_ms)
