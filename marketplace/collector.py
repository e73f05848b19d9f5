"""Python's cycle collector in a process that serves: rarely, and never over what was there before the first request.

By default it looks through young objects after each 700 that are new, which a request or two make, and again and again
through all modules. It took a quarter of the processor time of `scripts/bench submit`.
"""

import gc
from typing import Final

_YOUNG: Final = 20_000
_MIDDLE: Final = 20
_OLD: Final = 50
"""Chosen: a look at what some dozens of requests left, some megabytes; a full one after 20 million new objects, or when
a quarter has been added to what is old, which is Python's own rule."""


def spare_the_collector() -> None:
    """Take everything that exists out of its sight for good, and let it look less often from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
