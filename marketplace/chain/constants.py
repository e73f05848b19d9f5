"""The deployment's numbers, as published. Source: design page program.md, section 8; one profile per column.

`stop_after` and `max_market_bps` are not in that table: the first is the 300 s of its section 4, the second
is chosen so that a market can't take more than a fifth; a local chain stops sooner, so that tests don't wait.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from marketplace.chain.accounts import Params

_SECOND: Final = 1_000
_HOUR: Final = 3_600 * _SECOND
_DAY: Final = 24 * _HOUR
# Specified: Params.exposure_rate counts payment base units per so many stake base units.
_RATE_SCALE: Final = 1_000_000

CLASS_BONDS: Final[Mapping[str, int]] = MappingProxyType(
    {"cpu-small": 50, "rtx4090": 500, "a100": 2_000, "h100": 5_000}
)
"""Minimum bond per class, in whole stake tokens."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The lengths in which the profiles differ, in milliseconds."""

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
    epoch_length: int


@dataclass(frozen=True, slots=True)
class ConstantsProfile:
    """One column of the table. class_bonds: whole stake tokens.

    first_emission: whole stake tokens per epoch, before any decay; nothing of it is paid before somebody funds the
    emission vault. It can't be set again, so a deployment's is its operator's choice and 0 unless it is made.
    """

    name: str
    windows: Windows
    market_fee_bps: int = 400
    class_bonds: Mapping[str, int] = field(default_factory=lambda: CLASS_BONDS)
    first_emission: int = 0

    def params(self, payment_decimals: int, stake_decimals: int) -> Params:
        """The program's Params. One stake token stands for one payment token, whatever their decimals."""
        windows = self.windows
        return Params(
            exposure_rate=_RATE_SCALE * 10**payment_decimals // 10**stake_decimals,
            exposure_multiple=10,
            protocol_bps=100,
            max_market_bps=2_000,
            node_share_bps=5_000,
            compensation_bps=2_000,
            overclaim_bps=2_000,
            slash_cap_bps=5_000,
            decay_bps=10,
            emission_cap_bps=10_000,
            commission_step_bps=500,
            lost_after=windows.lost_after,
            ready_limit=windows.ready_limit,
            claim_limit=windows.claim_limit,
            skew=windows.skew,
            contest=windows.contest,
            reap_grace=windows.reap_grace,
            queue_limit=windows.queue_limit,
            stop_after=windows.stop_after,
            unbonding=windows.unbonding,
            commission_delay=windows.commission_delay,
            fee_delay=windows.fee_delay,
            minimum_deposit=max(1, 10**payment_decimals // 1_000),
        )


DEFAULT: Final = ConstantsProfile(
    name="default",
    windows=Windows(
        lost_after=45 * _SECOND,
        ready_limit=600 * _SECOND,
        claim_limit=180 * _SECOND,
        skew=10 * _SECOND,
        contest=_HOUR,
        reap_grace=_HOUR,
        queue_limit=_DAY,
        stop_after=300 * _SECOND,
        unbonding=14 * _DAY,
        commission_delay=_DAY,
        fee_delay=_DAY,
        epoch_length=_DAY,
    ),
)
LOCALNET: Final = ConstantsProfile(
    name="localnet",
    # Chosen: two class bonds of the smallest class an epoch, so that a funded vault shows in every position.
    first_emission=100,
    windows=Windows(
        lost_after=6 * _SECOND,
        ready_limit=60 * _SECOND,
        claim_limit=30 * _SECOND,
        skew=2 * _SECOND,
        contest=5 * _SECOND,
        reap_grace=10 * _SECOND,
        queue_limit=600 * _SECOND,
        stop_after=10 * _SECOND,
        unbonding=60 * _SECOND,
        commission_delay=20 * _SECOND,
        fee_delay=20 * _SECOND,
        epoch_length=20 * _SECOND,
    ),
)
