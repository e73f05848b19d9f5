"""Units as types; they mirror the program's `quantities.rs`, so that a price is never taken for a time."""

from typing import Final, NewType

Tokens = NewType("Tokens", int)
"""Base units of the payment token, 0 ≤ n < 2^64."""
Stake = NewType("Stake", int)
"""Base units of the stake token, 0 ≤ n < 2^64."""
Shares = NewType("Shares", int)
"""Parts of a bucket of stake, 0 ≤ n < 2^128."""
Millis = NewType("Millis", int)
"""Milliseconds; an instant counts from the Unix epoch, as the chain's clock does."""
Seconds = NewType("Seconds", int)
Bps = NewType("Bps", int)
"""Hundredths of a percent, 0..10,000."""
Lamports = NewType("Lamports", int)

MAX_U64: Final = 2**64 - 1
"""Largest amount the chain stores; specified in program.md, section 1."""
MAX_U128: Final = 2**128 - 1
"""Largest number of shares and largest accumulator that the chain stores; specified in program.md, section 2."""
BPS_SCALE: Final = 10_000
MILLIS_PER_HOUR: Final = 3_600_000
GB: Final = 1_000_000_000
"""Bytes of a GB, as disks and memory are asked for."""
