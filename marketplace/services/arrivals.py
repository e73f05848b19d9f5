"""Wake-ups of those who follow something: each has its own, so that one's look takes no other's."""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class Arrivals(Generic[_Key]):
    """Who waits for news of what."""

    def __init__(self) -> None:
        self._following: dict[_Key, set[asyncio.Event]] = {}

    @contextmanager
    def following(self, key: _Key) -> Iterator[asyncio.Event]:
        """An event that is set with each arrival; its owner clears it before a look."""
        arrived = asyncio.Event()
        self._following.setdefault(key, set()).add(arrived)
        try:
            yield arrived
        finally:
            followers = self._following[key]
            followers.discard(arrived)
            if not followers:
                del self._following[key]

    def tell(self, key: _Key) -> None:
        """Something may have arrived."""
        for arrived in self._following.get(key, ()):
            arrived.set()
