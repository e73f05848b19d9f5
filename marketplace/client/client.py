"""The market's API as typed calls, and the wallet's side of every payment.

Each transaction that the market offers is decoded and held against what was asked for (`guard.py`) before it is
signed. Each call that spends carries a key that is on disk before the call goes out (`intents.py`).
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from marketplace.client.errors import (
    ApiError,
    LoginNeeded,
    MalformedAnswer,
    NotConfirmed,
    SignatureNeeded,
    TransactionExpired,
    TransactionFailed,
    TransactionRefused,
)
from marketplace.client.intents import Intent, IntentStore
from marketplace.client.keypairs import Keypair
from marketplace.client.known_markets import KnownMarket, KnownMarkets
from marketplace.client.login import ChainId, chain_id_of
from marketplace.client.logs import FollowState, follow_log
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
    PreparedTransaction,
    Quote,
    SentTransaction,
    SubmittedJob,
    TransactionState,
    Vault,
)
from marketplace.client.pins import Pins
from marketplace.client.quotes import agreed_price
from marketplace.client.relay import Relay
from marketplace.client.requests import JobRequest
from marketplace.client.sessions import Session
from marketplace.client.terms import AllowanceTerms, EscrowTerms, MarketOnChain
from marketplace.client.tokens import StoredLogin, TokenCache
from marketplace.client.transport import Reply, RetryPolicy, Sleep, Transport
from marketplace.domain.money import format_amount, parse_amount

if TYPE_CHECKING:
    from marketplace.client.guard import CheckedTransaction, Guard

_JOBS: Final = "/v1/jobs"
_POLL_S: Final = 0.5
_LANDING_S: Final = 90
"""Longer than a blockhash lives (150 blocks), so that a transaction has landed or expired by then."""
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
class Paid:
    """A wallet's transaction that the chain confirmed."""

    signature: str
    summary: str
    resumed: bool


