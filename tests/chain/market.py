"""A localnet process with a market on it, and people to act there: what the chain tests run against."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.addresses import associated_token_address, class_id
from marketplace.chain.answers import LandedTransaction
from marketplace.chain.bootstrap import MarketDeployment, MarketPlan, OperatorKeys, initialize_market
from marketplace.chain.builders import CallBuilder, EscrowRef, EscrowTerms, NodeRef, SignedClaim, SignedVoucher
from marketplace.chain.constants import LOCALNET, ConstantsProfile
from marketplace.chain.hotkeys import MATCHER_CALLS, METER_CALLS, HotKey
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.program import AnchorCodec, mint_tokens
from marketplace.chain.reader import ChainReader
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.transactions import Assembler, CreateTokenAccount, SignedTransaction, Step, UnsignedTransaction
from marketplace.localnet.caller import call
from marketplace.localnet.config import load_config
from marketplace.localnet.folder import DataFolder
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage, VoucherState

LOCALNET_COMMAND = str(Path(sys.executable).with_name("reaver-localnet"))
ROOT = Path(__file__).parents[2]
CPU = class_id("cpu-small")
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Running:
    """A chain that answers, and the market on it."""

    rpc: str
    ws: str
    folder: Path
    market: MarketDeployment
    keys: OperatorKeys
    config: Path | None = None

    def fund(self, wallet: Pubkey) -> None:
        """SOL, payment and stake tokens, as much as the localnet's own faucet command gives who names no amounts.

        By the call that the command makes (tests/localnet/test_cli.py has the command itself): a process of its own
        for each wallet of each test would cost the suite minutes.
        """
        assert self.config is not None
        chosen = load_config(self.config)
        running = DataFolder(chosen.data).running()
        amounts = {
            "lamports": int(chosen.faucet.sol * 10**9),
            "payment": int(chosen.faucet.payment * 10**running.payment_decimals),
            "stake": int(chosen.faucet.stake * 10**running.stake_decimals),
        }
        call(running.rpc, "localnetFaucet", [str(wallet), amounts], timeout_s=30)


def program_file() -> Path:
    """The program under test: scripts/test names the one it has just built."""
    return Path(os.environ.get("REAVER_PROGRAM", ROOT / "programs/deploy/reaver_market.so"))


@contextmanager
def localnet(folder: Path, *, slot_ms: int = 40, profile: ConstantsProfile = LOCALNET) -> Iterator[Running]:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "localnet.toml"
    config.write_text(
        f'[chain]\nrpc_port = 0\ndata = "data"\nslot_ms = {slot_ms}\nfinality_slots = 4\nprogram = "{program_file()}"\n'
    )
    command = [LOCALNET_COMMAND, "start", "--config", str(config), "--json"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        plan = MarketPlan(
            program=Pubkey.from_string(ready["program_id"]),
            keys_dir=folder / "keys",
            profile=profile,
            local=True,
            payment_mint=Pubkey.from_string(ready["payment_mint"]),
            stake_mint=Pubkey.from_string(ready["stake_mint"]),
        )
        market = asyncio.run(_initialize(ready["rpc"], plan))
        yield Running(ready["rpc"], ready["ws"], folder, market, OperatorKeys.load(plan.keys_dir), config)
    finally:
        process.kill()
        process.wait(timeout=60)
        if process.stdout is not None:
            process.stdout.close()


async def _initialize(url: str, plan: MarketPlan) -> MarketDeployment:
    async with RpcClient([url]) as rpc:
        return await initialize_market(rpc, plan)


class Actor:
    """Assembles, sends and waits, as services and nodes do."""

    def __init__(self, running: Running, rpc: RpcClient) -> None:
        self.running = running
        self.rpc = rpc
        self.codec = AnchorCodec(running.market.deployment.program)
        self.calls = CallBuilder(running.market.deployment)
        self.reader = ChainReader(rpc, self.codec)
        self.assembler = Assembler(rpc, self.codec)
        self.sender = Sender(rpc, MemoryOutbox(), error_name=self.codec.error_name, tick_s=0.03)
        self.market = running.market.market
        self.keys = running.keys
        self.sent = 0

    async def send(self, steps: Sequence[Step | Instruction], *signers: Keypair) -> Signature:
        """Land the steps; the first signer pays. Raises TransactionFailed."""
        unsigned = await self.assembler.assemble(steps, signers[0].pubkey())
        signed = self._sign(unsigned, signers)
        self.sent += 1
        await self.sender.submit(f"test:{self.sent}", signed.raw, signed.last_valid_block_height)
        entry = await self.sender.wait(signed.signature, timeout_s=30)
        assert entry.state.landed
        return signed.signature

    def _sign(self, unsigned: UnsignedTransaction, signers: Sequence[Keypair]) -> SignedTransaction:
        """The market's own keys sign as in the service: from their lists."""
        for key, calls in ((self.keys.matcher, MATCHER_CALLS), (self.keys.meter, METER_CALLS)):
            if list(signers) == [key]:
                return HotKey(key, calls, self.codec).sign(unsigned)
        return unsigned.sign(signers)

    async def landed(self, signature: Signature) -> LandedTransaction:
        """A transaction that was sent. A validator writes its history after it has said that the transaction landed."""
        async with asyncio.timeout(60):
            while (found := await self.rpc.find_transaction(signature)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found

    async def fund(self, wallet: Pubkey) -> None:
        if self.running.config is not None:
            await asyncio.to_thread(self.running.fund, wallet)
        else:
            await self._fund_by_hand(wallet)
        async with asyncio.timeout(60):
            while True:
                if await self.rpc.get_balance(wallet):
                    return
                await asyncio.sleep(0.02)

    async def _fund_by_hand(self, wallet: Pubkey) -> None:
        """On a chain without our faucet: an airdrop, and tokens of the mints that the set-up made."""
        await self.rpc.request_airdrop(wallet, 10_000_000_000)
        deployment, authority = self.running.market.deployment, self.keys.authority
        steps: list[Step | Instruction] = []
        for mint, amount in ((deployment.payment_mint, 1_000_000_000), (deployment.stake_mint, 10_000_000_000)):
            steps.append(CreateTokenAccount(authority.pubkey(), wallet, mint))
            account = associated_token_address(wallet, mint)
            steps.append(mint_tokens(mint, account, authority.pubkey(), amount, 6))
        await self.send(steps, authority)

    async def renter(self, deposit: int) -> Keypair:
        """A funded wallet with an opened vault."""
        wallet = Keypair()
        await self.fund(wallet.pubkey())
        key = wallet.pubkey()
        await self.send([self.calls.open_vault(key, key), self.calls.deposit(key, key, deposit)], wallet)
        return wallet

    async def node(self, bond: int = 100_000_000) -> "TestNode":
        """A registered node of a funded operator."""
        operator, key = Keypair(), Keypair()
        await self.fund(operator.pubkey())
        call = self.calls.register_node(operator.pubkey(), key.pubkey(), self.market, CPU, bond, 1_000)
        await self.send([call], operator, key)
        return TestNode(operator, key, NodeRef(key.pubkey(), operator.pubkey(), call.accounts.payout, CPU))

    async def now_ms(self) -> int:
        """Chain time."""
        seconds = await self.rpc.get_block_time(await self.rpc.get_slot())
        return (seconds if seconds is not None else int(time.time())) * 1_000

    async def until_ms(self, instant: int) -> None:
        """Wait for chain time to pass an instant."""
        async with asyncio.timeout(60):
            while True:
                if await self.now_ms() >= instant:
                    return
                await asyncio.sleep(0.1)

    def claim(
        self,
        node: "TestNode",
        escrow: EscrowRef,
        terms: EscrowTerms,
        at_ms: int,
        attempt: int = 1,
        *,
        fee_bps: int = 500,
    ) -> SignedClaim:
        deployment = self.running.market.deployment
        message = ClaimMessage(
            program_id=bytes(deployment.program),
            genesis_hash=deployment.genesis_hash,
            escrow=bytes(self.calls.escrow_address(escrow)),
            attempt=attempt,
            market=bytes(self.market),
            node=bytes(self.calls.addresses.node(node.key.pubkey())),
            class_id=terms.class_id,
            price_per_hour=terms.ceiling_price,
            remaining_max_ms=terms.max_time_ms,
            remaining_deposit=terms.deposit,
            terms_hash=terms.terms_hash,
            fee_bps=fee_bps,
            at_ms=at_ms,
        )
        return SignedClaim(message, node.key.pubkey(), node.key.sign_message(message.signing_bytes()))

    def voucher(
        self,
        node: "TestNode",
        escrow: EscrowRef,
        price: int,
        *,
        sequence: int,
        started_at_ms: int,
        at_ms: int,
        billed_ms: int,
        state: VoucherState,
        reason: int,
        attempt: int = 1,
    ) -> SignedVoucher:
        deployment = self.running.market.deployment
        message = VoucherMessage(
            program_id=bytes(deployment.program),
            genesis_hash=deployment.genesis_hash,
            escrow=bytes(self.calls.escrow_address(escrow)),
            attempt=attempt,
            wallet=bytes(escrow.wallet),
            node=bytes(self.calls.addresses.node(node.key.pubkey())),
            sequence=sequence,
            started_at_ms=started_at_ms,
            at_ms=at_ms,
            billed_ms=billed_ms,
            amount=price * billed_ms // HOUR_MS,
            state=state,
            reason=reason,
            digest=bytes(32),
        )
        signed = message.signing_bytes()
        meter = self.keys.meter
        return SignedVoucher(
            message, node.key.pubkey(), meter.pubkey(), node.key.sign_message(signed), meter.sign_message(signed)
        )


@dataclass(frozen=True)
class TestNode:
    __test__ = False
    operator: Keypair
    key: Keypair
    ref: NodeRef
