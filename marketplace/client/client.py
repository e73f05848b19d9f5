"""The market's API as typed calls: what a renter, or any other wallet, does at one market."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote as quote_path

from marketplace.client.account_models import Event, EventList, EventsEnd, JobMetrics, Model, ModelList, Usage
from marketplace.client.calls import Calls, page, segment
from marketplace.client.credentials import CredentialCalls
from marketplace.client.errors import ApiError, NotConfirmed, SignatureNeeded, TransactionRefused
from marketplace.client.escrows import EscrowCalls
from marketplace.client.events import ServerEvent
from marketplace.client.execs import RemoteCommand, Terminal, open_command
from marketplace.client.figures import FigureCalls
from marketplace.client.files import FileCalls
from marketplace.client.groups import GroupCalls
from marketplace.client.intents import Intent, IntentStore
from marketplace.client.keypairs import Keypair
from marketplace.client.keys import KeyCalls
from marketplace.client.known_markets import KnownMarkets
from marketplace.client.logs import follow_log
from marketplace.client.model_entries import ModelEntry
from marketplace.client.models import (
    Account,
    AllowanceList,
    Constants,
    Job,
    JobList,
    LogEnd,
    LogLine,
    Node,
    NodeList,
    Quote,
    SubmittedJob,
    TransactionState,
    Vault,
)
from marketplace.client.outputs import OutputCalls
from marketplace.client.payments import LANDING_S, POLL_S, Consent, Paid, Payments, is_final
from marketplace.client.pins import Pins
from marketplace.client.quotes import agreed_price
from marketplace.client.registries import RegistryCalls
from marketplace.client.relay import Relay
from marketplace.client.requests import JobRequest
from marketplace.client.stake import StakeCalls
from marketplace.client.streams import FollowState, Stream, follow
from marketplace.client.terms import AllowanceTerms, EscrowTerms
from marketplace.client.tokens import StoredLogin, TokenCache
from marketplace.client.transport import Reply, RetryPolicy, Sleep, decode_json, parse
from marketplace.client.webhooks import WebhookCalls
from marketplace.domain.money import format_amount, parse_amount

if TYPE_CHECKING:
    from marketplace.client.guard import CheckedTransaction

_JOBS: Final = "/v1/jobs"
_SIGNING_ROUNDS: Final = 5
"""How often one submission may ask for a signature again: its blockhash expired, the chain was slow. Chosen."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that was submitted.

    resumed: an earlier, interrupted run of the same request was completed instead of a new one begun.
    signed: signatures of the transactions that the wallet signed for it.
    """

    job: SubmittedJob
    resumed: bool
    signed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs. status: any of these. label: `key:value`."""

    status: tuple[str, ...] = ()
    gpu: str | None = None
    label: str | None = None
    consumer_id: str | None = None
    model: str | None = None


