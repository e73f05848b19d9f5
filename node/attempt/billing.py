"""What the attempt shows the meter, and what the meter answers.

A voucher is journalled before anybody sees it. No time is shown before the meter can have seen any of it: it would be
billed for good.
"""

from typing import Final

import structlog

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import Countersignature, Refusal, SignedVoucher
from marketplace.protocol.digests import voucher_digest
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from node.attempt.output import Output
from node.attempt.work import Work
from node.journal import Ending
from node.usage import NotTheMeter

_CLOCK: Final = "clock"
_AHEAD: Final = "ahead"

_log = structlog.get_logger("node.attempt")


class Billing:
    """The voucher series of one attempt, on its way to the meter and back.

    ready_taken: the meter countersigns nothing before it has taken `ready`: no voucher is shown until then.
    runs: the engine has said that the work runs; nothing is shown before that either, nor once its end is known.
    """

    def __init__(self, work: Work, output: Output, *, ready_taken: bool) -> None:
        self.runs = False
        self._work = work
        self._output = output
        self._ready_taken = ready_taken
        self._ready_taken_ms: int | None = None
        # The last running voucher was refused for its time: the next one carries a time that the chain has reached.
        self._ahead = False

    def take_ready(self) -> None:
        """The market has just taken our `ready`: its own clock of the attempt begins now."""
        self._ready_taken_ms = self._work.now_ms()
        self._ready_taken = True

    def show(self) -> SignedVoucher | None:
        """A new voucher for what has run until now; None while there is nothing to show."""
        if not (self._work.metering and self._ready_taken and self.runs):
            return None
        voucher = self._sign(self.showable_ms(), VoucherState.RUNNING, Reason.RUNNING)
        self._work.save(voucher=voucher)
        return voucher

    def sign_last(self, end: Ending) -> SignedVoucher | None:
        """The voucher of the attempt's end, for the caller to journal; None of one that never was ready."""
        if not self._work.usage.runs:
            return None
        state = VoucherState.FINAL if end.final else VoucherState.ENDED
        return self._sign(end.at_ms, state, end.reason, bytes.fromhex(end.outputs or ""))

    def showable_ms(self) -> int:
        """Now, as far as the chain is known to be by the market's word; it refuses what lies ahead of that."""
        chain = self._work.tools.chain_clock
        reached = chain.known_ms() if self._ahead else chain.now_ms()
        return self._work.now_ms() if reached is None else min(self._work.now_ms(), reached)

    def accepted(self) -> VoucherMessage | None:
        """The last voucher that the meter signed, too."""
        accepted = self._work.record.accepted
        return accepted.message if accepted else None

    def on_countersigned(self, countersignature: Countersignature) -> None:
        """Keep the meter's signature if it is one, over a voucher that we signed."""
        work = self._work
        try:
            found = work.usage.find_accepted(countersignature, work.record.meter_key)
        except NotTheMeter:
            _log.error("not the meter's signature", action="bad_countersignature", **work.names)
            return
        accepted = work.record.accepted
        self._ahead = False
        if found is not None and (accepted is None or accepted.message.sequence < found.message.sequence):
            work.save(accepted=found)

    def on_refused(self, refusal: Refusal) -> None:
        """The meter did not countersign. Time that it could not have seen is given up, once; we go on.

        Time that the chain has not reached yet is given up by nobody: it is billed when the chain has.
        """
        work = self._work
        _log.warning("voucher refused", action="voucher_refused", code=refusal.code, **work.names)
        goes_on = work.usage.runs and work.metering
        if refusal.code == _AHEAD and goes_on:
            self._ahead = True
            work.usage.step_back(self.accepted())
        if refusal.code != _CLOCK or not goes_on or self._ready_taken_ms is None:
            return
        # The market's clock of this attempt began when it took our `ready`, not when we were.
        unseen = max(0, self._ready_taken_ms - work.usage.series.started_at_ms)
        if work.usage.concede(unseen, self.accepted()):
            work.save(conceded_ms=unseen)

    def _sign(self, now_ms: int, state: VoucherState, reason: Reason, outputs: bytes = b"") -> SignedVoucher:
        """The next voucher of the series. The caller journals it before it is shown to anybody."""
        return self._work.usage.sign(now_ms, voucher_digest(self._output.digest(), outputs), state, reason)
