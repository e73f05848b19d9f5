"""The vouchers of one attempt: its series as it stands, and the last ones it signed.

It writes nothing down. Whoever shows a voucher journals it first.
"""

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from marketplace.domain.quantities import Millis
from marketplace.domain.reasons import Reason
from marketplace.protocol import signatures
from marketplace.protocol.control import Countersignature, SignedVoucher
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.journal import Accepted, Attempt
from node.keys import KeyPair
from node.metering import Bounds, Identity, Series, signed

# Chosen: an answer is about one of the last few vouchers, or it came too late to matter.
_REMEMBERED_VOUCHERS: Final = 16


class Usage:
    """What one attempt bills. The meter runs from `resume` on."""

    def __init__(self, identity: Identity, key: KeyPair, bounds: Bounds) -> None:
        self.bounds = bounds
        self._identity = identity
        self._key = key
        self._series: Series | None = None
        self._recent: OrderedDict[int, SignedVoucher] = OrderedDict()

    def resume(self, record: Attempt, started_at_ms: int) -> None:
        """The series as the journal has it, so that it goes on after a restart instead of beginning anew."""
        last = VoucherMessage.from_fields(record.voucher.fields) if record.voucher else None
        # After a concession the last voucher may bill what was refused: only the accepted one is a floor then.
        floor = last if record.conceded_ms == 0 else (record.accepted.message if record.accepted else None)
        self._series = Series(
            identity=self._identity,
            escrow=record.request.escrow,
            wallet=record.request.wallet,
            attempt=record.request.attempt,
            bounds=self.bounds,
            started_at_ms=started_at_ms,
            sequence=last.sequence if last else 0,
            at_ms=floor.at_ms if floor else 0,
            billed_ms=floor.billed_ms if floor else 0,
            conceded_ms=record.conceded_ms,
            paused_ms=record.paused_ms,
            paused_at_ms=record.paused_at_ms,
        )
        if last is not None and record.voucher is not None:
            self._recent[last.sequence] = record.voucher

    @property
    def runs(self) -> bool:
        """Whether the meter has begun."""
        return self._series is not None

    @property
    def series(self) -> Series:
        """The series as it stands; only once the meter runs."""
        if self._series is None:
            raise AssertionError("the meter runs from READY on")
        return self._series

    def sign(self, now_ms: int, digest: bytes, state: VoucherState, reason: Reason) -> SignedVoucher:
        """The next voucher of the series. digest: of log and outputs."""
        message, self._series = self.series.next(now_ms, digest, state, reason)
        voucher = signed(message, self._key)
        self._recent[message.sequence] = voucher
        while len(self._recent) > _REMEMBERED_VOUCHERS:
            self._recent.popitem(last=False)
        return voucher

    def extend(self, bounds: Bounds) -> None:
        """There is more time and deposit."""
        self.bounds = bounds
        if self._series is not None:
            self._series = replace(self._series, bounds=bounds)

    def pause(self, at_ms: int) -> None:
        """Bill nothing from this moment on."""
        self._series = self.series.pause(at_ms)

    def go_on(self, at_ms: int) -> None:
        """Bill again from this moment on."""
        self._series = self.series.resume(at_ms)

    def find_accepted(self, countersignature: Countersignature, meter_key: bytes) -> Accepted | None:
        """The voucher of ours that it countersigns; None for one we don't know. Raises NotTheMeter."""
        voucher = self._recent.get(countersignature.sequence)
        if voucher is None:
            return None
        message = VoucherMessage.from_fields(voucher.fields)
        if not signatures.verify(meter_key, message.signing_bytes(), countersignature.signature):
            raise NotTheMeter
        return Accepted(voucher, countersignature.signature)

    def concede(self, unseen_ms: int, accepted: VoucherMessage | None) -> bool:
        """Give up time that the market could not have seen; whether that is more than before."""
        if unseen_ms <= self.series.conceded_ms:
            return False
        self._series = self.series.concede(unseen_ms, accepted)
        return True

    def step_back(self, accepted: VoucherMessage | None) -> None:
        """Go on from what the meter has signed: what it refused for its time alone is billed later."""
        self._series = self.series.concede(self.series.conceded_ms, accepted)

    def give_up_the_rest(self, accepted: VoucherMessage | None) -> None:
        """From now on bill no more than the meter has already signed."""
        capped = replace(self.bounds, max_ms=Millis(accepted.billed_ms if accepted else 0))
        self._series = replace(self.series.concede(self.series.conceded_ms, accepted), bounds=capped)


class NotTheMeter(Exception):
    """A countersignature is not by the attempt's meter key; caught by the attempt, which keeps nothing of it."""
