"""Webhooks as their owners make and keep them. Source: api.md section 5.9; docs/events.md.

A job may name a URL of its own: a webhook that hears of that job only, signed with the account's default secret.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from marketplace.domain.destinations import Reach
from marketplace.domain.events import EventType, UnknownPattern, matching_types
from marketplace.domain.ids import AccountId, WebhookId
from marketplace.domain.webhooks import Delivery, Webhook
from marketplace.errors import Conflict, DetailCode, Invalid, NotFound, QuotaExceeded
from marketplace.outgoing import DestinationRefused, check_url
from marketplace.protocol.webhook_signatures import SECRET_BYTES, secret_text
from marketplace.services.clock import Clock, Ids, RandomSource
from marketplace.services.feed import Feed
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret
from marketplace.store.engine import Store, Transaction
from marketplace.store.events import Event, EventFilter, Events
from marketplace.store.webhooks import Deliveries, Webhooks, WebhookSecret

MAX_WEBHOOKS: Final = 20
"""Of an account. Specified: api.md section 5.9."""
OLD_SECRET_MS: Final = 24 * 3_600_000
"""How long a rotated secret signs too. Specified: api.md section 5.9."""
_REPLAY_PAGE: Final = 500
"""Chosen: what one transaction queues."""
_TEST_WAIT_S: Final = 12.0
"""Longer than a delivery may take."""


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """What a PATCH names; None for what stays."""

    url: str | None = None
    patterns: Sequence[str] | None = None
    description: str | None = None
    active: bool | None = None


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new secret, shown once. old_until_ms: how long the one before signs too; None where there was none."""

    secret: str
    old_until_ms: int | None


