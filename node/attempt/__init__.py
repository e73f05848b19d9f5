"""The life of one attempt on this node, from its claim until nothing of it is left.

    claimed -> starting -> ready -> ended -> cleared -> forgotten

Each step is journalled before the act that it allows, so that a daemon that dies anywhere goes on where it was:
it never starts a second container, never opens a second voucher series, and never bills twice.

    runner       the life itself, in the order above; what the agent calls
    claiming     whose the attempt is: the lease from the market, the assignment on the chain
    preparing    what has to be here before the work runs: image, inputs, checkpoint; the start
    restoring    an earlier attempt's checkpoint on its way here
    running      the work's time: its limit, the hold at the limit, what is looked at meanwhile
    checkpointing  /checkpoint on its way to the market, while it runs and at its end
    delivering   the end of the work, and what it left in /outputs
    orders       what others want of it: assigned, stop, extend, settled
    telling      what it tells the market: reports and the last voucher
    billing      what it shows the meter, and what the meter answers
    output       its log, on the way to the market
    work         what all of these share: the record as journalled, and the tools
"""