class ReaverClient:
    """One wallet at one market. An async context manager.

    keypair: None can only read what needs no login. api_key: speaks for the account instead of the wallet's login;
    what the wallet has to sign needs the keypair as well: LoginNeeded, or SignatureNeeded of a job.
    token_cache, intents, known_markets: None keeps nothing between runs (a spending call then isn't recognised after
    a crash). pins: what the caller knows of the market for certain. relay: how signed transactions are sent, None
    for the market's own `POST /v1/transactions`.
    stake: what a delegator does. groups: many jobs of one body. files, webhooks, keys, credentials: what the
    account has. outputs: what jobs left.
    """

    def __init__(
        self,
        api_url: str,
        keypair: Keypair | None = None,
        token_cache: TokenCache | None = None,
        *,
        api_key: str | None = None,
        intents: IntentStore | None = None,
        known_markets: KnownMarkets | None = None,
        pins: Pins | None = None,
        relay: Relay | None = None,
        retry: RetryPolicy | None = None,
        now_s: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._calls = Calls(
            api_url,
            keypair,
            token_cache,
            api_key=api_key,
            known_markets=known_markets,
            pins=pins,
            relay=relay,
            retry=retry,
            now_s=now_s,
            sleep=sleep,
        )
        self._payments = Payments(self._calls, intents, now_s)
        self.stake = StakeCalls(self._calls, self._payments)
        self.files = FileCalls(self._calls, self._payments)
        self.groups = GroupCalls(self._calls, self._payments)
        self.outputs = OutputCalls(self._calls)
        self.webhooks = WebhookCalls(self._calls)
        self.registries = RegistryCalls(self._calls)
        self.escrows = EscrowCalls(self._calls, self._payments)
        self.figures = FigureCalls(self._calls)
        self.keys = KeyCalls(self._calls)
        self.credentials = CredentialCalls(self._calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._calls.close()

    @property
    def api_url(self) -> str:
        """Base URL of the market, without `/v1`."""
        return self._calls.transport.base_url

    # login

    async def login(self) -> StoredLogin:
        """Sign in anew, whatever is cached."""
        return await self._calls.login()

    async def logout(self) -> bool:
        """End the login; False when there was none."""
        return await self._calls.logout()

    async def me(self) -> Account:
        """The account behind the login."""
        return (await self._calls.get("/v1/me")).read(Account)

    async def constants(self) -> Constants:
        """The market's published numbers; its identity is compared with pins and with the last visit."""
        return await self._calls.constants()

    async def visit(self) -> tuple[Constants, float | None]:
        """The market's numbers, checked as by `constants`, and how many seconds its clock is ahead of the given one.

        None where its answer has no date. By whole seconds, and the way there and back.
        """
        constants = await self._calls.constants()
        return constants, self._calls.clock_ahead_s

    @property
    def sends_by_rpc(self) -> bool:
        """Whether transactions go through an RPC of the caller's, whose cluster was compared."""
        return self._calls.relay is not None

    # quotes and jobs

    async def quote(self, request: JobRequest) -> Quote:
        """A firm price for this request; nothing is spent or reserved."""
        body = request.body()
        if request.secrets:
            # A price depends on no secret; their names are part of what it holds for.
            body["secrets"] = dict.fromkeys(request.secrets, "")
        return (await self._calls.send("POST", "/v1/quote", body)).read(Quote)

    async def get_quote(self, quote_id: str) -> Quote:
        """A quote given earlier."""
        return (await self._calls.get(f"/v1/quotes/{quote_id}")).read(Quote)

    async def submit_job(self, request: JobRequest, quote: Quote) -> Submission:
        """Submit a job at the quoted price, signing its escrow where the market may not open it itself.

        Given again after an interruption, it completes the interrupted submission: same key, same escrow.
        Raises TransactionRefused when the escrow to sign is not exactly that of request and quote.
        """
        asked = request
        if request.model is not None:
            # What the market says that the model is goes into the spec; the escrow is checked against that.
            request = request.completed(await self.get_model(request.model))
        with self._payments.open_intent(f"POST {_JOBS}", asked.body()) as intent:
            agreed = await self._agreed(intent, quote)
            agreed_price(request, agreed, await self._calls.market())
            sent: dict[str, str] = {}
            signed_for = _signed_for(intent)
            waited_s = 0.0
            while waited_s < LANDING_S and len(sent) <= _SIGNING_ROUNDS:
                # The quote is the ceiling; the API refuses a second one beside it.
                body = request.body() | {"quote_id": agreed.id}
                body.pop("max_price_per_hour", None)
                body.pop("max_price_per_gpu_second", None)
                try:
                    reply = await self._calls.send("POST", _JOBS, body, key=intent.key)
                except SignatureNeeded as needed:
                    if needed.transaction in sent:
                        # It landed, or is about to: the market has not seen it yet and offers the same bytes.
                        await self._calls.sleep(POLL_S)
                        waited_s += POLL_S
                    else:
                        checked = await self._check_escrow(needed, request, agreed, intent.key)
                        if signed_for is not None and checked.escrow != signed_for:
                            # Only the market says that the first can't land any more: both might.
                            raise TransactionRefused(
                                f"it opens escrow {checked.escrow}, and escrow {signed_for} was signed for this "
                                "submission already; a day later the same command begins afresh"
                            ) from None
                        signed_for = checked.escrow
                        self._remember(intent, agreed, signed_for)
                        sent[needed.transaction] = await self._payments.land(checked)
                except ApiError as error:
                    if error.code == "quote_expired" and agreed.id != quote.id:
                        # Nothing was bound to the key yet: go on under the fresh quote.
                        agreed = self._remember(intent, quote, signed_for)
                        continue
                    if is_final(error):
                        intent.answered()
                    raise
                else:
                    job = reply.read(SubmittedJob)
                    intent.answered()
                    return Submission(job, intent.resumed, tuple(s for s in sent.values() if s))
            raise NotConfirmed(
                "the escrow was signed and sent, but the market has not seen it land; repeat the same command to go on"
            )

    async def list_jobs(
        self, wanted: JobFilter | None = None, *, limit: int | None = None, offset: int | None = None
    ) -> JobList:
        """Own jobs, newest first."""
        return (await self._calls.get(_JOBS, _filters(wanted) | page(limit, offset))).read(JobList)

    async def job_history(
        self,
        first: str | None = None,
        last: str | None = None,
        wanted: JobFilter | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
    ) -> JobList:
        """Own jobs that have ended, by when they did. first, last: UTC days, both included; None is the last 30."""
        params = _span(first, last) | _filters(wanted) | page(limit, offset)
        return (await self._calls.get(f"{_JOBS}/history", params)).read(JobList)

    async def job_history_csv(
        self, first: str | None = None, last: str | None = None, wanted: JobFilter | None = None
    ) -> bytes:
        """The same as a table, whole."""
        params = _span(first, last) | _filters(wanted) | {"format": "csv"}
        return await self._calls.transport.text(
            f"{_JOBS}/history", token=await self._calls.token(), params=params, accept="text/csv"
        )

    async def get_job(self, job_id: str) -> Job:
        """One job."""
        return (await self._calls.get(f"{_JOBS}/{segment(job_id)}")).read(Job)

    async def cancel_job(self, job_id: str) -> Job:
        """Ask for the end of a job; what it used is paid, the rest comes back."""
        return (await self._calls.send("POST", f"{_JOBS}/{segment(job_id)}/cancel", None)).read(Job)

    async def extend_job(self, job_id: str, additional_seconds: int, *, at_most: int | None = None) -> Job:
        """More time for a job. Given again after an interruption it adds nothing twice.

        at_most: base units of deposit that may be added, None for what the job's own deposit is worth by the second.
        An escrow that the wallet opened is extended by its signature, given once for one call. Raises
        TransactionRefused when what is to be signed is something else.
        """
        job = await self.get_job(job_id)
        path = f"{_JOBS}/{segment(job_id)}/extend"
        body = {"additional_seconds": additional_seconds}
        with self._payments.open_intent(f"POST {path}", body) as intent:
            signed: str | None = intent.memo
            waited_s = 0.0
            while waited_s < LANDING_S:
                try:
                    reply = await self._calls.send("POST", path, body, key=intent.key)
                except SignatureNeeded as needed:
                    if not needed.transaction or not self._calls.can_sign:
                        # Only a wider allowance helps, which is asked for by its own command.
                        raise
                    if signed is not None and signed != needed.transaction:
                        raise TransactionRefused(
                            "another extension was signed for this command already, and only the market says that it "
                            "can't land any more: both might; look at the job's time first"
                        ) from None
                    if signed is None:
                        checked = await self._check_extension(needed, job, additional_seconds, at_most)
                        signed = needed.transaction
                        intent.remember(signed)
                        await self._payments.land(checked)
                    await self._calls.sleep(POLL_S)
                    waited_s += POLL_S
                except ApiError as error:
                    if is_final(error):
                        intent.answered()
                    raise
                else:
                    intent.answered()
                    return reply.read(Job)
        raise NotConfirmed(
            "the extension was signed and sent, but the market has not seen it land; repeat the same command to go on"
        )

    async def job_log(
        self, job_id: str, *, stream: str = "all", tail: int | None = None, attempt: int | None = None
    ) -> bytes:
        """The log so far, as text. attempt: of that one alone, from 1."""
        given = {"tail": tail, "attempt": attempt}
        params = {"stream": stream} | {name: str(value) for name, value in given.items() if value is not None}
        path = f"{_JOBS}/{segment(job_id)}/logs"
        return await self._calls.transport.text(
            path, token=await self._calls.token(), params=params, accept="text/plain"
        )

    def exec_job(
        self, job_id: str, command: tuple[str, ...], terminal: Terminal | None = None
    ) -> AbstractAsyncContextManager[RemoteCommand]:
        """A command beside a running job, in its container; `async with`. terminal: None runs it without one."""
        return open_command(self._calls, job_id, command, terminal)

    async def job_metrics(self, job_id: str, *, since: datetime | None = None) -> JobMetrics:
        """What a job used over time, as far as it is kept. since: aware; None for all of it."""
        params = {} if since is None else {"from": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        return (await self._calls.get(f"{_JOBS}/{segment(job_id)}/metrics", params)).read(JobMetrics)

    async def job_events(self, job_id: str, *, after: str | None = None, limit: int | None = None) -> EventList:
        """What happened to a job, oldest first."""
        params = page(limit, None) | ({} if after is None else {"after": after})
        return (await self._calls.get(f"{_JOBS}/{segment(job_id)}/events", params)).read(EventList)

    async def events(
        self,
        *,
        after: str | None = None,
        types: tuple[str, ...] = (),
        resource: str | None = None,
        limit: int | None = None,
    ) -> EventList:
        """What happened to anything of the account, oldest first. types: names and patterns such as job.*"""
        given = {"after": after, "types": ",".join(types) or None, "resource": resource}
        params = {name: value for name, value in given.items() if value is not None} | page(limit, None)
        return (await self._calls.get("/v1/events", params)).read(EventList)

    def follow_events(
        self,
        *,
        after: str | None = None,
        types: tuple[str, ...] = (),
        resource: str | None = None,
        state: FollowState | None = None,
    ) -> AsyncIterator[Event]:
        """What happens to anything of the account, without end; goes on after broken connections without a gap.

        after: begin behind this cursor, None with what happens from now on. Raises ApiError `cursor_expired` when what
        would follow is no longer kept, Unreachable.
        """
        given = {"after": after, "types": ",".join(types) or None, "resource": resource}
        params = {name: value for name, value in given.items() if value is not None}
        stream: Stream[Event] = Stream("/v1/events", params, _event_of, lambda _: False)
        return follow(self._calls.transport, stream, self._calls.token, state or FollowState(), sleep=self._calls.sleep)

    def follow_job_events(
        self, job_id: str, *, after: str | None = None, state: FollowState | None = None
    ) -> AsyncIterator[Event | EventsEnd]:
        """What happened and happens to a job, and last an EventsEnd; goes on as `follow_events` does."""
        stream: Stream[Event | EventsEnd] = Stream(
            f"{_JOBS}/{segment(job_id)}/events",
            {} if after is None else {"after": after},
            lambda event: _end_of(event) if event.type == "end" else _event_of(event),
            lambda item: isinstance(item, EventsEnd),
        )
        return follow(self._calls.transport, stream, self._calls.token, state or FollowState(), sleep=self._calls.sleep)

    async def retry_job(
        self,
        job_id: str,
        *,
        priority: str | None = None,
        timeout_seconds: int | None = None,
        max_price_per_hour: str | None = None,
    ) -> SubmittedJob:
        """An ended job once more, as a new one at today's price, paid inside the allowance.

        Raises SignatureNeeded where the allowance doesn't cover it: only who still has the request can check the
        escrow, so submit that again instead. Given again after an interruption, it pays once.
        """
        given = {"priority": priority, "timeout_seconds": timeout_seconds, "max_price_per_hour": max_price_per_hour}
        body = {name: value for name, value in given.items() if value is not None}
        return (await self._spend(f"{_JOBS}/{segment(job_id)}/retry", body)).read(SubmittedJob)

    def follow_job(self, job_id: str, state: FollowState | None = None) -> AsyncIterator[LogLine | LogEnd]:
        """Log lines as they are written, then the end; goes on after broken connections."""
        return follow_log(
            self._calls.transport, segment(job_id), self._calls.token, state or FollowState(), sleep=self._calls.sleep
        )

    async def wait_for_job(
        self, job_id: str, *, settled: bool = False, timeout_s: float = 600, each: Callable[[Job], None] | None = None
    ) -> Job:
        """The job once it is over (and settled, where asked for); raises NotConfirmed when that takes too long."""
        deadline = time.monotonic() + timeout_s
        wait_s = POLL_S
        while True:
            job = await self.get_job(job_id)
            if each is not None:
                each(job)
            done = job.terminal and (not settled or (job.settlement is not None and job.settlement.settled_at))
            if done:
                return job
            if time.monotonic() > deadline:
                raise NotConfirmed(f"job {job_id} is {job.status} after {timeout_s:.0f} s; look again later")
            await self._calls.sleep(wait_s)
            wait_s = min(wait_s * 1.5, 5)

    async def receipt(self, job_id: str) -> object:
        """The receipt as the market gives it (JSON); check it with `protocol.receipts`."""
        return (await self._calls.get(f"{_JOBS}/{segment(job_id)}/receipt")).body

    # models and nodes

    async def list_models(self, *, limit: int | None = None, offset: int | None = None) -> ModelList:
        """What this market runs by name."""
        return (await self._calls.get("/v1/models", page(limit, offset))).read(ModelList)

    async def get_model(self, name: str) -> Model:
        """One model."""
        return (await self._calls.get(f"/v1/models/{quote_path(name, safe='')}")).read(Model)

    async def put_model(self, name: str, entry: ModelEntry) -> Model:
        """Let jobs name a model, or another one by this name; with the scope `admin`."""
        return (await self._calls.send("PUT", f"/v1/models/{quote_path(name, safe='')}", entry.body())).read(Model)

    async def delete_model(self, name: str) -> None:
        """Let no job name it any more; those that did go on. With the scope `admin`."""
        await self._calls.send("DELETE", f"/v1/models/{quote_path(name, safe='')}", None)

    async def list_nodes(
        self,
        *,
        gpu: str | None = None,
        region: str | None = None,
        status: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> NodeList:
        """Machines on offer; without `status` those that are active and have room."""
        given = {"gpu": gpu, "region": region, "status": status, "sort": sort}
        params = {name: value for name, value in given.items() if value is not None}
        return (await self._calls.get("/v1/nodes", params | page(limit, offset))).read(NodeList)

    async def get_node(self, node_id: str) -> Node:
        """One machine."""
        return (await self._calls.get(f"/v1/nodes/{segment(node_id)}")).read(Node)

    # money

    async def usage(
        self,
        group_by: str = "day",
        first: str | None = None,
        last: str | None = None,
        *,
        limit: int | None = None,
        offset: int | None = None,
    ) -> Usage:
        """What settled jobs cost. group_by: day, job, node, gpu, consumer, kind. first, last: UTC days, inclusive."""
        params = {"group_by": group_by} | _span(first, last) | page(limit, offset)
        return (await self._calls.get("/v1/usage", params)).read(Usage)

    async def vault(self) -> Vault:
        """The wallet's money in the program."""
        return (await self._calls.get("/v1/vault")).read(Vault)

    async def deposit(self, amount: int) -> Paid:
        """Move `amount` base units from the wallet's own token account into its vault."""
        market = await self._calls.market()
        text = format_amount(amount, market.decimals)
        return await self._payments.pay(
            "/v1/vault/deposit", {"amount": text}, lambda guard, raw: guard.deposit(raw, amount)
        )

    async def withdraw(self, amount: int | None) -> Paid:
        """Move `amount` base units, None for all that isn't locked, back to the wallet's own token account."""
        market = await self._calls.market()
        text = "all" if amount is None else format_amount(amount, market.decimals)
        return await self._payments.pay(
            "/v1/vault/withdraw", {"amount": text}, lambda guard, raw: guard.withdraw(raw, amount)
        )

    async def claim_compensation(self, consent: Consent | None = None) -> Paid:
        """Pay the compensations for lost attempts to the wallet's own stake-token account."""
        return await self._payments.pay(
            "/v1/vault/claim-compensation",
            None,
            lambda guard, raw: guard.claim_compensation(raw),
            consent=consent,
        )

    async def allowances(self) -> AllowanceList:
        """Leave that the wallet has given to markets."""
        return (await self._calls.get("/v1/allowance")).read(AllowanceList)

    async def grant_allowance(self, terms: AllowanceTerms) -> Paid:
        """Let this market open escrows for the wallet, within caps that the program enforces."""
        market = await self._calls.market()
        body = {
            "per_job": format_amount(terms.per_job, market.decimals),
            "per_day": format_amount(terms.per_day, market.decimals),
            "total": format_amount(terms.total, market.decimals),
            "max_price_per_hour": format_amount(terms.max_price_per_hour, market.decimals),
            "expires_at": terms.expires_at_text(),
        }
        return await self._payments.pay("/v1/allowance", body, lambda guard, raw: guard.grant(raw, terms))

    async def revoke_allowance(self) -> Paid:
        """Take this market's leave back."""
        return await self._payments.pay("/v1/allowance", None, lambda guard, raw: guard.revoke(raw), method="DELETE")

    async def transaction(self, signature: str) -> TransactionState:
        """How far a transaction sent through the market is."""
        return await self._payments.transaction(signature)

    async def units(self, amount: str) -> int:
        """Base units of an amount in whole tokens; raises MalformedAmount."""
        return parse_amount(amount, (await self._calls.market()).decimals)

    # plumbing

    async def _spend(self, path: str, body: Mapping[str, object]) -> Reply:
        """A call that spends inside the allowance; its key is kept until the market has answered."""
        with self._payments.open_intent(f"POST {path}", body) as intent:
            try:
                reply = await self._calls.send("POST", path, body, key=intent.key)
            except ApiError as error:
                if is_final(error) or isinstance(error, SignatureNeeded):
                    intent.answered()
                raise
            intent.answered()
            return reply

    async def _check_escrow(
        self, needed: SignatureNeeded, request: JobRequest, quote: Quote, key: str
    ) -> "CheckedTransaction":
        if not self._calls.can_sign:
            # Its owner widens the allowance; the same submission then goes on under the same key.
            raise needed
        market = await self._calls.market()
        price = agreed_price(request, quote, market)
        terms = EscrowTerms.of(request, key=key, ceiling_price=price.price_per_hour, deposit=price.deposit)
        checked = (await self._payments.guard()).open_escrow(needed.transaction, terms)
        if needed.escrow is not None and needed.escrow != checked.escrow:
            raise TransactionRefused(f"it opens escrow {checked.escrow}, the market says {needed.escrow}")
        return checked

    async def _check_extension(
        self, needed: SignatureNeeded, job: Job, seconds: int, at_most: int | None
    ) -> "CheckedTransaction":
        escrow = None if job.settlement is None else job.settlement.escrow
        if needed.nonce is None or job.settlement is None or job.settlement.deposit is None or not job.timeout_seconds:
            raise TransactionRefused("the market doesn't say which escrow it extends")
        if at_most is None:
            locked = await self.units(job.settlement.deposit)
            at_most = -(-locked * seconds // job.timeout_seconds) + 1
        checked = (await self._payments.guard()).extend_escrow(
            needed.transaction, needed.nonce, at_most, seconds * 1_000
        )
        if checked.escrow != escrow:
            raise TransactionRefused(f"it extends escrow {checked.escrow}, the job's is {escrow}")
        return checked

    async def _agreed(self, intent: Intent, quote: Quote) -> Quote:
        """The quote that an interrupted run sent under this key, else the given one."""
        if intent.memo is None:
            return self._remember(intent, quote)
        try:
            return Quote.model_validate_json(json.loads(intent.memo)["quote"])
        except (ValueError, KeyError, TypeError):
            return self._remember(intent, quote)

    def _remember(self, intent: Intent, quote: Quote, escrow: str | None = None) -> Quote:
        intent.remember(json.dumps({"quote": quote.model_dump_json(by_alias=True), "escrow": escrow}))
        return quote


def _event_of(event: ServerEvent) -> Event:
    """An event of the feed, out of a stream. Raises MalformedAnswer."""
    return parse(Event, decode_json(event.data.encode()))


def _end_of(event: ServerEvent) -> EventsEnd:
    """The last event of a job's stream. Raises MalformedAnswer."""
    return parse(EventsEnd, decode_json(event.data.encode()))


def _signed_for(intent: Intent) -> str | None:
    """The escrow that an interrupted run signed for under this key, or was about to; None where there is none."""
    try:
        escrow = json.loads(intent.memo or "{}").get("escrow")
    except (ValueError, AttributeError):
        return None
    return escrow if isinstance(escrow, str) else None


def _filters(wanted: JobFilter | None) -> dict[str, str]:
    if wanted is None:
        return {}
    given = {
        "status": ",".join(wanted.status) or None,
        "gpu": wanted.gpu,
        "label": wanted.label,
        "consumer_id": wanted.consumer_id,
        "model": wanted.model,
    }
    return {name: value for name, value in given.items() if value is not None}


def _span(first: str | None, last: str | None) -> dict[str, str]:
    return {name: value for name, value in (("from", first), ("to", last)) if value is not None}
