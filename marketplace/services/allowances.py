"""Leave for this market to spend for a wallet, within caps that the program enforces. Source: api.md section 5.7."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.accounts import AllowanceAccount, MarketAccount
from marketplace.chain.builders import AllowanceTerms
from marketplace.domain.money import format_amount
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import DetailCode, Invalid, NotFound
from marketplace.services.chain_link import ChainLink
from marketplace.services.clock import Clock
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal
from marketplace.services.transactions import Prepared, TransactionService
from marketplace.services.vaults import parse_positive_amount

_DAY_MS: Final = 86_400_000


class AllowanceState(StrEnum):
    """Whether a market may spend under it now."""

    ACTIVE = "active"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class AllowanceView:
    """An allowance as of `confirmed`; amounts in base units, used_today already rolled over."""

    address: str
    market: str
    matcher: str
    per_job: Tokens
    per_day: Tokens
    used_today: Tokens
    day_resets_at: Millis
    total: Tokens
    used_total: Tokens
    max_price_per_hour: Tokens
    expires_at: Millis
    state: AllowanceState


@dataclass(frozen=True, slots=True)
class RequestedAllowance:
    """Caps as asked for, decimal text. expires_at: milliseconds since the epoch."""

    per_job: str
    per_day: str
    total: str
    max_price_per_hour: str
    expires_at: Millis


class AllowanceService:
    """Lists a wallet's allowances, prepares grants and revocations; the wallet signs them."""

    def __init__(self, link: ChainLink, transactions: TransactionService, clock: Clock, currency: str) -> None:
        self._link = link
        self._transactions = transactions
        self._clock = clock
        self.currency = currency

    @property
    def decimals(self) -> int:
        """Of the payment token."""
        return self._link.facts.deployment.payment_decimals

    async def list_for_wallet(self, wallet: str) -> Sequence[AllowanceView]:
        """All of them, this market's first; revoked ones too, as the chain keeps them. Raises ChainUnavailable."""
        found = await self._link.reader.list_allowances_of_wallet(Pubkey.from_string(wallet))
        ours = self._link.facts.market
        found.sort(key=lambda entry: (entry.account.market != ours, str(entry.address)))
        markets = await asyncio.gather(*(self._link.reader.get(MarketAccount, e.account.market) for e in found))
        return [
            self._view(str(entry.address), entry.account, market.account)
            for entry, market in zip(found, markets, strict=True)
        ]

    async def prepare_grant(self, caller: AccountPrincipal, key: KeyInUse, asked: RequestedAllowance) -> Prepared:
        """Grant this market these caps, or replace the ones it has. Raises Invalid, ChainUnavailable."""
        decimals = self.decimals
        terms = AllowanceTerms(
            escrow_cap=parse_positive_amount("per_job", asked.per_job, decimals),
            day_cap=parse_positive_amount("per_day", asked.per_day, decimals),
            total_cap=parse_positive_amount("total", asked.total, decimals),
            max_price=parse_positive_amount("max_price_per_hour", asked.max_price_per_hour, decimals),
            expires_at_ms=asked.expires_at,
        )
        if asked.expires_at <= self._clock.now():
            raise Invalid.field("expires_at", DetailCode.OUT_OF_RANGE, "must be in the future")
        wallet = Pubkey.from_string(caller.wallet)
        call = self._link.calls.grant_allowance(wallet, wallet, self._link.facts.market, terms)
        summary = (
            f"lets this market spend at most {self._text(terms.escrow_cap)} a job, {self._text(terms.day_cap)} a day "
            f"and {self._text(terms.total_cap)} in all, at no more than {self._text(terms.max_price)} an hour"
        )
        return await self._transactions.prepare(caller, key, "allowance.grant", [call], summary)

    async def prepare_revocation(self, caller: AccountPrincipal, key: KeyInUse) -> Prepared:
        """Take this market's allowance back. Raises NotFound where it has none, ChainUnavailable."""
        wallet, market = Pubkey.from_string(caller.wallet), self._link.facts.market
        if await self._link.reader.find_allowance(wallet, market) is None:
            raise NotFound("this wallet has given this market no allowance")
        call = self._link.calls.revoke_allowance(wallet, market)
        return await self._transactions.prepare(
            caller, key, "allowance.revoke", [call], "ends this market's allowance; running escrows go on"
        )

    def _view(self, address: str, account: AllowanceAccount, market: MarketAccount) -> AllowanceView:
        now = self._clock.now()
        today = now // _DAY_MS
        used_today = account.day_used if account.day == today else 0
        if account.total_cap == 0:
            state = AllowanceState.REVOKED
        elif account.expires_at <= now:
            state = AllowanceState.EXPIRED
        elif account.total_used >= account.total_cap:
            state = AllowanceState.EXHAUSTED
        else:
            state = AllowanceState.ACTIVE
        return AllowanceView(
            address=address,
            market=str(account.market),
            matcher=str(market.matcher),
            per_job=Tokens(account.escrow_cap),
            per_day=Tokens(account.day_cap),
            used_today=Tokens(used_today),
            day_resets_at=Millis((today + 1) * _DAY_MS),
            total=Tokens(account.total_cap),
            used_total=Tokens(account.total_used),
            max_price_per_hour=Tokens(account.max_price),
            expires_at=Millis(account.expires_at),
            state=state,
        )

    def _text(self, units: int) -> str:
        return f"{format_amount(units, self.decimals)} {self.currency}"
