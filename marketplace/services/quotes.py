"""Quotes: a signed price that the chain enforces, or why nobody can and the smallest change that would.

Computed from memory alone: no chain call, no store but the one write that keeps it. Source: api.md section 5.1.
"""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from marketplace.domain.catalogue import region_of
from marketplace.domain.ids import AccountId, NodeId, QuoteId
from marketplace.domain.matching import Candidate, Request, band, obstacle
from marketplace.domain.money import deposit_for
from marketplace.domain.pricing import firm_price
from marketplace.domain.quantities import Millis, Tokens
from marketplace.errors import DetailCode, Invalid, NotFound, QuoteExpired, QuoteMismatch
from marketplace.protocol.quotes import MalformedQuote, QuotePayload, issue, open_token
from marketplace.services.chain_port import ChainPort
from marketplace.services.clock import Clock, Ids
from marketplace.services.job_orders import Order
from marketplace.services.nearest import Look, Nearest, find_nearest
from marketplace.services.node_registry import NodeRegistry
from marketplace.services.obstacles import Because, explain, four_places
from marketplace.store.engine import Store, Transaction
from marketplace.store.quotes import Quotes, StoredQuote

LIFETIME_MS: Final = 300_000
RETENTION_MS: Final = 24 * 3_600_000
"""Specified: api.md section 5.1: good for 300 s, readable until a day later."""
_SAMPLE: Final = 5
_RUNS: Final = 20
_SIGNATURES: Final = 4
_LAMPORTS_PER_SIGNATURE: Final = 5_000
"""Specified: program.md section 7: open + assign 2 and settle 2, with a free node and an allowance."""


