"""Delivers events to webhooks: at least once, tried again for a day, without one receiver's silence holding up others.

    feed ─► queue (one row for each webhook that wants the event) ─► lease ─► request ─► outcome
                                                                      ▲                    │ pause
                                                                      └────────────────────┘
Invariants: the position in the feed moves in the transaction that queues what is before it; an outcome is written
only by the holder of the row's lease; a receiver gets at most a few requests at a time.
"""

import asyncio
import secrets
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
import orjson
import structlog

from marketplace.domain.events import EventType
from marketplace.domain.ids import AccountId, WebhookId
from marketplace.domain.webhook_retries import pause_ms
from marketplace.domain.webhooks import Delivery, DeliveryState, DisabledReason, Webhook
from marketplace.errors import MarketError, StaleLease
from marketplace.outgoing import DestinationRefused, Outgoing
from marketplace.protocol.webhook_signatures import signature_header
from marketplace.services.clock import Clock, RandomSource
from marketplace.services.duties import Duty
from marketplace.services.feed import RETENTION_MS, Feed, event_object
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret
from marketplace.services.webhooks import secret_purpose
from marketplace.store.engine import Store, Transaction
from marketplace.store.events import Event, Events, events_of
from marketplace.store.webhooks import Deliveries, FeedEntry, Webhooks

_log = structlog.get_logger(__name__)

ANSWER_S: Final = 10.0
"""How long a receiver may take. Specified: api.md section 5.9."""
MAX_BODY_BYTES: Final = 20 << 10
"""Specified: api.md section 5.9."""
AT_ONCE: Final = 64
"""Requests at a time. Chosen: with 10 s each at worst, 6 a second still get through."""
AT_ONCE_EACH: Final = 8
"""Requests at a time to one webhook. Chosen: an eighth of all."""
LEASE_MS: Final = 30_000
"""Chosen: well beyond a request's time; how long a try of a process that was killed keeps its row."""
_NEWS: Final = 1_000
_CANDIDATES: Final = 256
_FORGET_PAGE: Final = 2_000
_IDLE_MS: Final = 5_000
MARK: Final = "webhooks"
_ANSWER_BYTES: Final = 16 << 10
"""What is read of an answer, so that its connection can be used again; nothing of it is kept."""
_MAX_DIGITS: Final = 9
_ERRORS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (DestinationRefused, "address_refused"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientConnectorDNSError, "name_unknown"),
    (aiohttp.ClientSSLError, "certificate_refused"),
    (Exception, "connection_failed"),
)
"""What a receiver's owner is told; the first kind that fits."""
_USER_AGENT: Final = "reaver-market"


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a request. error: one word for its owner, None when it was taken."""

    status: int | None
    error: str | None
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A claimed delivery with what it takes to send it."""

    delivery: Delivery
    webhook: Webhook
    event: Event
    sealed: Sequence[StoredSecret]


