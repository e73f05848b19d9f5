"""The market's API as typed calls: what a renter, or any other wallet, does at one market."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import ApiError, NotConfirmed, SignatureNeeded, TransactionRefused
from marketplace.client.intents import Intent, IntentStore
from marketplace.client.keypairs import Keypair
from marketplace.client.known_markets import KnownMarkets
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
    Quote,
    SubmittedJob,
    TransactionState,
    Vault,
)
from marketplace.client.payments import LANDING_S, POLL_S, Consent, Paid, Payments, is_final
from marketplace.client.pins import Pins
from marketplace.client.quotes import agreed_price
from marketplace.client.relay import Relay
from marketplace.client.requests import JobRequest
from marketplace.client.stake import StakeCalls
from marketplace.client.terms import AllowanceTerms, EscrowTerms
from marketplace.client.tokens import StoredLogin, TokenCache
from marketplace.client.transport import RetryPolicy, Sleep
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


class ReaverClient:
    """One wallet at one market. An async context manager.

    keypair: None can only read what needs no login. token_cache, intents, known_markets: None keeps nothing
    between runs (a spending call then isn't recognised after a crash). pins: what the caller knows of the market
    for certain. relay: how signed transactions are sent, None for the market's own `POST /v1/transactions`.
    stake: what a delegator does.
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
        self._calls = Calls(
            api_url,
            keypair,
            token_cache,
            known_markets=known_markets,
            pins=pins,
            relay=relay,
            retry=retry,
            now_s=now_s,
            sleep=sleep,
        )
        self._payments = Payments(self._calls, intents, now_s)
        self.stake = StakeCalls(self._calls, self._payments)

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
        with self._payments.open_intent(f"POST {_JOBS}", request.body()) as intent:
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
        self, *, status: tuple[str, ...] = (), limit: int | None = None, offset: int | None = None
    ) -> JobList:
        """Own jobs, newest first."""
        params = {"status": ",".join(status)} if status else {}
        return (await self._calls.get(_JOBS, params | page(limit, offset))).read(JobList)

    async def get_job(self, job_id: str) -> Job:
        """One job."""
        return (await self._calls.get(f"{_JOBS}/{segment(job_id)}")).read(Job)

    async def cancel_job(self, job_id: str) -> Job:
        """Ask for the end of a job; what it used is paid, the rest comes back."""
        return (await self._calls.send("POST", f"{_JOBS}/{segment(job_id)}/cancel", None)).read(Job)

    async def job_log(self, job_id: str, *, stream: str = "all", tail: int | None = None) -> bytes:
        """The log so far, as text."""
        params = {"stream": stream} | ({} if tail is None else {"tail": str(tail)})
        path = f"{_JOBS}/{segment(job_id)}/logs"
        return await self._calls.transport.text(
            path, token=await self._calls.token(), params=params, accept="text/plain"
        )

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
        return (await self._calls.get("/v1/nodes", params | page(limit, offset))).read(NodeList)

    async def get_node(self, node_id: str) -> Node:
        """One machine."""
        return (await self._calls.get(f"/v1/nodes/{segment(node_id)}")).read(Node)

    # money

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

    async def _check_escrow(
        self, needed: SignatureNeeded, request: JobRequest, quote: Quote, key: str
    ) -> "CheckedTransaction":
        market = await self._calls.market()
        price = agreed_price(request, quote, market)
        terms = EscrowTerms.of(request, key=key, ceiling_price=price.price_per_hour, deposit=price.deposit)
        checked = (await self._payments.guard()).open_escrow(needed.transaction, terms)
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

    def _remember(self, intent: Intent, quote: Quote, escrow: str | None = None) -> Quote:
        intent.remember(json.dumps({"quote": quote.model_dump_json(by_alias=True), "escrow": escrow}))
        return quote


def _signed_for(intent: Intent) -> str | None:
    """The escrow that an interrupted run signed for under this key, or was about to; None where there is none."""
    try:
        escrow = json.loads(intent.memo or "{}").get("escrow")
    except (ValueError, AttributeError):
        return None
    return escrow if isinstance(escrow, str) else None
