"""What a call of the client may raise; every message says what it means for the money and what to do next.

ClientError
├─ ApiError             the market answered with an error: its code, status, message, details
│    └─ SignatureNeeded     402 `signature_required`: carries the transaction, which nobody has checked yet
├─ Unreachable          no answer at all; a spending call may have been taken, repeat it with the same key
├─ MalformedAnswer      an answer that isn't what api.md describes
├─ NoPrice              a quote without a price: nobody offers this yet, and no ceiling was named
├─ NotHere              a field that only a market gives effect to, in a run on this machine
├─ LoginNeeded          no usable token and no keypair to make one
├─ KeypairError         the keypair file is missing, unreadable or not one
├─ UnsafeToSign         what the market asked to sign isn't what was requested; nothing was signed
│    ├─ ChallengeRefused    the login text
│    └─ TransactionRefused  the transaction
├─ Declined             its owner said no before anything was signed
├─ MarketChanged        the market's program, cluster or address differ from those remembered for this URL
├─ NotConfirmed         a sent transaction was not seen to land in time
└─ TransactionFailed    it landed and failed
     └─ TransactionExpired   it can never land; nothing was spent
"""

from collections.abc import Mapping
from dataclasses import dataclass


class ClientError(Exception):
    """Base of the tree; never raised itself."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One wrong field of a request, as the market names it."""

    field: str
    code: str
    message: str
    allowed: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()


class ApiError(ClientError):
    """The market refused.

    code: the published code (api.md section 2.2). retry_after_s: of the Retry-After header.
    extra: further members of the body.
    """

    def __init__(
        self,
        *,
        code: str,
        status: int,
        message: str,
        details: tuple[FieldProblem, ...] = (),
        request_id: str | None = None,
        retryable: bool = False,
        retry_after_s: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = status
        self.message = message
        self.details = details
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.extra: Mapping[str, object] = dict(extra or {})


class SignatureNeeded(ApiError):
    """402 `signature_required`; `transaction` is the server's word and must be checked before it is signed."""

    @property
    def transaction(self) -> str:
        """Base64 of the unsigned transaction, empty where the answer lacks it."""
        value = self.extra.get("transaction")
        return value if isinstance(value, str) else ""

    @property
    def escrow(self) -> str | None:
        """Address of the escrow that the server says the transaction opens."""
        value = self.extra.get("escrow")
        return value if isinstance(value, str) else None

    @property
    def nonce(self) -> int | None:
        """From which the address of the wallet's own escrow follows, where the server names it."""
        value = self.extra.get("nonce")
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else None


class Unreachable(ClientError):
    """The market could not be reached, or the connection broke before the answer was complete."""


class MalformedAnswer(ClientError):
    """The answer is not what the API's description says; nothing was concluded from it."""


class NoPrice(ClientError):
    """The quote has no price."""


class NotHere(ClientError):
    """A run on this machine was asked for something that only a market has; nothing was run."""


class LoginNeeded(ClientError):
    """No usable token, and no keypair to sign in with."""


class KeypairError(ClientError):
    """The keypair file is missing, unreadable or malformed."""


class UnsafeToSign(ClientError):
    """What was to be signed is not what was asked for. Nothing was signed, nothing was spent."""


class ChallengeRefused(UnsafeToSign):
    """The login text is not the one that this wallet, market and moment call for."""


class TransactionRefused(UnsafeToSign):
    """The transaction does something other than what was requested.

    deviation: the one thing that differs, in words.
    """

    def __init__(self, deviation: str) -> None:
        super().__init__(
            f"the market's transaction is not what was asked for: {deviation}. Nothing was signed, nothing was spent"
        )
        self.deviation = deviation


class Declined(ClientError):
    """The wallet's owner did not agree. Nothing was signed, nothing was spent."""


class MarketChanged(ClientError):
    """The market behind this URL is another one than last time."""


class NotConfirmed(ClientError):
    """A transaction was sent and not seen to land in time; it may still land. Repeat the same command to go on."""


class TransactionFailed(ClientError):
    """A transaction failed on chain, or can no longer land; no money moved but a landed one's fee."""


class TransactionExpired(TransactionFailed):
    """A transaction was not taken in time and can no longer land: nothing was spent."""