class WebhookDeliveries:
    """Queues and delivers, as a duty that one process holds.

    count: told the outcome of each request: `delivered`, or an error's word.
    """

    def __init__(
        self,
        store: Store,
        feed: Feed,
        keeper: SecretKeeper,
        outgoing: Outgoing,
        clock: Clock,
        random: RandomSource,
        *,
        count: Callable[[str], None],
    ) -> None:
        self._store = store
        self._feed = feed
        self._keeper = keeper
        self._outgoing = outgoing
        self._clock = clock
        self._random = random
        self._count = count
        self._position: int | None = None
        self._busy: Tally[WebhookId] = Tally()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiters: dict[tuple[WebhookId, int], asyncio.Future[None]] = {}
        self.duty = Duty("webhooks", store, clock, self.work)
        feed.on_append(self.duty.wake)

    async def stop(self) -> None:
        """Break off what runs; it is due again at once, for whoever holds the duty next."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._outgoing.close()

    def concluded(self, webhook_id: WebhookId, cursor: int) -> asyncio.Future[None]:
        """Done when a try of this delivery has ended in this process."""
        return self._waiters.setdefault((webhook_id, cursor), asyncio.get_running_loop().create_future())

    async def work(self) -> int:
        """Queue what is new, start what is due; in how many milliseconds to look again."""
        more = await self._queue_news()
        started = await self._start_due()
        if more or started:
            return 0
        if len(self._tasks) >= AT_ONCE:
            return _IDLE_MS
        now = self._clock.now()
        due = await self._store.read(lambda tx: Deliveries(tx).next_due(now))
        return _IDLE_MS if due is None else min(_IDLE_MS, due - now)

    async def forget_old(self) -> None:
        """Delete deliveries that are older than the feed, and webhooks of jobs that were named before it."""
        before = self._clock.now() - RETENTION_MS
        while await self._store.write(lambda tx: Deliveries(tx).forget_before(before, _FORGET_PAGE)) == _FORGET_PAGE:
            pass
        while await self._store.write(lambda tx: Webhooks(tx).forget_jobs(before, _FORGET_PAGE)) == _FORGET_PAGE:
            pass

    # queueing

    async def _queue_news(self) -> bool:
        """Go on in the feed; whether there is more."""
        if self._position is None:
            self._position = await self._store.read(lambda tx: Events(tx).mark(MARK))
        after = self._position

        def read(tx: Transaction) -> tuple[int, list[FeedEntry], dict[AccountId, list[Webhook]]]:
            news = Deliveries(tx).news(after, _NEWS)
            reached = news[-1].cursor if len(news) == _NEWS else Events(tx).newest()
            by_account: dict[AccountId, list[str]] = {}
            for entry in news:
                by_account.setdefault(entry.account, []).append(entry.resource)
            hearing = {a: Webhooks(tx).list_hearing(a, tuple(dict.fromkeys(r))) for a, r in by_account.items()}
            return reached, news, hearing

        reached, news, hearing = await self._store.read(read)
        wanted = [
            (webhook.id, entry.cursor)
            for entry in news
            for webhook in hearing[entry.account]
            if webhook.wants(entry.type, entry.resource, entry.cursor)
        ]
        # Without anything to queue the mark may lag behind: what is read again after a restart is queued once anyway.
        if wanted or reached - after >= _NEWS:
            now = self._clock.now()

            def write(tx: Transaction) -> None:
                Deliveries(tx).add(wanted, now)
                Events(tx).put_mark(MARK, reached)

            await self._store.write(write)
        self._position = reached
        return len(news) == _NEWS

    # delivering

    async def _start_due(self) -> bool:
        """Take what is due and send it; whether anything was taken."""
        free = AT_ONCE - len(self._tasks)
        if free <= 0:
            return False
        now = self._clock.now()
        saturated = [webhook for webhook, running in self._busy.items() if running >= AT_ONCE_EACH]
        due = await self._store.read(lambda tx: Deliveries(tx).list_due(now, saturated, _CANDIDATES))
        chosen: list[tuple[WebhookId, int]] = []
        running = Tally(self._busy)
        for webhook_id, cursor in due:
            if len(chosen) < free and running[webhook_id] < AT_ONCE_EACH:
                running[webhook_id] += 1
                chosen.append((webhook_id, cursor))
        if not chosen:
            return False
        token = secrets.token_hex(16)
        parcels = await self._store.write(lambda tx: self._claim(tx, chosen, token, now))
        for parcel in parcels:
            self._busy[parcel.webhook.id] += 1
            task = asyncio.create_task(self._deliver(parcel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def _claim(self, tx: Transaction, chosen: Sequence[tuple[WebhookId, int]], token: str, now: int) -> list[_Parcel]:
        """Lease rows, with what it takes to send them. What can't be sent any more is ended here."""
        events = {event.cursor: event for event in events_of(tx, sorted({cursor for _, cursor in chosen}))}
        webhooks = {webhook_id: Webhooks(tx).find(webhook_id) for webhook_id in dict(chosen)}
        found = []
        for webhook_id, cursor in chosen:
            webhook, event = webhooks[webhook_id], events.get(cursor)
            if webhook is None or not webhook.active:
                Deliveries(tx).stop(webhook_id)
                continue
            delivery = Deliveries(tx).claim(webhook_id, cursor, token, now, now + LEASE_MS)
            if delivery is None:
                continue
            if event is None:
                gone = replace(delivery, state=DeliveryState.FAILED, due_at_ms=None, last_error="event_gone")
                Deliveries(tx).conclude(delivery, gone)
                continue
            found.append(_Parcel(delivery, webhook, event, tuple(self._sealed(tx, webhook.secret_owner))))
        return found

    def _sealed(self, tx: Transaction, owner: str) -> list[StoredSecret]:
        """The owner's secrets that sign now, the newest first."""
        stored = Webhooks(tx).find_secret(owner)
        if stored is None:
            return []
        found = [StoredSecret(stored.key_id, stored.sealed)]
        valid = stored.old_until_ms is not None and self._clock.now() < stored.old_until_ms
        if valid and stored.old_key_id is not None and stored.old_sealed is not None:
            found.append(StoredSecret(stored.old_key_id, stored.old_sealed))
        return found

    async def _deliver(self, parcel: _Parcel) -> None:
        """One try, and its outcome."""
        try:
            outcome = await self._send(parcel)
        except asyncio.CancelledError:
            again = replace(parcel.delivery, due_at_ms=self._clock.now())
            await asyncio.shield(
                self._write(parcel.delivery, lambda tx: Deliveries(tx).conclude(parcel.delivery, again))
            )
            raise
        else:
            self._count(outcome.error or "delivered")
            await asyncio.shield(
                asyncio.ensure_future(self._write(parcel.delivery, lambda tx: self._conclude(tx, parcel, outcome)))
            )
        finally:
            self._busy[parcel.webhook.id] -= 1
            if self._busy[parcel.webhook.id] <= 0:
                del self._busy[parcel.webhook.id]
            waiter = self._waiters.pop((parcel.webhook.id, parcel.delivery.cursor), None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)
            self.duty.wake()

    async def _send(self, parcel: _Parcel) -> _Outcome:
        event, attempt = parcel.event, parcel.delivery.attempts + 1
        owner = secret_purpose(parcel.webhook.secret_owner)
        try:
            keys = [self._keeper.unseal(owner, sealed) for sealed in parcel.sealed]
        except MarketError as error:
            _log.error("webhook secret", action="not delivered", webhook=parcel.webhook.id, cause=error.message)
            return _Outcome(None, "secret_unreadable")
        body = _body(event)
        seconds = self._clock.now() // 1000
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            "webhook-id": event.id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signature_header(keys, event.id, seconds, body),
            "webhook-attempt": str(attempt),
        }
        try:
            async with self._outgoing.request(
                "POST", parcel.webhook.url, headers=headers, data=body, total_s=ANSWER_S, silence_s=ANSWER_S
            ) as response:
                await response.content.read(_ANSWER_BYTES)
                return _outcome_of(response.status, response.headers.get("Retry-After"), self._clock.now())
        except (DestinationRefused, TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return _Outcome(None, next(word for kind, word in _ERRORS if isinstance(error, kind)))

    async def _write(self, delivery: Delivery, work: Callable[[Transaction], None]) -> None:
        try:
            await self._store.write(work)
        except StaleLease:
            _log.info("webhook outcome dropped", action="queued anew meanwhile", webhook=delivery.webhook_id)
        except MarketError as error:
            # The lease ends by itself, and the delivery is tried again: at least once, never lost.
            _log.warning("webhook outcome", action="not written", webhook=delivery.webhook_id, cause=error.message)

    def _conclude(self, tx: Transaction, parcel: _Parcel, outcome: _Outcome) -> None:
        now = self._clock.now()
        tried = replace(
            parcel.delivery,
            attempts=parcel.delivery.attempts + 1,
            last_at_ms=now,
            last_status=outcome.status,
            last_error=outcome.error,
            due_at_ms=None,
        )
        webhook = Webhooks(tx).find(parcel.webhook.id)
        if outcome.error is None:
            Deliveries(tx).conclude(parcel.delivery, replace(tried, state=DeliveryState.DELIVERED))
            if webhook is not None:
                Webhooks(tx).note_delivered(webhook.id, now)
            return
        chance = int.from_bytes(self._random.token_bytes(4), "big")
        pause = pause_ms(tried.attempts, chance, outcome.retry_after_s)
        gone = outcome.status == HTTPStatus.GONE
        if pause is not None and not gone:
            Deliveries(tx).conclude(parcel.delivery, replace(tried, due_at_ms=now + pause))
            return
        Deliveries(tx).conclude(parcel.delivery, replace(tried, state=DeliveryState.FAILED))
        if webhook is None or not webhook.active:
            return
        if gone:
            self._disable(tx, webhook, DisabledReason.GONE, outcome, now)
        elif webhook.delivered_at_ms is None or webhook.delivered_at_ms < (parcel.delivery.first_at_ms or now):
            self._disable(tx, webhook, DisabledReason.UNREACHABLE, outcome, now)

    def _disable(self, tx: Transaction, webhook: Webhook, reason: DisabledReason, outcome: _Outcome, now: int) -> None:
        Webhooks(tx).update(replace(webhook, active=False, disabled_reason=reason, updated_at_ms=now))
        Deliveries(tx).stop(webhook.id)
        data = {
            "webhook_id": webhook.id,
            "job_id": webhook.job_id,
            "reason": reason.value,
            "last_status": outcome.status,
            "last_error": outcome.error,
        }
        self._feed.append(tx, webhook.account, EventType.WEBHOOK_DISABLED, webhook.id, data)


def _body(event: Event) -> bytes:
    whole = orjson.dumps(event_object(event))
    if len(whole) < MAX_BODY_BYTES:
        return whole
    return orjson.dumps({**event_object(event), "data": {"truncated": True}})


def _outcome_of(status: int, retry_after: str | None, now_ms: int) -> _Outcome:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _Outcome(status, None)
    if status < HTTPStatus.BAD_REQUEST:
        return _Outcome(status, "redirect_not_followed")
    asked = None
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} and retry_after is not None:
        asked = _seconds(retry_after, now_ms)
    return _Outcome(status, "refused", asked)


def _seconds(retry_after: str, now_ms: int) -> int | None:
    """Seconds of a Retry-After header, which says so many or names an instant; None where it can't be read."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return int(text[:_MAX_DIGITS])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0, int((aware - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds()))
