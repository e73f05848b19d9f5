"""The wallet's side of every transaction: checked, agreed to, signed, sent, and waited for.

Each transaction that the market offers is decoded and held against what was asked for (`guard.py`) before it is
signed. Each call that spends carries a key that is on disk before the call goes out (`intents.py`).
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from marketplace.client.calls import Calls, segment
from marketplace.client.errors import (
    ApiError,
    Declined,
    MalformedAnswer,
    NotConfirmed,
    TransactionExpired,
    TransactionFailed,
)
from marketplace.client.intents import Intent, IntentStore
from marketplace.client.models import PreparedTransaction, SentTransaction, TransactionState

if TYPE_CHECKING:
    from marketplace.client.guard import CheckedTransaction, Guard

_Offer = TypeVar("_Offer", bound=PreparedTransaction)
POLL_S: Final = 0.5
LANDING_S: Final = 90
"""Longer than a blockhash lives (150 blocks), so that a transaction has landed or expired by then."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A wallet's transaction that the chain confirmed. offered: the market's own account of it."""

    signature: str
    summary: str
    resumed: bool
    offered: PreparedTransaction | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is about to be signed.

    summary: written here from the decoded instructions. offered: the market's account of the effects, to be shown
    as its word.
    """

    summary: str
    offered: PreparedTransaction


Consent = Callable[[Proposal], bool]
"""Asked once, after the check and before the signature."""


class Payments:
    """Pays through one wallet's calls. intents: None keeps nothing between runs."""

    def __init__(self, calls: Calls, intents: IntentStore | None, now_s: Callable[[], float]) -> None:
        self._calls = calls
        self._intents = intents
        self._now_s = now_s

    async def pay(
        self,
        path: str,
        body: Mapping[str, object] | None,
        check: "Callable[[Guard, str], CheckedTransaction]",
        *,
        method: str = "POST",
        consent: Consent | None = None,
    ) -> Paid:
        """As `pay_offer`, for an answer of which only the transaction matters."""
        return await self.pay_offer(
            PreparedTransaction,
            path,
            body,
            lambda guard, offer: check(guard, offer.transaction),
            method=method,
            consent=consent,
        )

    async def pay_offer(
        self,
        answer: type[_Offer],
        path: str,
        body: Mapping[str, object] | None,
        check: "Callable[[Guard, _Offer], CheckedTransaction]",
        *,
        method: str = "POST",
        consent: Consent | None = None,
    ) -> Paid:
        """Ask for a transaction, check it, sign it and see it land.

        answer: what the route offers. Raises TransactionRefused (nothing was signed), Declined (by `consent`),
        TransactionFailed, NotConfirmed.
        """
        guard = await self.guard()
        with self.open_intent(f"{method} {path}", body) as intent:
            try:
                reply = await self._calls.send(method, path, body, key=intent.key)
            except ApiError as error:
                if is_final(error):
                    intent.answered()
                raise
            prepared = reply.read(answer)
            checked = check(guard, prepared)
            if consent is not None and not consent(Proposal(checked.summary, prepared)):
                # Nothing was signed: the next run asks for a fresh transaction.
                intent.answered()
                raise Declined("not agreed to; nothing was signed, nothing was spent")
            try:
                signature = await self.sign_and_send(checked)
                await self.confirmed(signature)
            except (TransactionFailed, ApiError) as error:
                # What failed, was refused or can no longer land is over: the next run starts afresh.
                if not isinstance(error, ApiError) or is_final(error):
                    intent.answered()
                raise
            intent.answered()
            return Paid(signature, checked.summary, intent.resumed, prepared)

    async def land(self, checked: "CheckedTransaction") -> str:
        """Sign, send, and wait; the signature, empty where it expired: the market then offers new bytes.

        Raises TransactionFailed when it landed and failed.
        """
        try:
            signature = await self.sign_and_send(checked)
            await self.confirmed(signature)
        except TransactionExpired:
            return ""
        except ApiError as error:
            if error.code != "transaction_expired":
                raise
            return ""
        return signature

    async def sign_and_send(self, checked: "CheckedTransaction") -> str:
        signed = checked.signed_by(self._calls.signer())
        if self._calls.relay is not None:
            return await self._calls.relay.send(signed)
        body = {"transaction": base64.b64encode(signed).decode()}
        # Not a key of its own: the market relays equal bytes once, so that repeating them can't pay twice.
        reply = await self._calls.send("POST", "/v1/transactions", body, key=checked.relay_key)
        sent = reply.read(SentTransaction)
        if sent.signature != checked.signature_of(signed):
            raise MalformedAnswer("the market names another signature than that of the transaction it was given")
        return sent.signature

    async def confirmed(self, signature: str, timeout_s: float = LANDING_S) -> None:
        """Until the chain has it. Raises TransactionFailed, NotConfirmed."""
        if self._calls.relay is not None:
            await self._calls.relay.confirmed(signature, timeout_s)
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
            await self._calls.sleep(POLL_S)

    async def transaction(self, signature: str) -> TransactionState:
        """How far a transaction sent through the market is."""
        return (await self._calls.get(f"/v1/transactions/{segment(signature)}")).read(TransactionState)

    async def guard(self) -> "Guard":
        """What checks transactions for this wallet at this market."""
        # The coders behind it take half a second to load; only what signs waits for them.
        from marketplace.client.guard import Guard  # noqa: PLC0415

        return Guard(await self._calls.market(), self._calls.signer().address)

    def open_intent(self, route: str, body: object) -> Intent:
        now_s = int(self._now_s())
        if self._intents is None:
            return Intent.unsaved(now_s)
        return self._intents.open(
            api_url=self._calls.transport.base_url, wallet=self._calls.subject, route=route, body=body, now_s=now_s
        )


def is_final(error: ApiError) -> bool:
    """Whether the answer settles the call: the same request would only get it again, and nothing was bound.

    402 stays open (funding the vault and repeating goes on), as does what can be retried.
    """
    return error.status in {400, 404, 409, 413, 415, 422} and error.code not in {
        "idempotency_in_progress",
        "transaction_expired",
    }
