"""Setting a market up on a chain, as often as one likes: `reaver-market init --rpc URL`.

Every step looks first and acts only where something is missing, so a run that was cut off is repeated as a
whole. What exists and differs in what can't be changed (mints, cluster, the market's keys) is an error that
says so; nothing is replaced.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import ClassAccount, ConfigAccount, MarketAccount
from marketplace.chain.addresses import (
    UPGRADEABLE_LOADER,
    associated_token_address,
    class_id,
    program_data_address,
)
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.constants import ConstantsProfile
from marketplace.chain.errors import AccountMismatch, AccountMissing, ChainError, TransactionFailed
from marketplace.chain.keyfiles import ensure_keypair, load_keypair
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.program import MINT_BYTES, AnchorCodec, create_mint
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.transactions import Assembler, CreateTokenAccount, Step
from marketplace.domain.quantities import MAX_U64
from marketplace.errors import SettingsError

# Published (programs/reaver_market/src/admin_key.rs): anybody has this key. It initializes programs that have
# no upgrade authority, and with the default build those are on local chains only.
_LOCAL_ADMIN_SEED: Final = hashlib.sha256(b"reaver-market/localnet/admin").digest()
# Chosen: rent of all accounts made here is below 0.05 SOL; hot keys pay about 10,000 lamports a job and the
# rent of escrows that come back.
_FUNDED_LAMPORTS: Final = 10_000_000_000
_LOW_LAMPORTS: Final = 1_000_000_000
_FUNDING_TIMEOUT_S: Final = 60.0
_LANDING_TIMEOUT_S: Final = 90.0
_POLL_S: Final = 0.2

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OperatorKeys:
    """The market operator's keys.

    authority is the cold one; matcher opens and assigns; meter countersigns and releases; quote signs quotes
    and never a transaction.
    """

    authority: Keypair
    matcher: Keypair
    meter: Keypair
    quote: Keypair

    @classmethod
    def load(cls, folder: Path) -> "OperatorKeys":
        """From authority.json, matcher.json, meter.json and quote.json. Raises SettingsError for a missing one."""
        return cls(**{name: load_keypair(folder / f"{name}.json") for name in cls.names()})

    @classmethod
    def ensure(cls, folder: Path) -> "OperatorKeys":
        """As `load`, making what is missing (readable by its owner only)."""
        return cls(**{name: ensure_keypair(folder / f"{name}.json") for name in cls.names()})

    @staticmethod
    def names() -> tuple[str, ...]:
        return ("authority", "matcher", "meter", "quote")


@dataclass(frozen=True, slots=True)
class MarketPlan:
    """What `initialize_market` is to bring about.

    local: the chain is a local one: keys are funded by airdrop, the published admin key initializes.
    payment_mint, stake_mint: existing mints; None makes one (authority: the market's), only with
    `create_mints`. Decimals count for new mints only.
    admin: who initializes the program and sets classes, where that isn't the published local key; None where
    the deployment exists and is somebody else's.
    market_fee_bps, class_bonds (whole stake tokens), first_emission (whole stake tokens per epoch, from which the
    schedule decays; it can't be set again): the profile's where None.
    """

    program: Pubkey
    keys_dir: Path
    profile: ConstantsProfile
    local: bool
    payment_mint: Pubkey | None = None
    stake_mint: Pubkey | None = None
    create_mints: bool = False
    payment_decimals: int = 6
    stake_decimals: int = 6
    admin: Keypair | None = None
    market_fee_bps: int | None = None
    class_bonds: Mapping[str, int] | None = None
    first_emission: int | None = None


@dataclass(frozen=True, slots=True)
class MarketDeployment:
    """A market that is ready to serve, and what this run did for it (empty when all was there)."""

    deployment: Deployment
    config: Pubkey
    admin: Pubkey
    market: Pubkey
    fee_vault: Pubkey
    authority: Pubkey
    matcher: Pubkey
    meter: Pubkey
    quote: Pubkey
    classes: Mapping[str, int] = field(default_factory=dict)
    done: tuple[str, ...] = ()


def local_admin() -> Keypair:
    """The published key that initializes a program without upgrade authority. Local chains only."""
    return Keypair.from_seed(_LOCAL_ADMIN_SEED)


async def initialize_market(
    rpc: RpcClient, plan: MarketPlan, *, progress: Progress = lambda _line: None
) -> MarketDeployment:
    """Bring the plan about, whatever of it exists already.

    Raises SettingsError when the plan contradicts itself or the chain, AccountMismatch when the chain has
    something else at an address, TransactionFailed (with the program's error name), RpcUnavailable.
    """
    codec = AnchorCodec(plan.program)
    setup = _Setup(rpc, codec, plan, OperatorKeys.ensure(plan.keys_dir), progress)
    loop = asyncio.create_task(setup.sender.run())
    try:
        return await setup.run()
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop


class _Setup:
    """One run. Its steps are in the order in which they depend on each other."""

    def __init__(
        self, rpc: RpcClient, codec: AnchorCodec, plan: MarketPlan, keys: OperatorKeys, progress: Progress
    ) -> None:
        self._rpc = rpc
        self._codec = codec
        self._plan = plan
        self._keys = keys
        self._progress = progress
        self._reader = ChainReader(rpc, codec)
        self._assembler = Assembler(rpc, codec)
        self.sender = Sender(rpc, MemoryOutbox(), error_name=codec.error_name, tick_s=_POLL_S)
        self._admin = plan.admin or (local_admin() if plan.local else None)
        self._done: list[str] = []

    async def run(self) -> MarketDeployment:
        await self._require_program()
        await self._fund(self._keys.authority.pubkey(), "market authority")
        config = await self._reader.find(ConfigAccount, self._reader.addresses.config())
        deployment = await (self._new_deployment() if config is None else self._known_deployment(config.account))
        calls = CallBuilder(deployment)
        if config is None:
            await self._initialize(calls)
        admin = (await self._reader.get_config()).admin
        classes = await self._classes(calls, admin)
        market = await self._market(calls)
        for name, key in (("matcher", self._keys.matcher), ("meter", self._keys.meter)):
            await self._fund(key.pubkey(), name)
        return MarketDeployment(
            deployment=deployment,
            config=calls.addresses.config(),
            admin=admin,
            market=market,
            fee_vault=calls.addresses.market_fees(market),
            authority=self._keys.authority.pubkey(),
            matcher=self._keys.matcher.pubkey(),
            meter=self._keys.meter.pubkey(),
            quote=self._keys.quote.pubkey(),
            classes=classes,
            done=tuple(self._done),
        )

    async def _require_program(self) -> None:
        info = await self._rpc.find_account(self._plan.program)
        if info is None or not info.executable:
            raise AccountMissing(f"no program is deployed at {self._plan.program}")

    async def _known_deployment(self, config: ConfigAccount) -> Deployment:
        for label, wanted, present in (
            ("payment", self._plan.payment_mint, config.payment_mint),
            ("stake", self._plan.stake_mint, config.stake_mint),
        ):
            if wanted is not None and wanted != present:
                raise AccountMismatch(f"the program is initialized with the {label} mint {present}, not {wanted}")
        return await self._reader.get_deployment()

    async def _new_deployment(self) -> Deployment:
        if self._admin is None:
            raise SettingsError("the program is not initialized yet; name its upgrade authority's keypair file")
        payment = await self._mint("payment", self._plan.payment_mint, self._plan.payment_decimals)
        stake = await self._mint("stake", self._plan.stake_mint, self._plan.stake_decimals)
        return Deployment(
            program=self._plan.program,
            genesis_hash=bytes(await self._rpc.get_genesis_hash()),
            payment_mint=payment[0],
            stake_mint=stake[0],
            payment_decimals=payment[1],
            stake_decimals=stake[1],
        )

    async def _mint(self, label: str, mint: Pubkey | None, decimals: int) -> tuple[Pubkey, int]:
        """The mint and its decimals; a missing one is made only where the plan says so."""
        key: Keypair | None = None
        if mint is None:
            if not self._plan.create_mints:
                raise SettingsError(f"name the {label} mint, or allow new mints to be made")
            key = ensure_keypair(self._plan.keys_dir / f"{label}-mint.json")
            mint = key.pubkey()
        present = await self._reader.find_mint_decimals(mint)
        if present is not None:
            return mint, present
        if key is None:
            raise AccountMissing(f"the {label} mint {mint} does not exist on this chain")
        rent = await self._rpc.get_minimum_balance_for_rent_exemption(MINT_BYTES)
        authority = self._keys.authority
        steps = create_mint(authority.pubkey(), mint, authority.pubkey(), decimals, rent)
        await self._land(f"{label} mint {mint}", steps, [authority, key])
        return mint, decimals

    async def _initialize(self, calls: CallBuilder) -> None:
        admin = self._admin
        if admin is None:
            raise SettingsError("the program is not initialized yet; name its upgrade authority's keypair file")
        deployment, profile, payer = calls.deployment, self._plan.profile, self._keys.authority
        protocol_token = associated_token_address(admin.pubkey(), deployment.payment_mint)
        info = await self._rpc.find_account(self._plan.program)
        upgradeable = info is not None and info.owner == UPGRADEABLE_LOADER
        whole = self._plan.first_emission if self._plan.first_emission is not None else profile.first_emission
        emission = whole * 10**deployment.stake_decimals
        if emission > MAX_U64:
            raise SettingsError(f"a first emission of {whole} stake tokens is more than the chain can hold")
        call = calls.initialize(
            payer=payer.pubkey(),
            authority=admin.pubkey(),
            protocol_token=protocol_token,
            program_data=program_data_address(self._plan.program) if upgradeable else None,
            params=profile.params(deployment.payment_decimals, deployment.stake_decimals),
            epoch_length_ms=profile.windows.epoch_length,
            first_emission=emission,
        )
        create = CreateTokenAccount(payer.pubkey(), admin.pubkey(), deployment.payment_mint)
        await self._land(f"Config with the {profile.name} constants", [create, call], [payer, admin])

    async def _classes(self, calls: CallBuilder, admin: Pubkey) -> dict[str, int]:
        """Make and correct classes, where the deployment's admin is ours; else take them as they are."""
        plan = self._plan
        wanted = plan.class_bonds if plan.class_bonds is not None else plan.profile.class_bonds
        found: dict[str, int] = {}
        for name, bond in wanted.items():
            amount = bond * 10**calls.deployment.stake_decimals
            present = await self._reader.find(ClassAccount, calls.addresses.hardware_class(class_id(name)))
            if present is not None and present.account.minimum_bond == amount and present.account.enabled:
                found[name] = amount
                continue
            if self._admin is None or self._admin.pubkey() != admin:
                if present is None:
                    self._progress(f"class {name} is missing, and only the deployment's admin can add it")
                else:
                    found[name] = present.account.minimum_bond
                    self._progress(f"class {name} asks for another bond here: {present.account.minimum_bond}")
                continue
            payer = self._keys.authority
            call = calls.set_class(payer.pubkey(), admin, class_id(name), amount, enabled=True)
            await self._land(f"class {name} with a bond of {bond}", [call], [payer, self._admin])
            found[name] = amount
        return found

    async def _market(self, calls: CallBuilder) -> Pubkey:
        keys, plan = self._keys, self._plan
        address = calls.addresses.market(keys.authority.pubkey())
        present = await self._reader.find(MarketAccount, address)
        if present is not None:
            account = present.account
            if (account.matcher, account.meter) != (keys.matcher.pubkey(), keys.meter.pubkey()):
                raise AccountMismatch(
                    f"market {address} is registered with other matcher and meter keys than those in {plan.keys_dir}; "
                    "rotate them, or bring the right key files back"
                )
            return address
        fee = plan.market_fee_bps if plan.market_fee_bps is not None else plan.profile.market_fee_bps
        call = calls.register_market(
            keys.authority.pubkey(), keys.authority.pubkey(), keys.matcher.pubkey(), keys.meter.pubkey(), fee
        )
        await self._land(f"market {address} with a fee of {fee} bps", [call], [keys.authority])
        return address

    async def _fund(self, address: Pubkey, label: str) -> None:
        """SOL for fees and rent: by airdrop on a local chain, elsewhere only said how much is there."""
        balance = await self._rpc.get_balance(address)
        if balance >= _LOW_LAMPORTS:
            return
        if not self._plan.local:
            self._progress(f"{label} {address} has {balance} lamports; send SOL to it")
            return
        await self._rpc.request_airdrop(address, _FUNDED_LAMPORTS)
        try:
            async with asyncio.timeout(_FUNDING_TIMEOUT_S):
                while True:
                    if await self._rpc.get_balance(address) >= _LOW_LAMPORTS:
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise ChainError(f"the airdrop for the {label} did not arrive") from error
        self._note(f"{label} {address} funded")

    async def _land(self, what: str, steps: Sequence[Step | Instruction], signers: Sequence[Keypair]) -> None:
        """Send and wait for `confirmed`. The first signer pays."""
        unsigned = await self._assembler.assemble(steps, signers[0].pubkey())
        signed = unsigned.sign(signers)
        await self.sender.submit(what, signed.raw, signed.last_valid_block_height)
        entry = await self.sender.wait(signed.signature, timeout_s=_LANDING_TIMEOUT_S)
        if not entry.state.landed:
            raise ChainError(f"{what}: not confirmed within {_LANDING_TIMEOUT_S:.0f} s; run the same command again")
        self._note(what)

    def _note(self, what: str) -> None:
        self._done.append(what)
        self._progress(what)


__all__ = [
    "MarketDeployment",
    "MarketPlan",
    "OperatorKeys",
    "TransactionFailed",
    "initialize_market",
    "local_admin",
]
