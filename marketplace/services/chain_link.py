"""The deployment and market on chain that this process serves, read once the chain answers.

The listener comes first: until the chain has been read, whoever needs it is told `starting`.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ClassAccount, ConfigAccount, MarketAccount
from marketplace.chain.addresses import class_id
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.program import AnchorCodec
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from marketplace.chain.transactions import Assembler
from marketplace.domain.catalogue import CLASSES
from marketplace.domain.quantities import Millis
from marketplace.domain.staking import EpochClock
from marketplace.errors import Starting
from marketplace.services.clock import Clock

_log = structlog.get_logger(__name__)

_FIRST_GUESS_BLOCK_MS: Final = 400
"""Until two heights have been seen. Only shown times depend on it; expiry itself is counted in blocks."""
_MEASURED_OVER_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What was read. market: address of the Market account. classes: by id, those that exist on chain."""

    deployment: Deployment
    market: Pubkey
    config: ConfigAccount
    account: MarketAccount
    classes: dict[str, ClassAccount]


class ChainLink:
    """RPC, codec and the facts of our market."""

    def __init__(self, rpc: RpcClient, codec: AnchorCodec, market: Pubkey, clock: Clock) -> None:
        self.rpc = rpc
        self.codec = codec
        self.reader = ChainReader(rpc, codec)
        self.assembler = Assembler(rpc, codec)
        self._market = market
        self._clock = clock
        self._facts: ChainFacts | None = None
        self._seen: tuple[int, int] | None = None
        self._block_ms = float(_FIRST_GUESS_BLOCK_MS)

    @property
    def facts(self) -> ChainFacts:
        """What `connect` read. Raises Starting before it has."""
        if self._facts is None:
            raise Starting("the market has not reached the chain yet; repeat the request in a moment")
        return self._facts

    @property
    def connected(self) -> bool:
        """Whether `facts` are there."""
        return self._facts is not None

    @property
    def epochs(self) -> EpochClock:
        """When the deployment's epochs begin; never changes. Raises Starting."""
        config = self.facts.config
        return EpochClock(Millis(config.epoch_start), Millis(config.epoch_length))

    @property
    def calls(self) -> CallBuilder:
        """Builds calls of this deployment."""
        return CallBuilder(self.facts.deployment)

    async def connect(self) -> ChainFacts:
        """Read deployment and market, or read them anew.

        Raises ChainUnavailable, AccountMissing where `reaver-market init` has not run there, AccountMismatch where
        the chain behind the URL is another one than the program was set up on.
        """
        deployment = await self.reader.get_deployment()
        identifiers = [entry.id for entry in CLASSES]
        classes = await asyncio.gather(*(self.reader.find_class(class_id(name)) for name in identifiers))
        self._facts = ChainFacts(
            deployment=deployment,
            market=self._market,
            config=await self.reader.get_config(),
            account=await self.reader.get_market(self._market),
            classes={name: entry for name, entry in zip(identifiers, classes, strict=True) if entry is not None},
        )
        _log.info("chain.connected", market=str(self._market), program=str(self.codec.program))
        return self._facts

    async def check(self) -> None:
        """For the health report. Raises ChainUnavailable."""
        await self.rpc.get_block_height()

    async def expires_at(self, last_valid_block_height: int) -> Millis:
        """About when a transaction can no longer land, by the block time that we have seen. For people."""
        height = await self.rpc.get_block_height()
        now = self._clock.monotonic_ms()
        if self._seen is None:
            self._seen = (now, height)
        elif now - self._seen[0] >= _MEASURED_OVER_MS and height > self._seen[1]:
            self._block_ms = (now - self._seen[0]) / (height - self._seen[1])
            self._seen = (now, height)
        return Millis(self._clock.now() + int(max(0, last_valid_block_height - height) * self._block_ms))