class ReaverClient:
    """One wallet at one market. An async context manager.

    keypair: None can only read what needs no login. token_cache, intents, known_markets: None keeps nothing
    between runs (a spending call then isn't recognised after a crash). pins: what the caller knows of the market
    for certain. relay: how signed transactions are sent, None for the market's own `POST /v1/transactions`.
    """

    def __init__(
        self,
        api_url: str,
        keypair: Keypair | None = None,
        token_cache: TokenCache | None = None,
        *,
        intents: IntentStore | None = None,
        known_markets: KnownMarkets | None = None,
        pins: Pins | None = None,
        relay: Relay | None = None,
        retry: RetryPolicy | None = None,
        now_s: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._transport = Transport(api_url, retry=retry, sleep=sleep)
        self._keypair = keypair
        self._session = Session(self._transport, keypair, token_cache, now_s=now_s)
        self._intents = intents
        self._known_markets = known_markets
        self._pins = pins or Pins()
        self._relay = relay
        self._now_s = now_s
        self._sleep = sleep
        self._constants: Constants | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    @property
    def api_url(self) -> str:
        """Base URL of the market, without `/v1`."""
        return self._transport.base_url

    # login

    async def login(self) -> StoredLogin:
        """Sign in anew, whatever is cached."""
        return await self._session.login(await self._chain_id())

    async def logout(self) -> bool:
        """End the login; False when there was none."""
        return await self._session.logout()

    async def me(self) -> Account:
        """The account behind the login."""
        return (await self._get("/v1/me")).read(Account)

    async def constants(self) -> Constants:
        """The market's published numbers; its identity is compared with pins and with the last visit."""
        if self._constants is None:
            constants = (await self._transport.request("GET", "/v1/constants")).read(Constants)
            chain = constants.chain
            self._pins.check(chain)
            if self._known_markets is not None:
                offered = KnownMarket(
                    program_id=chain.program_id,
                    genesis_hash=chain.genesis_hash,
                    market=chain.market,
                    payment_mint=chain.payment_mint,
                    decimals=chain.decimals,
                    quote_key=chain.quote_key,
                )
                self._known_markets.check(self.api_url, offered)
            if self._relay is not None:
                await self._relay.check_cluster(chain.genesis_hash)
            self._constants = constants
        return self._constants

    # quotes and jobs

    async def quote(self, request: JobRequest) -> Quote:
        """A firm price for this request; nothing is spent or reserved."""
        body = request.body()
        return (await self._send("POST", "/v1/quote", body)).read(Quote)

    async def get_quote(self, quote_id: str) -> Quote:
        """A quote given earlier."""
        return (await self._get(f"/v1/quotes/{quote_id}")).read(Quote)

    async def submit_job(self, request: JobRequest, quote: Quote) -> Submission:
        """Submit a job at the quoted price, signing its escrow where the market may not open it itself.

        Given again after an interruption, it completes the interrupted submission: same key, same escrow.
        Raises TransactionRefused when the escrow to sign is not exactly that of request and quote.
        """
        with self._open_intent(f"POST {_JOBS}", request.body()) as intent:
            agreed = await self._agreed(intent, quote)
            agreed_price(request, agreed, await self._market())
            sent: dict[str, str] = {}
            waited_s = 0.0
            while waited_s < _LANDING_S and len(sent) <= _SIGNING_ROUNDS:
                # The quote is the ceiling; the API refuses a second one beside it.
                body = request.body() | {"quote_id": agreed.id}
                body.pop("max_price_per_hour", None)
                try:
                    reply = await self._send("POST", _JOBS, body, key=intent.key)
                except SignatureNeeded as needed:
                    if needed.transaction in sent:
                        # It landed, or is about to: the market has not seen it yet and offers the same bytes.
                        await self._sleep(_POLL_S)
                        waited_s += _POLL_S
                    else:
                        checked = await self._check_escrow(needed, request, agreed, intent.key)
                        sent[needed.transaction] = await self._land(checked)
                except ApiError as error:
                    if error.code == "quote_expired" and agreed.id != quote.id:
                        # Nothing was bound to the key yet: go on under the fresh quote.
                        agreed = self._remember(intent, quote)
                        continue
                    if _is_final(error):
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
        self, *, status: tuple[str, ...] = (), limit: int | None = None, offset: int | None = None
    ) -> JobList:
        """Own jobs, newest first."""
        params = {"status": ",".join(status)} if status else {}
        return (await self._get(_JOBS, params | _page(limit, offset))).read(JobList)

    async def get_job(self, job_id: str) -> Job:
        """One job."""
        return (await self._get(f"{_JOBS}/{_segment(job_id)}")).read(Job)

    async def cancel_job(self, job_id: str) -> Job:
        """Ask for the end of a job; what it used is paid, the rest comes back."""
        return (await self._send("POST", f"{_JOBS}/{_segment(job_id)}/cancel", None)).read(Job)

    async def job_log(self, job_id: str, *, stream: str = "all", tail: int | None = None) -> bytes:
        """The log so far, as text."""
        params = {"stream": stream} | ({} if tail is None else {"tail": str(tail)})
        path = f"{_JOBS}/{_segment(job_id)}/logs"
        return await self._transport.text(path, token=await self._token(), params=params, accept="text/plain")

    def follow_job(self, job_id: str, state: FollowState | None = None) -> AsyncIterator[LogLine | LogEnd]:
        """Log lines as they are written, then the end; goes on after broken connections."""
        return follow_log(self._transport, _segment(job_id), self._token, state or FollowState(), sleep=self._sleep)

    async def wait_for_job(
        self, job_id: str, *, settled: bool = False, timeout_s: float = 600, each: Callable[[Job], None] | None = None
    ) -> Job:
        """The job once it is over (and settled, where asked for); raises NotConfirmed when that takes too long."""
        deadline = time.monotonic() + timeout_s
        wait_s = _POLL_S
        while True:
            job = await self.get_job(job_id)
            if each is not None:
                each(job)
            done = job.terminal and (not settled or (job.settlement is not None and job.settlement.settled_at))
            if done:
                return job
            if time.monotonic() > deadline:
                raise NotConfirmed(f"job {job_id} is {job.status} after {timeout_s:.0f} s; look again later")
            await self._sleep(wait_s)
            wait_s = min(wait_s * 1.5, 5)

    async def receipt(self, job_id: str) -> object:
        """The receipt as the market gives it (JSON); check it with `protocol.receipts`."""
        return (await self._get(f"{_JOBS}/{_segment(job_id)}/receipt")).body

    # nodes

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
        return (await self._get("/v1/nodes", params | _page(limit, offset))).read(NodeList)

    async def get_node(self, node_id: str) -> Node:
        """One machine."""
        return (await self._get(f"/v1/nodes/{_segment(node_id)}")).read(Node)

    # money

    async def vault(self) -> Vault:
        """The wallet's money in the program."""
        return (await self._get("/v1/vault")).read(Vault)

    async def deposit(self, amount: int) -> Paid:
        """Move `amount` base units from the wallet's own token account into its vault."""
        market = await self._market()
        text = format_amount(amount, market.decimals)
        return await self._pay("/v1/vault/deposit", {"amount": text}, lambda guard, raw: guard.deposit(raw, amount))

    async def withdraw(self, amount: int | None) -> Paid:
        """Move `amount` base units, None for all that isn't locked, back to the wallet's own token account."""
        market = await self._market()
        text = "all" if amount is None else format_amount(amount, market.decimals)
        return await self._pay("/v1/vault/withdraw", {"amount": text}, lambda guard, raw: guard.withdraw(raw, amount))

    async def allowances(self) -> AllowanceList:
        """Leave that the wallet has given to markets."""
        return (await self._get("/v1/allowance")).read(AllowanceList)

    async def grant_allowance(self, terms: AllowanceTerms) -> Paid:
        """Let this market open escrows for the wallet, within caps that the program enforces."""
        market = await self._market()
        body = {
            "per_job": format_amount(terms.per_job, market.decimals),
            "per_day": format_amount(terms.per_day, market.decimals),
            "total": format_amount(terms.total, market.decimals),
            "max_price_per_hour": format_amount(terms.max_price_per_hour, market.decimals),
            "expires_at": terms.expires_at_text(),
        }
        return await self._pay("/v1/allowance", body, lambda guard, raw: guard.grant(raw, terms))

    async def revoke_allowance(self) -> Paid:
        """Take this market's leave back."""
        return await self._pay("/v1/allowance", None, lambda guard, raw: guard.revoke(raw), method="DELETE")

    async def transaction(self, signature: str) -> TransactionState:
        """How far a transaction sent through the market is."""
        return (await self._get(f"/v1/transactions/{_segment(signature)}")).read(TransactionState)

    async def units(self, amount: str) -> int:
        """Base units of an amount in whole tokens; raises MalformedAmount."""
        return parse_amount(amount, (await self._market()).decimals)

    # plumbing

    async def _pay(
        self,
        path: str,
        body: Mapping[str, object] | None,
        check: "Callable[[Guard, str], CheckedTransaction]",
        *,
        method: str = "POST",
    ) -> Paid:
        guard = await self._guard()
        with self._open_intent(f"{method} {path}", body) as intent:
            try:
                reply = await self._send(method, path, body, key=intent.key)
            except ApiError as error:
                if _is_final(error):
                    intent.answered()
                raise
            prepared = reply.read(PreparedTransaction)
            checked = check(guard, prepared.transaction)
            try:
                signature = await self._sign_and_send(checked)
                await self._confirmed(signature)
            except (TransactionFailed, ApiError) as error:
                # What failed, was refused or can no longer land is over: the next run starts afresh.
                if not isinstance(error, ApiError) or _is_final(error):
                    intent.answered()
                raise
            intent.answered()
            return Paid(signature, checked.summary, intent.resumed)

    async def _check_escrow(
        self, needed: SignatureNeeded, request: JobRequest, quote: Quote, key: str
    ) -> "CheckedTransaction":
        market = await self._market()
        price = agreed_price(request, quote, market)
        terms = EscrowTerms.of(request, key=key, ceiling_price=price.price_per_hour, deposit=price.deposit)
        checked = (await self._guard()).open_escrow(needed.transaction, terms)
        if needed.escrow is not None and needed.escrow != checked.escrow:
            raise TransactionRefused(f"it opens escrow {checked.escrow}, the market says {needed.escrow}")
        return checked

    async def _agreed(self, intent: Intent, quote: Quote) -> Quote:
        """The quote that an interrupted run sent under this key, else the given one."""
        if intent.memo is None:
            return self._remember(intent, quote)
        try:
            return Quote.model_validate_json(json.loads(intent.memo)["quote"])
        except (ValueError, KeyError, TypeError):
            return self._remember(intent, quote)

    def _remember(self, intent: Intent, quote: Quote) -> Quote:
        intent.remember(json.dumps({"quote": quote.model_dump_json(by_alias=True)}))
        return quote

    async def _land(self, checked: "CheckedTransaction") -> str:
        """Sign, send, and wait; the signature, empty where it expired: the market then offers new bytes.

        Raises TransactionFailed when it landed and failed.
        """
        try:
            signature = await self._sign_and_send(checked)
            await self._confirmed(signature)
        except TransactionExpired:
            return ""
        except ApiError as error:
            if error.code != "transaction_expired":
                raise
            return ""
        return signature

    async def _sign_and_send(self, checked: "CheckedTransaction") -> str:
        signed = checked.signed_by(self._signer())
        if self._relay is not None:
            return await self._relay.send(signed)
        body = {"transaction": base64.b64encode(signed).decode()}
        # Not a key of its own: the market relays equal bytes once, so that repeating them can't pay twice.
        reply = await self._send("POST", "/v1/transactions", body, key=checked.relay_key)
        sent = reply.read(SentTransaction)
        if sent.signature != checked.signature_of(signed):
            raise MalformedAnswer("the market names another signature than that of the transaction it was given")
        return sent.signature

    async def _confirmed(self, signature: str, timeout_s: float = _LANDING_S) -> None:
        """Until the chain has it. Raises TransactionFailed, NotConfirmed."""
        if self._relay is not None:
            await self._relay.confirmed(signature, timeout_s)
            return
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.transaction(signature)
            if found.state in {"confirmed", "finalized"}:
                return
            if found.state == "failed":
                raise TransactionFailed(f"transaction {signature} failed on chain ({found.error}); no money moved")
            if found.state == "expired":
                raise TransactionExpired(
                    f"transaction {signature} was not taken in time and can no longer land; no money moved. "
                    "Repeat the command"
                )
            if time.monotonic() > deadline:
                raise NotConfirmed(f"transaction {signature} is not confirmed yet; look again with the same command")
            await self._sleep(_POLL_S)

    async def _market(self) -> MarketOnChain:
        return MarketOnChain.of((await self.constants()).chain)

    async def _guard(self) -> "Guard":
        # The coders behind it take half a second to load; only what signs waits for them.
        from marketplace.client.guard import Guard  # noqa: PLC0415

        return Guard(await self._market(), self._signer().address)

    def _signer(self) -> Keypair:
        if self._keypair is None:
            raise LoginNeeded("this needs a wallet: name its keypair file with --keypair or REAVER_KEYPAIR")
        return self._keypair

    def _open_intent(self, route: str, body: object) -> Intent:
        now_s = int(self._now_s())
        if self._intents is None:
            return Intent.unsaved(now_s)
        return self._intents.open(
            api_url=self.api_url, wallet=self._session.wallet, route=route, body=body, now_s=now_s
        )

    async def _chain_id(self) -> ChainId:
        return chain_id_of((await self.constants()).chain.genesis_hash)

    async def _token(self) -> str:
        return await self._session.token(self._chain_id)

    async def _get(self, path: str, params: dict[str, str] | None = None) -> Reply:
        return await self._with_token(
            lambda token: self._transport.request("GET", path, token=token, params=params or None)
        )

    async def _send(self, method: str, path: str, body: object, *, key: str | None = None) -> Reply:
        return await self._with_token(
            lambda token: self._transport.request(method, path, token=token, body=body, idempotency_key=key)
        )

    async def _with_token(self, call: Callable[[str], Awaitable[Reply]]) -> Reply:
        try:
            return await call(await self._token())
        except ApiError as error:
            # A cached login that the market has ended meanwhile (revoked, or its key ring is new): once anew.
            if error.code not in {"token_expired", "unauthorized"} or self._keypair is None:
                raise
        self._session.drop()
        return await call(await self._token())


def _is_final(error: ApiError) -> bool:
    """Whether the answer settles the call: the same request would only get it again, and nothing was bound.

    402 stays open (funding the vault and repeating goes on), as does what can be retried.
    """
    return error.status in {400, 404, 409, 413, 415, 422} and error.code not in {
        "idempotency_in_progress",
        "transaction_expired",
    }


def _segment(text: str) -> str:
    """An id as a part of a path; raises ValueError for what could name another path."""
    if not text or not text.replace("_", "").replace("-", "").isalnum() or not text.isascii():
        raise ValueError(f"{text!r} is not an id")
    return text


def _page(limit: int | None, offset: int | None) -> dict[str, str]:
    given = {"limit": limit, "offset": offset}
    return {name: str(value) for name, value in given.items() if value is not None}
