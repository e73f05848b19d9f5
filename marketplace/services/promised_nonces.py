"""Nonces that intents hold: asked of the store once for a wallet, and then kept up with what is written.

Invariant: what is kept of a wallet holds every nonce that the store does and that the chain might still take. It rests
on one process writing intents, and on `Live` telling of each before whoever wrote it goes on.
"""

from collections import OrderedDict
from typing import Final

from marketplace.domain.allocations import Allocation, Opener
from marketplace.domain.nonces import AHEAD, WINDOW
from marketplace.services.live import Live
from marketplace.store.allocations import Allocations
from marketplace.store.engine import Store

_MAX_WALLETS: Final = 20_000
"""Chosen: of those that submitted last; some tens of megabytes when each has a hundred jobs."""
_MAX_KEPT: Final = 2 * (WINDOW + AHEAD)
"""Nonces of a wallet before those are dropped that no window holds any more."""


class PromisedNonces:
    """Per wallet and opener. The caller holds the wallet's lock from `of` until its own intent is written."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, Opener], set[int]] = OrderedDict()
        live.on_change(self._note)

    async def of(self, wallet: str, opener: Opener, oldest: int) -> set[int]:
        """Those that intents hold here, `oldest` and later ones at least."""
        kept = self._kept.get((wallet, opener))
        if kept is None:
            kept = await self._store.lookup(lambda tx: Allocations(tx).list_nonces(wallet, opener, oldest - 1))
            self._kept[wallet, opener] = kept
            if len(self._kept) > _MAX_WALLETS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end((wallet, opener))
            if len(kept) > _MAX_KEPT:
                kept.difference_update([nonce for nonce in kept if nonce < oldest])
        return kept

    def _note(self, allocation: Allocation) -> None:
        kept = self._kept.get((allocation.wallet, allocation.opener))
        if kept is not None:
            kept.add(allocation.nonce)
