"""What a quote binds its renter to, checked against the request and against itself."""

from dataclasses import dataclass
from typing import Final

from marketplace.client.errors import MalformedAnswer, NoPrice
from marketplace.client.models import Quote
from marketplace.client.requests import JobRequest
from marketplace.client.terms import MarketOnChain
from marketplace.domain.money import AmountOverflow, MalformedAmount, deposit_for, hourly_from_gpu_second, parse_amount
from marketplace.domain.quantities import Millis, Tokens
from marketplace.protocol.quotes import MalformedQuote, open_token

_MINIMUM_DEPOSIT_PARTS: Final = 1000
"""The program's least deposit is a thousandth of a token; program.md section 8."""


@dataclass(frozen=True, slots=True)
class AgreedPrice:
    """The most that may be signed, base units. deposit: what an escrow may lock."""

    price_per_hour: int
    deposit: int


def agreed_price(request: JobRequest, quote: Quote, market: MarketOnChain) -> AgreedPrice:
    """The price that a person was shown, in the units that are signed.

    Raises NoPrice where the quote has none, MalformedAnswer when it is for something else, contradicts itself,
    exceeds the ceiling that the request named, or was not signed by the market's quote key.
    """
    spec = request.spec()
    price = quote.price_per_hour_units
    if price is None or quote.price_per_hour is None or quote.max_total is None:
        raise NoPrice("nobody offers this class yet, so there is no price to go by; name the most you would pay")
    _same("price per hour", _units(quote.price_per_hour, market), price)
    _same("class", quote.class_, spec.class_id)
    _same("number of GPUs", quote.gpu_count, spec.gpu_count)
    _same("time limit", quote.max_seconds, request.limit_s())
    _same("spec hash", quote.spec_hash, spec.spec_hash().hex())
    if request.max_price_per_hour is not None and price > _units(request.max_price_per_hour, market):
        raise _above(quote, request.max_price_per_hour)
    per_second = request.max_price_per_gpu_second
    if per_second is not None and price > hourly_from_gpu_second(
        per_second, spec.gpu_count, market.decimals, ceiling=True
    ):
        raise _above(quote, f"{per_second} a GPU and second")
    deposit = _units(quote.max_total, market)
    most = max(deposit_for(Tokens(price), Millis(spec.limit_ms)), 10**market.decimals // _MINIMUM_DEPOSIT_PARTS)
    if deposit > most:
        raise MalformedAnswer(f"the quote's maximum total of {quote.max_total} exceeds price x time; nothing was spent")
    _check_token(quote, price, deposit, market)
    return AgreedPrice(price_per_hour=price, deposit=deposit)


def _above(quote: Quote, ceiling: str) -> MalformedAnswer:
    return MalformedAnswer(
        f"the market quotes {quote.price_per_hour} an hour, above the ceiling of {ceiling}; nothing was spent"
    )


def _check_token(quote: Quote, price: int, deposit: int, market: MarketOnChain) -> None:
    """The signed form must say the same: it is what the market can be held to."""
    if market.quote_key is None:
        return
    try:
        signed = open_token(quote.quote or "", bytes(market.quote_key))
    except MalformedQuote as error:
        raise MalformedAnswer(f"the quote can't be relied on: {error}; nothing was spent") from error
    _same("signed id", signed.id, quote.id)
    _same("signed market", signed.market, str(market.market))
    _same("signed price per hour", signed.price_per_hour, price)
    _same("signed maximum total", signed.max_total, deposit)
    _same("signed spec hash", signed.spec_hash, quote.spec_hash)
    _same("signed time limit", signed.max_seconds, quote.max_seconds)


def _same(what: str, offered: object, expected: object) -> None:
    if offered != expected:
        raise MalformedAnswer(f"the quote's {what} is {offered}, expected {expected}; nothing was spent")


def _units(amount: str, market: MarketOnChain) -> int:
    try:
        return parse_amount(amount, market.decimals)
    except (MalformedAmount, AmountOverflow) as error:
        raise MalformedAnswer(f"{amount!r} is not an amount with at most {market.decimals} places") from error
