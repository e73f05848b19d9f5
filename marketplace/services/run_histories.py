"""How long an account's last runs of an image took: asked of the store once, and again when another one has ended.

Invariant: what is kept equals the store's, since `Live` tells of every job that ends before anybody goes on from it.
"""

from collections import OrderedDict
from typing import Final

from marketplace.domain.allocations import Allocation
from marketplace.domain.ids import AccountId
from marketplace.services.live import Live
from marketplace.store.allocations import Attempts
from marketplace.store.engine import Store

_MAX_KEPT: Final = 20_000
"""Chosen: accounts and images that were asked for last; some megabytes."""


class RunHistories:
    """Per account and image."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[AccountId, str], tuple[int, list[int]]] = OrderedDict()
        self._ended = 0
        live.on_change(self._note)

    async def last(self, account_id: AccountId, image: str, limit: int) -> list[int]:
        """Billed milliseconds of the last completed runs, at most `limit`, the latest first."""
        key = (account_id, image)
        kept = self._kept.get(key)
        if kept is not None and kept[0] == limit:
            self._kept.move_to_end(key)
            return kept[1]
        ended = self._ended
        runs = await self._store.lookup(lambda tx: Attempts(tx).list_runs(account_id, image, limit))
        # A job that ended while the store was asked may be in it or not.
        if ended == self._ended:
            self._kept[key] = (limit, runs)
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return runs

    def _note(self, allocation: Allocation) -> None:
        if allocation.terminal:
            self._ended += 1
            self._kept.pop((allocation.account_id, allocation.image), None)
