"""What the rules of the model share: refusals, the deployment's numbers, and amounts in exact integers."""

from dataclasses import dataclass

HOUR = 3_600_000
DAY = 24 * HOUR


class Refusal(Exception):
    """The rules say no. The argument is the name of the program's error."""


def need(holds, name):
    if not holds:
        raise Refusal(name)


@dataclass(frozen=True)
class Rules:
    """The deployment's numbers, named as the program names them."""

    exposure_rate: int
    exposure_multiple: int
    protocol_bps: int
    max_market_bps: int
    node_share_bps: int
    compensation_bps: int
    overclaim_bps: int
    slash_cap_bps: int
    decay_bps: int
    emission_cap_bps: int
    commission_step_bps: int
    lost_after: int
    ready_limit: int
    claim_limit: int
    skew: int
    contest: int
    reap_grace: int
    queue_limit: int
    stop_after: int
    unbonding: int
    commission_delay: int
    fee_delay: int
    minimum_deposit: int

    def stake_of(self, amount):
        """Stake units that a payment amount stands for."""
        return amount * 1_000_000 // self.exposure_rate

    def exposure_limit(self, stake):
        return stake * self.exposure_rate // 1_000_000 * self.exposure_multiple

    def room(self, value, slashed):
        """What an epoch's cap leaves of something of which `slashed` is gone already."""
        return max(0, (value + slashed) * self.slash_cap_bps // 10_000 - slashed)


def due(price, billed):
    return price * billed // HOUR


def fee(amount, bps):
    return -(-amount * bps // 10_000)


OPEN, EXTEND, ASSIGN, REGISTER, DELEGATE, BOND, GRANT = (1 << bit for bit in range(7))
"""Bits of the pause."""
