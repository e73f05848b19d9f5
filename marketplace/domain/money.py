"""What is owed, and to whom. Integers only; the program computes the same on the same vectors.

Vectors: tests/golden/money.json, read by this module's tests and by the program's.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext

from marketplace.domain.quantities import BPS_SCALE, MAX_U64, MILLIS_PER_HOUR, Bps, Millis, Tokens


class AmountOverflow(ArithmeticError):
    """The amount leaves 64 bits; the program refuses it as well."""


class MalformedAmount(ValueError):
    """The text is not a decimal amount of the token."""


def _fits(value: int) -> Tokens:
    if not 0 <= value <= MAX_U64:
        raise AmountOverflow
    return Tokens(value)


def amount_due(price_per_hour: Tokens, billed: Millis) -> Tokens:
    """Cost of `billed` milliseconds, rounded down (in the renter's favour).

    price_per_hour: base units of the payment token per hour, for the whole allocation.
    billed: cumulative since ready, not since the last voucher.
    Raises AmountOverflow when the result leaves 64 bits, as the program does.
    Source: system.md section 4, floor(price x milliseconds / 3,600,000).
    """
    return _fits(price_per_hour * billed // MILLIS_PER_HOUR)


def deposit_for(price_per_hour: Tokens, limit: Millis) -> Tokens:
    """What an escrow locks for the full time at the ceiling price, at least one base unit where a price is set."""
    return amount_due(price_per_hour, limit)


def fee_ceil(amount: Tokens, rate: Bps) -> Tokens:
    """ceil(amount x rate / 10,000): the fee on a cumulative amount. Source: program.md section 4."""
    return _fits(-(-amount * rate // BPS_SCALE))


@dataclass(frozen=True, slots=True)
class Split:
    """Who receives what of one payment; the four parts sum to `paid`."""

    paid: Tokens
    operator: Tokens
    stakers: Tokens
    market: Tokens
    protocol: Tokens


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Rates of one attempt, fixed when it was assigned.

    protocol: of the amount, never rebated. all_fees: market and protocol together.
    node_share: of the market's part, to the node's pool.
    """

    protocol: Bps
    all_fees: Bps
    node_share: Bps


def split_payment(before: Tokens, now: Tokens, rates: FeeRates) -> Split:
    """Parts of the payment that lifts an attempt's paid amount from `before` to `now`.

    Fees are differences of the cumulative fee, so that many small settlements cost what one large one does.
    The stakers' part includes the operator's commission, which the pool books first.
    Source: program.md section 4, "Fees are differences per attempt".
    """
    protocol = fee_ceil(now, rates.protocol) - fee_ceil(before, rates.protocol)
    all_fees = max(fee_ceil(now, rates.all_fees) - fee_ceil(before, rates.all_fees), protocol)
    market_part = all_fees - protocol
    stakers = market_part * rates.node_share // BPS_SCALE
    paid = now - before
    return Split(
        paid=_fits(paid),
        operator=_fits(paid - all_fees),
        stakers=_fits(stakers),
        market=_fits(market_part - stakers),
        protocol=_fits(protocol),
    )


def format_amount(units: int, decimals: int) -> str:
    """Exact decimal text with all `decimals` places, without exponent: 50000 at 6 is "0.050000"."""
    sign = "-" if units < 0 else ""
    whole, part = divmod(abs(units), 10**decimals)
    return f"{sign}{whole}.{part:0{decimals}d}" if decimals else f"{sign}{whole}"


def parse_amount(text: str, decimals: int) -> Tokens:
    """Base units of a decimal amount such as "0.05".

    Raises MalformedAmount for anything but plain digits with at most `decimals` places, and AmountOverflow.
    """
    if not text or len(text) > 40 or not text.replace(".", "", 1).isdecimal() or not text.isascii():
        raise MalformedAmount(text)
    whole, _, part = text.partition(".")
    if len(part) > decimals:
        raise MalformedAmount(text)
    return _fits(int(whole or "0") * 10**decimals + int(part.ljust(decimals, "0") or "0"))


def per_gpu_second(price_per_hour: Tokens, gpu_count: int, decimals: int) -> str:
    """Shown price of one GPU (for CPU classes: one slot) and second, 12 places, rounded up.

    Source: api.md section 1.2, "price".
    """
    scale = 10**12
    units = -(-price_per_hour * scale // (3600 * gpu_count * 10**decimals))
    return format_amount(units, 12)


def hourly_from_gpu_second(text: str, gpu_count: int, decimals: int, *, ceiling: bool) -> Tokens:
    """Price per hour of the allocation from a price per GPU-second.

    ceiling: a renter's ceiling rounds down, a node's floor rounds up (api.md section 1.2).
    Raises MalformedAmount, AmountOverflow.
    """
    try:
        with localcontext() as context:
            context.prec = 60
            value = Decimal(text) * 3600 * gpu_count * 10**decimals
            if not value.is_finite() or value < 0:
                raise MalformedAmount(text)
            floor = int(value)
            exact = value == floor
    except InvalidOperation as error:
        raise MalformedAmount(text) from error
    return _fits(floor if ceiling or exact else floor + 1)
