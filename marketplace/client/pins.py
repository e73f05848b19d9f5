"""What the caller knows of a market for certain, and what a market may therefore not contradict."""

from dataclasses import dataclass

from marketplace.client.errors import MarketChanged
from marketplace.client.models import ChainConstants


@dataclass(frozen=True, slots=True)
class Pins:
    """Base58 addresses from the caller's own configuration; None: not known, the first visit decides."""

    program_id: str | None = None
    market: str | None = None

    def check(self, chain: ChainConstants) -> None:
        """Raises MarketChanged when the market names another program or address than the pinned one."""
        for name, pinned, offered in (
            ("program", self.program_id, chain.program_id),
            ("market", self.market, chain.market),
        ):
            if pinned is not None and pinned != offered:
                raise MarketChanged(
                    f"the market uses {name} {offered}, pinned is {pinned}. Nothing was signed. "
                    "Check REAVER_API, --program and --market"
                )
