from marketplace.domain.reasons import BEFORE_READY, JOB_REASONS, MEANINGS, OF_NODES, Reason, believed


def test_what_ends_before_the_meter_runs_costs_the_renter_nothing_and_what_was_billed_never_ends_so():
    assert {MEANINGS[reason].renter_pays for reason in BEFORE_READY} == {"0"}
    for reason in BEFORE_READY:
        assert believed(reason, ready=False, cancelling=False, draining=False) is reason
        assert believed(reason, ready=True, cancelling=False, draining=False) is Reason.NODE_QUIT


def test_a_cancel_that_nobody_asked_for_is_a_node_that_gave_up():
    assert believed(Reason.CANCELLED, ready=True, cancelling=True, draining=False) is Reason.CANCELLED
    assert believed(Reason.CANCELLED, ready=True, cancelling=False, draining=False) is Reason.NODE_QUIT


def test_work_is_handed_over_for_a_maintenance_that_was_announced_and_for_no_other():
    assert believed(Reason.NODE_DRAINED, ready=True, cancelling=False, draining=True) is Reason.NODE_DRAINED
    assert believed(Reason.NODE_DRAINED, ready=True, cancelling=False, draining=False) is Reason.NODE_QUIT


def test_what_is_the_market_s_or_the_chain_s_to_say_is_not_believed_of_a_node():
    for reason in set(Reason) - OF_NODES:
        assert believed(reason, ready=True, cancelling=False, draining=False) is Reason.NODE_QUIT
    assert {
        Reason.QUEUE_EXPIRED, Reason.NODE_LOST, Reason.OVERCLAIM, Reason.MARKET_ERROR,
    } == JOB_REASONS - OF_NODES  # fmt: skip


def test_ends_of_the_work_are_believed():
    for reason in OF_NODES - BEFORE_READY - {Reason.CANCELLED, Reason.NODE_DRAINED}:
        assert believed(reason, ready=True, cancelling=False, draining=False) is reason
