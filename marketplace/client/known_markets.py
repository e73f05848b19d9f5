"""What a market said of itself when it was first met: its program, cluster, address and token.

Like SSH's known hosts: a market that later names another program or cluster is refused, because an attacker on its
server could otherwise point wallets at a program of his own.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from marketplace.client.errors import ClientError, MarketChanged
from marketplace.client.private_files import write_private


@dataclass(frozen=True, slots=True)
class KnownMarket:
    """The identity of one market; base58 text. quote_key: signs its quotes."""

    program_id: str
    genesis_hash: str
    market: str
    payment_mint: str
    decimals: int
    quote_key: str | None


class KnownMarkets:
    """A small file per market address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, api_url: str, offered: KnownMarket) -> None:
        """Remember a market met for the first time; raise MarketChanged when a known one differs.

        The quote key may rotate: it is remembered, not compared.
        """
        path = self._path(api_url)
        known = _read(path)
        if known is not None:
            for name in ("program_id", "genesis_hash", "market", "payment_mint", "decimals"):
                before, now = getattr(known, name), getattr(offered, name)
                if before != now:
                    raise MarketChanged(
                        f"the market at {api_url} now names another {name.replace('_', ' ')}: {now}, "
                        f"it was {before}. Nothing was signed. If you know that it was set up anew, "
                        f"delete {path} and repeat the command"
                    )
            if known == offered:
                return
        write_private(path, json.dumps({"api_url": api_url, "market": asdict(offered)}, indent=1).encode())

    def _path(self, api_url: str) -> Path:
        return self._folder / f"market-{hashlib.sha256(api_url.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> KnownMarket | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClientError(f"{path} can't be read: {error.strerror}") from error
    try:
        return KnownMarket(**json.loads(raw)["market"])
    except (ValueError, TypeError, KeyError) as error:
        # Taking a damaged file for "never met" would let whoever damaged it introduce another market.
        raise ClientError(f"{path} is damaged; delete it if you trust the market's address") from error
