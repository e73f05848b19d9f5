"""What a wallet agrees to: the market it deals with, the escrow of a job, the caps of an allowance."""

from dataclasses import dataclass
from datetime import UTC, datetime

from solders.pubkey import Pubkey

from marketplace.chain.addresses import parse_address
from marketplace.chain.builders import Deployment
from marketplace.chain.errors import NotCanonical
from marketplace.client.errors import MalformedAnswer
from marketplace.client.models import ChainConstants
from marketplace.client.requests import JobRequest
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.retries import MAX_ATTEMPTS
from marketplace.protocol.terms import terms_hash


@dataclass(frozen=True, slots=True)
class MarketOnChain:
    """The identity that every transaction is held against."""

    deployment: Deployment
    market: Pubkey
    quote_key: Pubkey | None = None

    @property
    def decimals(self) -> int:
        """Places of the payment token."""
        return self.deployment.payment_decimals

    @classmethod
    def of(cls, constants: ChainConstants) -> "MarketOnChain":
        """From the published (and pinned) constants. Raises MalformedAnswer for text that is no address."""
        try:
            deployment = Deployment(
                program=parse_address(constants.program_id),
                genesis_hash=bytes(parse_address(constants.genesis_hash)),
                payment_mint=parse_address(constants.payment_mint),
                stake_mint=parse_address(constants.stake_mint),
                payment_decimals=constants.decimals,
                stake_decimals=constants.stake_decimals or constants.decimals,
            )
            return cls(
                deployment=deployment,
                market=parse_address(constants.market),
                quote_key=None if constants.quote_key is None else parse_address(constants.quote_key),
            )
        except NotCanonical as error:
            raise MalformedAnswer(f"the market's constants name an address that is none: {error}") from error


@dataclass(frozen=True, slots=True)
class AllowanceTerms:
    """Caps of an allowance, base units of the payment token. expires_at: UTC, whole seconds."""

    per_job: int
    per_day: int
    total: int
    max_price_per_hour: int
    expires_at: datetime

    def expires_at_text(self) -> str:
        """RFC 3339 with Z."""
        return self.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def expires_at_ms(self) -> int:
        """Milliseconds since the Unix epoch, as the program counts."""
        return int(self.expires_at.timestamp()) * 1000


@dataclass(frozen=True, slots=True)
class EscrowTerms:
    """What an escrow may be: exact terms, and upper bounds for its money."""

    class_id: bytes
    terms_hash: bytes
    ceiling_price: int
    deposit: int
    max_time_ms: int
    attempts: int = MAX_ATTEMPTS

    @classmethod
    def of(cls, request: JobRequest, *, key: str, ceiling_price: int, deposit: int) -> "EscrowTerms":
        """Terms of a job: the hash is made here, from the request and the key under which it is submitted."""
        spec = request.spec()
        return cls(
            class_id=class_bytes(spec.class_id),
            terms_hash=terms_hash(spec.spec_hash(), key),
            ceiling_price=ceiling_price,
            deposit=deposit,
            max_time_ms=spec.limit_ms,
            attempts=request.attempts(),
        )