class WebhookService:
    """Create, read, change, delete, rotate, test, replay."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        keeper: SecretKeeper,
        clock: Clock,
        random: RandomSource,
        ids: Ids,
        *,
        reach: Reach,
        queued: Callable[[], None],
        concluded: Callable[[WebhookId, int], asyncio.Future[None]],
    ) -> None:
        """queued: something is due now. concluded: done when a try of this webhook and cursor has ended."""
        self._store = store
        self._feed = feed
        self._keeper = keeper
        self._clock = clock
        self._random = random
        self._ids = ids
        self._reach = reach
        self._queued = queued
        self._concluded = concluded

    def check_url(self, url: str, field: str = "url") -> str:
        """The URL, when deliveries may go there. Raises Invalid."""
        try:
            check_url(url, self._reach)
        except DestinationRefused as refused:
            raise Invalid.field(field, DetailCode.NOT_ALLOWED, str(refused)) from refused
        return url

    async def create(
        self, account: AccountId, *, url: str, patterns: Sequence[str], description: str, active: bool
    ) -> tuple[Webhook, str]:
        """A new webhook and its secret. Raises Invalid, QuotaExceeded."""
        now = self._clock.now()
        webhook_id = WebhookId(self._ids.new("wh"))
        webhook = Webhook(
            id=webhook_id,
            account=account,
            url=self.check_url(url),
            patterns=_checked(patterns),
            description=description,
            active=active,
            secret_owner=webhook_id,
            since_cursor=0,
            created_at_ms=now,
            updated_at_ms=now,
        )
        secret = self._random.token_bytes(SECRET_BYTES)
        sealed = self._keeper.seal(secret_purpose(webhook_id), secret)

        def write(tx: Transaction) -> Webhook:
            if len(Webhooks(tx).list_own(account)) >= MAX_WEBHOOKS:
                raise QuotaExceeded(
                    f"an account has at most {MAX_WEBHOOKS} webhooks; delete one",
                    extra={"quota": "webhooks", "limit": MAX_WEBHOOKS},
                    retry_after_s=60,
                )
            created = replace(webhook, since_cursor=Events(tx).newest())
            Webhooks(tx).create(created)
            Webhooks(tx).put_secret(WebhookSecret(webhook_id, sealed.key_id, sealed.sealed))
            return created

        return await self._store.write(write), secret_text(secret)

    def create_for_job(self, tx: Transaction, account: AccountId, job_id: str, url: str) -> None:
        """The webhook that a job's body named, in the transaction that writes the job. The URL was checked."""
        now = self._clock.now()
        if Webhooks(tx).find_secret(account) is None:
            sealed = self._keeper.seal(secret_purpose(account), self._random.token_bytes(SECRET_BYTES))
            Webhooks(tx).put_secret(WebhookSecret(account, sealed.key_id, sealed.sealed))
        Webhooks(tx).create(
            Webhook(
                id=WebhookId(self._ids.new("wh")),
                account=account,
                url=url,
                patterns=("*",),
                description="",
                active=True,
                secret_owner=account,
                since_cursor=0,
                created_at_ms=now,
                updated_at_ms=now,
                job_id=job_id,
            )
        )

    async def find_url(self, job_id: str) -> str | None:
        """The URL that a job's body named."""
        found = await self._store.lookup(lambda tx: Webhooks(tx).find_for_job(job_id))
        return None if found is None else found.url

    async def list_own(self, account: AccountId) -> list[Webhook]:
        """The account's webhooks, the oldest first."""
        return await self._store.lookup(lambda tx: Webhooks(tx).list_own(account))

    async def get(self, account: AccountId, webhook_id: WebhookId) -> Webhook:
        """Raises NotFound, for another account's too."""
        return await self._store.lookup(lambda tx: _own(tx, account, webhook_id))

    async def update(self, account: AccountId, webhook_id: WebhookId, changes: WebhookChanges) -> Webhook:
        """Change what is named. One that is switched on again hears of what happens from then on. Raises Invalid."""
        url = None if changes.url is None else self.check_url(changes.url)
        patterns = None if changes.patterns is None else _checked(changes.patterns)

        def write(tx: Transaction) -> Webhook:
            before = _own(tx, account, webhook_id)
            after = replace(
                before,
                url=url if url is not None else before.url,
                patterns=patterns if patterns is not None else before.patterns,
                description=changes.description if changes.description is not None else before.description,
                active=changes.active if changes.active is not None else before.active,
                updated_at_ms=self._clock.now(),
            )
            if after.active and not before.active:
                after = replace(after, since_cursor=Events(tx).newest(), disabled_reason=None)
            if before.active and not after.active:
                Deliveries(tx).stop(webhook_id)
            Webhooks(tx).update(after)
            return after

        return await self._store.write(write)

    async def delete(self, account: AccountId, webhook_id: WebhookId) -> None:
        """With everything that is queued for it. Raises NotFound."""

        def write(tx: Transaction) -> None:
            _own(tx, account, webhook_id)
            Webhooks(tx).delete(webhook_id)

        await self._store.write(write)

    async def rotate(self, account: AccountId, webhook_id: WebhookId) -> Rotated:
        """A new secret; the one before signs too for a day. Raises NotFound."""
        return await self._rotate(webhook_id, lambda tx: _own(tx, account, webhook_id))

    async def rotate_default(self, account: AccountId) -> Rotated:
        """A new secret for the webhooks that the account's jobs name."""
        return await self._rotate(account, lambda _tx: None)

    async def test(self, account: AccountId, webhook_id: WebhookId) -> tuple[Delivery, Event]:
        """Deliver a `webhook.test` now: how that went, or is going. Raises NotFound, Conflict when it is off."""

        def write(tx: Transaction) -> int:
            webhook = _own(tx, account, webhook_id)
            if not webhook.active:
                raise Conflict("the webhook is switched off; switch it on first", extra={"state": "inactive"})
            cursor = self._feed.append(tx, account, EventType.WEBHOOK_TEST, webhook_id, {"webhook_id": webhook_id})
            Deliveries(tx).add([(webhook_id, cursor)], self._clock.now())
            return cursor

        cursor = await self._store.write(write)
        concluded = self._concluded(webhook_id, cursor)
        self._queued()
        try:
            async with asyncio.timeout(_TEST_WAIT_S):
                await concluded
        except TimeoutError:
            pass

        def read(tx: Transaction) -> tuple[Delivery, Event]:
            delivery = Deliveries(tx).find(webhook_id, cursor)
            events = Events(tx).page(EventFilter(account), after=cursor - 1, limit=1)
            if delivery is None or not events:
                raise NotFound
            return delivery, events[0]

        return await self._store.read(read)

    async def list_deliveries(
        self, account: AccountId, webhook_id: WebhookId, *, limit: int, offset: int
    ) -> tuple[list[tuple[Delivery, Event | None]], int]:
        """The newest first, and how many are kept. Raises NotFound."""

        def read(tx: Transaction) -> tuple[list[tuple[Delivery, Event | None]], int]:
            _own(tx, account, webhook_id)
            return Deliveries(tx).page(webhook_id, limit, offset)

        return await self._store.read(read)

    async def replay(
        self, account: AccountId, webhook_id: WebhookId, *, after: int | None, since_ms: int | None
    ) -> tuple[int, int]:
        """Queue what the webhook wants of the feed again, from a cursor or an instant on, up to now.

        How many events, and the cursor up to which. Raises NotFound, Conflict when it is off, CursorExpired, Invalid.
        """
        webhook = await self.get(account, webhook_id)
        if not webhook.active:
            raise Conflict("the webhook is switched off; switch it on first", extra={"state": "inactive"})
        if after is None:
            at = since_ms or 0
            after = await self._store.read(lambda tx: Events(tx).first_since(account, at))
        else:
            await self._feed.require_kept(after)
        until = await self._feed.newest()
        wanted = EventFilter(account, types=_types(webhook.patterns))
        count = 0
        while after < until:
            page = await self._store.read(
                lambda tx, after=after: Events(tx).page(wanted, after=after, limit=_REPLAY_PAGE)  # type: ignore[misc]
            )
            chosen = [event.cursor for event in page if event.cursor <= until and _replayed(webhook, event)]
            if chosen:
                now = self._clock.now()
                await self._store.write(
                    lambda tx, chosen=chosen, now=now: Deliveries(tx).requeue(webhook_id, chosen, now)  # type: ignore[misc]
                )
                count += len(chosen)
                self._queued()
            if len(page) < _REPLAY_PAGE:
                break
            after = page[-1].cursor
        return count, until

    async def _rotate(self, owner: str, check: Callable[[Transaction], object]) -> Rotated:
        secret = self._random.token_bytes(SECRET_BYTES)
        sealed: StoredSecret = self._keeper.seal(secret_purpose(owner), secret)
        until = self._clock.now() + OLD_SECRET_MS

        def write(tx: Transaction) -> Rotated:
            check(tx)
            before = Webhooks(tx).find_secret(owner)
            if before is None:
                Webhooks(tx).put_secret(WebhookSecret(owner, sealed.key_id, sealed.sealed))
                return Rotated(secret_text(secret), None)
            Webhooks(tx).put_secret(
                WebhookSecret(owner, sealed.key_id, sealed.sealed, before.key_id, before.sealed, until)
            )
            return Rotated(secret_text(secret), until)

        return await self._store.write(write)


def secret_purpose(owner: str) -> str:
    """What a sealed secret belongs to."""
    return f"webhook {owner}"


def _own(tx: Transaction, account: AccountId, webhook_id: WebhookId) -> Webhook:
    found = Webhooks(tx).find(webhook_id)
    if found is None or found.account != account or found.job_id is not None:
        raise NotFound
    return found


def _checked(patterns: Sequence[str]) -> tuple[str, ...]:
    try:
        matching_types(patterns)
    except UnknownPattern as unknown:
        raise Invalid.field(
            "events", DetailCode.NOT_ALLOWED, str(unknown), suggestions=unknown.suggestions
        ) from unknown
    if not patterns:
        raise Invalid.field("events", DetailCode.REQUIRED, "name at least one type or pattern")
    return tuple(dict.fromkeys(patterns))


def _types(patterns: Sequence[str]) -> tuple[str, ...] | None:
    return None if "*" in patterns else tuple(sorted(matching_types(patterns)))


def _replayed(webhook: Webhook, event: Event) -> bool:
    """Whatever it wants, also from before it was made; not the tests of others."""
    return replace(webhook, since_cursor=0).wants(event.type, event.resource, event.cursor)