@dataclass(frozen=True, slots=True)
class SampleNode:
    """A node able to take it now."""

    node_id: NodeId
    region: str
    reputation: str
    image_present: bool


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote. price_per_hour: None where no node of the class was ever seen and no ceiling was named.

    token: what the market signed, None without a price. estimate: due for the full time. max_total: what an escrow
    would lock, at least the chain's minimum.
    """

    id: QuoteId
    token: str | None
    class_id: str
    gpu_count: int
    regions: tuple[str, ...]
    priority: str
    max_seconds: int
    spec_hash: str
    price_per_hour: Tokens | None
    estimate: Tokens | None
    max_total: Tokens | None
    expected_ms: Millis
    expected_cost: Tokens | None
    signatures: int
    lamports_fees: int
    lamports_rent: int
    nodes_now: int
    sample: tuple[SampleNode, ...]
    expires_at_ms: int
    because: tuple[Because, ...]
    nearest: Nearest | None

    @property
    def match(self) -> bool:
        """Whether a node can take it now."""
        return self.nodes_now > 0


class QuoteService:
    """Gives, keeps and honours quotes. history: billed milliseconds of an account's last runs of an image."""

    def __init__(
        self,
        store: Store,
        chain: ChainPort,
        registry: NodeRegistry,
        clock: Clock,
        ids: Ids,
        seed: bytes,
        key: bytes,
        history: Callable[[AccountId, str, int], Awaitable[Sequence[int]]],
    ) -> None:
        self._store = store
        self._chain = chain
        self._registry = registry
        self._clock = clock
        self._ids = ids
        self._seed = seed
        self._key = key
        self._history = history

    async def quote(self, account_id: AccountId, order: Order, render: Callable[[Quote], bytes]) -> Quote:
        """A quote of this order, kept as it is answered. render: the answer's JSON."""
        quote = await self._compute(account_id, order)
        body = render(quote).decode()
        stored = StoredQuote(quote.id, account_id, quote.token or "", body, quote.expires_at_ms)

        def write(tx: Transaction) -> None:
            Quotes(tx).create(stored)

        await self._store.write(write)
        return quote

    async def find(self, account_id: AccountId, quote_id: QuoteId) -> str:
        """The answer as it was given. Raises NotFound, for another account's too."""
        stored = await self._store.lookup(lambda tx: Quotes(tx).find(quote_id))
        if stored is None or stored.account_id != account_id or stored.expires_at_ms + RETENTION_MS < self._clock.now():
            raise NotFound
        return stored.body

    async def honour(self, account_id: AccountId, order: Order) -> QuotePayload:
        """The price that a submitted quote fixes. Raises QuoteExpired, QuoteMismatch, Invalid."""
        from_id = order.quote or ""
        token = from_id
        if from_id.startswith("quote_"):
            stored = await self._store.lookup(lambda tx: Quotes(tx).find(QuoteId(from_id)))
            if stored is None or stored.account_id != account_id:
                raise QuoteMismatch("there is no such quote for this account; nothing was spent, ask for a new one")
            token = stored.token
            if not token:
                raise QuoteMismatch("this quote names no price; nothing was spent, name the most you would pay")
        try:
            payload = open_token(token, self._key)
        except MalformedQuote as error:
            raise QuoteMismatch(f"{error}; nothing was spent") from error
        if payload.expires_at_ms <= self._clock.now():
            raise QuoteExpired
        same = (
            payload.market == self._chain.terms.market
            and payload.class_id == order.spec.class_id
            and payload.gpu_count == order.spec.gpu_count
            and payload.regions == order.regions
            and payload.priority == order.priority.value
            and payload.max_seconds == order.max_seconds
        )
        named_image = payload.spec_hash in ("", order.spec.spec_hash().hex())
        if not (same and named_image):
            raise QuoteMismatch
        return payload

    def clearing_price(self, order: Order) -> Tokens:
        """The firm price now; where nobody fits now, of the class's lowest floor. Raises Invalid without any."""
        price = self._price(order, self._candidates(order))
        if price is None:
            raise Invalid.field(
                "max_price_per_hour",
                DetailCode.REQUIRED,
                "no node offers this class yet, so there is no price to go by; name the most you would pay",
            )
        return price

    async def _compute(self, account_id: AccountId, order: Order) -> Quote:
        # First: what is said of nodes below is of one moment, and others may come and go while this is read.
        expected = await self.expected(account_id, order)
        candidates = self._candidates(order)
        price = order.max_price_per_hour or self._price(order, candidates)
        deposit = None if price is None else self.deposit(price, order.limit)
        request = self._request(order, price, deposit)
        fitting = [c for c in candidates if obstacle(request, c) is None]
        in_band = band(request, candidates)
        image = order.spec.image
        expires = self._clock.now() + LIFETIME_MS
        quote_id = QuoteId(self._ids.new("quote"))
        spec_hash = order.spec.spec_hash().hex() if order.has_image else ""
        token = None
        if price is not None and deposit is not None:
            token = issue(
                QuotePayload(
                    id=quote_id,
                    market=self._chain.terms.market,
                    class_id=order.spec.class_id,
                    gpu_count=order.spec.gpu_count,
                    regions=order.regions,
                    priority=order.priority.value,
                    max_seconds=order.max_seconds,
                    price_per_hour=price,
                    max_total=deposit,
                    spec_hash=spec_hash,
                    expires_at_ms=expires,
                ),
                self._seed,
            )
        return Quote(
            id=quote_id,
            token=token,
            class_id=order.spec.class_id,
            gpu_count=order.spec.gpu_count,
            regions=order.regions,
            priority=order.priority.value,
            max_seconds=order.max_seconds,
            spec_hash=spec_hash,
            price_per_hour=price,
            estimate=None if price is None else deposit_for(price, order.limit),
            max_total=deposit,
            expected_ms=expected,
            expected_cost=None if price is None else deposit_for(price, expected),
            signatures=_SIGNATURES,
            lamports_fees=_SIGNATURES * _LAMPORTS_PER_SIGNATURE,
            lamports_rent=self._chain.terms.escrow_rent,
            nodes_now=len(fitting),
            sample=tuple(
                SampleNode(c.node_id, region_of(c.region), four_places(c.reputation), image in c.images)
                for c in in_band[:_SAMPLE]
            ),
            expires_at_ms=expires,
            because=() if fitting else explain(request, candidates),
            nearest=None if fitting else find_nearest(order, self._look(), self._chain.terms.decimals),
        )

    async def expected(self, account_id: AccountId, order: Order) -> Millis:
        """Median of the account's last runs of this image, else the model's figure, else the whole time."""
        runs = await self._history(account_id, order.spec.image, _RUNS) if order.has_image else ()
        if runs:
            return Millis(min(int(statistics.median_low(runs)), order.limit))
        return order.limit if order.estimated_ms is None else min(order.estimated_ms, order.limit)

    def deposit(self, price: Tokens, limit: Millis) -> Tokens:
        """What an escrow locks: due for the full time, at least the chain's minimum."""
        return Tokens(max(deposit_for(price, limit), self._chain.terms.minimum_deposit))

    def _look(self) -> Look:
        """The market as it is now, the same for every order that is tried."""
        seen: dict[int, list[Candidate]] = {}

        def candidates(order: Order) -> list[Candidate]:
            if order.spec.gpu_count not in seen:
                seen[order.spec.gpu_count] = self._candidates(order)
            return seen[order.spec.gpu_count]

        def fitting(order: Order) -> list[Candidate]:
            price = order.max_price_per_hour or self._price(order, candidates(order))
            deposit = None if price is None else self.deposit(price, order.limit)
            request = self._request(order, price, deposit)
            return [c for c in candidates(order) if obstacle(request, c) is None]

        return Look(candidates, fitting, lambda order: self._price(order, candidates(order)))

    def _candidates(self, order: Order) -> list[Candidate]:
        return self._registry.candidates(order.priority, order.spec.gpu_count)

    def _price(self, order: Order, candidates: list[Candidate]) -> Tokens | None:
        """The firm price that covers each preferred class, and the cheapest of those that are equally welcome."""
        request = self._request(order, None, Tokens(0))
        lowest: list[Tokens] = []
        for tier in order.tiers:
            own = [c for c in candidates if c.class_id in tier]
            floors = [c.floor_per_hour for c in own if obstacle(request, c) is None] or [c.floor_per_hour for c in own]
            lowest += [Tokens(min(floors))] if floors else []
        return firm_price(max(lowest), order.priority) if lowest else None

    def _request(self, order: Order, price: Tokens | None, exposure: Tokens | None) -> Request:
        barred = set(order.exclude_nodes)
        if order.only_nodes:
            barred |= {p.node.id for p in self._registry if p.node.id not in order.only_nodes}
        return Request(
            tiers=order.tiers,
            regions=frozenset(order.regions),
            gpu_count=order.spec.gpu_count,
            priority=order.priority,
            max_price_per_hour=price,
            exposure=exposure or Tokens(0),
            egress=order.spec.network == "egress",
            disk_gb=order.spec.disk_gb,
            min_cuda=order.min_cuda,
            min_reputation=Fraction(order.min_reputation_millionths, 1_000_000),
            spec_version=order.spec.version,
            excluded=frozenset(barred),
        )
