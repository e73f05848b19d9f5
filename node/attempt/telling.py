"""What the attempt tells the market of itself: each step with the report of it, the last one with the last voucher."""

from dataclasses import replace
from typing import Any, Final

import structlog

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, SignedVoucher, StateAck, StateReport
from marketplace.protocol.vouchers import VoucherMessage
from node.attempt.billing import Billing
from node.attempt.orders import Orders
from node.attempt.work import Work
from node.errors import MarketRefused
from node.journal import Ending, Step, Stop
from node.reports import Reports

_LEASE_LOST: Final = "lease_lost"
_GIVEN_AWAY: Final = Stop(Reason.NODE_QUIT, 0, final=False, detail="the market gave the attempt to another node")

_log = structlog.get_logger("node.attempt")


class Telling:
    """The reports of one attempt, and what follows from their answers."""

    def __init__(self, work: Work, reports: Reports, billing: Billing, orders: Orders) -> None:
        self._work = work
        self._reports = reports
        self._billing = billing
        self._orders = orders

    def tell(
        self,
        state: AttemptState,
        *,
        reason: Reason = Reason.RUNNING,
        exit_code: int | None = None,
        started_at_ms: int | None = None,
        detail: str | None = None,
        voucher: SignedVoucher | None = None,
        **changes: Any,
    ) -> None:
        """Journal a report together with the step it tells of; it is sent in its turn. changes: of the record."""
        record, lease_token = self._work.record, self._work.lease_token
        sequence = record.report_sequence + 1
        if started_at_ms is not None:
            changes["started_at_ms"] = started_at_ms
        if voucher is not None:
            changes["voucher"] = voucher
        record = self._work.record = replace(record, report_sequence=sequence, **changes)
        report = StateReport(
            allocation_id=record.key.allocation,
            attempt=record.key.attempt,
            lease_token=lease_token,
            sequence=sequence,
            state=state,
            reason=reason.value,
            exit_code=exit_code,
            started_at_ms=started_at_ms,
            image_digest=record.image_digest,
            detail=detail,
            voucher=voucher,
        )
        self._reports.add(record, report)

    def tell_exit(self, end: Ending) -> None:
        """Sign the last voucher, if it ever was ready, and write down that the market has to take it."""
        self.tell(
            AttemptState.EXITED,
            reason=end.reason,
            exit_code=end.exit_code,
            detail=end.detail,
            voucher=self._billing.sign_last(end),
            step=Step.ENDED,
            ending=end,
        )

    def on_taken(self, report: StateReport, ack: StateAck) -> None:
        """The market has taken a report."""
        if report.state is AttemptState.READY:
            self._billing.take_ready()
            self._work.tools.beat_soon()
        if ack.countersignature is not None:
            self._billing.on_countersigned(ack.countersignature)

    def on_refused(self, report: StateReport, error: MarketRefused) -> None:
        """The market does not take a report, and will not."""
        work, end = self._work, self._work.record.ending
        _log.warning("report refused", action="report_refused", state=report.state, code=error.code, **work.names)
        if error.code == _LEASE_LOST:
            self._orders.stop(_GIVEN_AWAY)
        elif report.state is AttemptState.EXITED and report.voucher is not None and end is not None:
            self._offer_less(VoucherMessage.from_fields(report.voucher.fields), end)

    def _offer_less(self, refused: VoucherMessage, end: Ending) -> None:
        """The meter did not take the last voucher: show one that bills no more than it has already signed.

        Arguing is pointless once the work is over: time that the meter has not countersigned is never paid, and
        only a voucher of both sides closes the escrow without a contest. Where not even that is taken, the end is
        reported without a voucher: the market then releases the attempt by the last countersigned one, and the
        slot is free. So each attempt comes to an end after at most three reports.
        """
        accepted = self._billing.accepted()
        at_ms = accepted.at_ms if accepted else refused.started_at_ms
        self._work.usage.give_up_the_rest(accepted)
        if (refused.billed_ms, refused.at_ms) == (accepted.billed_ms if accepted else 0, at_ms):
            self._tell_bare_exit(end)
        else:
            self.tell_exit(replace(end, at_ms=at_ms))

    def _tell_bare_exit(self, end: Ending) -> None:
        names = self._work.names
        _log.warning("ended without a last voucher", action="ended_bare", reason=end.reason.code, **names)
        self.tell(AttemptState.EXITED, reason=end.reason, exit_code=end.exit_code, detail=end.detail)
