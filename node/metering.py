"""What an attempt costs at a moment, and the voucher that says so. Source: program.md section 4.

Invariants, each with a test: sequence, at, billed and amount never fall in a series; billed never passes the
time since ready, the attempt's limit, or what its deposit pays; between two vouchers billed grows no faster
than the clock.
"""

from dataclasses import dataclass, replace

from marketplace.domain.money import amount_due
from marketplace.domain.quantities import MILLIS_PER_HOUR, Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.control import ClaimRequest, SignedVoucher
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.keys import KeyPair


@dataclass(frozen=True, slots=True)
class Identity:
    """Where this node lives: 32 raw bytes each, pinned by the configuration, never taken from a message.

    node: address of its Node account.
    """

    program_id: bytes
    genesis_hash: bytes
    market: bytes
    node: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one attempt may bill at most.

    price_per_hour: agreed in the claim. max_ms: time left of the escrow. deposit: money left of it.
    """

    price_per_hour: Tokens
    max_ms: Millis
    deposit: Tokens

    @classmethod
    def of(cls, request: ClaimRequest, extended_ms: int = 0, extended_deposit: int = 0) -> "Bounds":
        """The bounds to which the claim consented, and what was added to the escrow since."""
        return cls(
            Tokens(request.price_per_hour),
            Millis(request.max_ms + extended_ms),
            Tokens(request.deposit + extended_deposit),
        )

    @property
    def limit_ms(self) -> Millis:
        """Billed milliseconds at which the attempt ends: its time, or the last one that its deposit pays."""
        if self.price_per_hour == 0:
            return self.max_ms
        # The largest b with floor(price x b / hour) <= deposit.
        affordable = ((self.deposit + 1) * MILLIS_PER_HOUR - 1) // self.price_per_hour
        return Millis(min(self.max_ms, affordable))

    @property
    def ends_for_want_of_funds(self) -> bool:
        """Whether the deposit is used up before the time is."""
        return self.limit_ms < self.max_ms

    def billed(self, elapsed_ms: int) -> Millis:
        """Billable part of the time since ready."""
        return Millis(max(0, min(elapsed_ms, self.limit_ms)))


@dataclass(frozen=True, slots=True)
class Series:
    """The voucher series of one attempt, as it stands. Each `next` gives the voucher and the series after it.

    started_at_ms: ready, chain time; the same in every voucher.
    conceded_ms: time since ready that the market could not have seen and refused; never billed.
    paused_ms: time since ready that it was held at its limit; never billed. paused_at_ms: since when it is held now.
    """

    identity: Identity
    escrow: bytes
    wallet: bytes
    attempt: int
    bounds: Bounds
    started_at_ms: int
    sequence: int = 0
    at_ms: int = 0
    billed_ms: int = 0
    conceded_ms: int = 0
    paused_ms: int = 0
    paused_at_ms: int | None = None

    @property
    def limit_at_ms(self) -> int:
        """Chain time at which the limit is reached, unless it is held before."""
        return self.started_at_ms + self.conceded_ms + self.paused_ms + self.bounds.limit_ms

    def next(
        self, now_ms: int, digest: bytes, state: VoucherState = VoucherState.RUNNING, reason: Reason = Reason.RUNNING
    ) -> tuple[VoucherMessage, "Series"]:
        """The voucher for the usage up to `now_ms` (chain time), and the series that follows it."""
        at = max(now_ms, self.at_ms, self.started_at_ms)
        ran_until = at if self.paused_at_ms is None else min(at, self.paused_at_ms)
        ran_ms = ran_until - self.started_at_ms - self.conceded_ms - self.paused_ms
        billed = max(self.bounds.billed(ran_ms), self.billed_ms)
        voucher = VoucherMessage(
            program_id=self.identity.program_id,
            genesis_hash=self.identity.genesis_hash,
            escrow=self.escrow,
            attempt=self.attempt,
            wallet=self.wallet,
            node=self.identity.node,
            sequence=self.sequence + 1,
            started_at_ms=self.started_at_ms,
            at_ms=at,
            billed_ms=billed,
            amount=amount_due(self.bounds.price_per_hour, Millis(billed)),
            state=state,
            reason=reason.value,
            digest=digest,
        )
        return voucher, replace(self, sequence=voucher.sequence, at_ms=at, billed_ms=billed)

    def pause(self, at_ms: int) -> "Series":
        """From this moment nothing is billed."""
        return replace(self, paused_at_ms=at_ms)

    def resume(self, at_ms: int) -> "Series":
        """From this moment it is billed again, from where it was held."""
        if self.paused_at_ms is None:
            return self
        held = max(0, at_ms - self.paused_at_ms)
        return replace(self, paused_ms=self.paused_ms + held, paused_at_ms=None)

    def concede(self, unseen_ms: int, countersigned: VoucherMessage | None) -> "Series":
        """The series after the meter refused it: time it could not have seen is given up.

        Goes back to the last countersigned voucher: what was refused never counted, only its sequence is spent.
        """
        return replace(
            self,
            conceded_ms=max(self.conceded_ms, unseen_ms),
            at_ms=countersigned.at_ms if countersigned else 0,
            billed_ms=countersigned.billed_ms if countersigned else 0,
        )


def signed(voucher: VoucherMessage, key: KeyPair) -> SignedVoucher:
    """The voucher with the node's signature, as it travels."""
    return SignedVoucher(fields=voucher.fields(), signature=key.sign(voucher.signing_bytes()))
