"""Webhooks of one account."""

from marketplace.client.account_models import Delivery, DeliveryList, Replay, Webhook, WebhookList, WebhookSecret
from marketplace.client.calls import Calls, page, segment

_WEBHOOKS = "/v1/webhooks"


class WebhookCalls:
    """Make, change, test, replay."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, url: str, *, events: tuple[str, ...] = ("*",), description: str = "") -> Webhook:
        """A new one; its secret is in this answer and never again."""
        body = {"url": url, "events": list(events), "description": description}
        return (await self._calls.send("POST", _WEBHOOKS, body)).read(Webhook)

    async def list_webhooks(self, *, limit: int | None = None, offset: int | None = None) -> WebhookList:
        """Own webhooks."""
        return (await self._calls.get(_WEBHOOKS, page(limit, offset))).read(WebhookList)

    async def get(self, webhook_id: str) -> Webhook:
        """One."""
        return (await self._calls.get(_at(webhook_id))).read(Webhook)

    async def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: tuple[str, ...] | None = None,
        description: str | None = None,
        active: bool | None = None,
    ) -> Webhook:
        """Change what is given."""
        given = {
            "url": url,
            "events": None if events is None else list(events),
            "description": description,
            "active": active,
        }
        body = {name: value for name, value in given.items() if value is not None}
        return (await self._calls.send("PATCH", _at(webhook_id), body)).read(Webhook)

    async def delete(self, webhook_id: str) -> None:
        """Send nothing more there."""
        await self._calls.send("DELETE", _at(webhook_id), None)

    async def rotate(self, webhook_id: str) -> WebhookSecret:
        """A new secret; the old one signs too for a day."""
        return (await self._calls.send("POST", f"{_at(webhook_id)}/rotate", None)).read(WebhookSecret)

    async def default_secret(self) -> WebhookSecret:
        """The secret that signs what goes to a job's own `webhook` URL; a new one, the old one signs too for a day."""
        return (await self._calls.send("POST", f"{_WEBHOOKS}/default-secret", None)).read(WebhookSecret)

    async def test(self, webhook_id: str) -> Delivery:
        """Send an event that says only that it is a test."""
        return (await self._calls.send("POST", f"{_at(webhook_id)}/test", None)).read(Delivery)

    async def deliveries(self, webhook_id: str, *, limit: int | None = None, offset: int | None = None) -> DeliveryList:
        """What was sent, and what waits."""
        return (await self._calls.get(f"{_at(webhook_id)}/deliveries", page(limit, offset))).read(DeliveryList)

    async def replay(self, webhook_id: str, *, after: str | None = None, since: str | None = None) -> Replay:
        """Send again what came after a cursor, or since an instant (RFC 3339); give one."""
        body = {name: value for name, value in (("after", after), ("from", since)) if value is not None}
        return (await self._calls.send("POST", f"{_at(webhook_id)}/replay", body)).read(Replay)


def _at(webhook_id: str) -> str:
    return f"{_WEBHOOKS}/{segment(webhook_id)}"
