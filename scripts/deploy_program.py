"""Deploys the program through the upgradeable loader, or upgrades it: the same command for both, and after any crash.

Every step looks first. The buffer's key is derived from the upgrade authority's key, the program's address and the
file's hash, so the run that comes after a killed one finds what that one wrote, and writes only what is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog
from solders.compute_budget import set_compute_unit_price
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.transaction import VersionedTransaction

from marketplace import crash
from marketplace.chain.addresses import UPGRADEABLE_LOADER, program_data_address
from marketplace.chain.errors import ChainError, TransactionExpired, TransactionFailed
from marketplace.chain.keyfiles import load_keypair
from marketplace.chain.outbox import MemoryOutbox
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.errors import MarketError, SettingsError
from scripts import upgradeable_loader as loader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solders.instruction import Instruction

ROOT: Final = Path(__file__).resolve().parents[1]
# Specified: the largest packet, less its headers.
TRANSACTION_BYTES: Final = 1_232
# Chosen: so many writes are under way at once; small enough for a public endpoint's limit, a few slots' worth here.
WINDOW: Final = 24
# Chosen: rounds that may write nothing new before we give up; each waits until its transactions can't land any more.
BARREN_ROUNDS: Final = 3
# Specified: SIMD-0431, the least that a program may be extended by.
LEAST_EXTENSION: Final = 10_240
WAIT_S: Final = 120.0
# The loader's answer to an instruction that the cluster has switched off.
SWITCHED_OFF: Final = "InvalidInstructionData"


@dataclass
class Deployment:
    """One run. chunks_written: what this run had to write itself."""

    rpc: RpcClient
    payer: Keypair
    program: Keypair
    authority: Keypair
    elf: bytes
    compute_price: int
    chunks_written: int = 0
    chunks: int = 0
    transactions: int = 0
    sender: Sender = field(init=False)

    def __post_init__(self) -> None:
        self.sender = Sender(self.rpc, MemoryOutbox(), tick_s=0.2)

    @property
    def buffer(self) -> Keypair:
        """No file to lose: who may write the buffer can always derive it."""
        digest = hashlib.sha256(
            b"reaver-market deployment buffer"
            + self.authority.secret()
            + bytes(self.program.pubkey())
            + hashlib.sha256(self.elf).digest()
        ).digest()
        return Keypair.from_seed(digest)

    async def run(self) -> dict[str, Any]:
        """Bring the program to what the file says."""
        loop = asyncio.create_task(self.sender.run())
        try:
            action = await self._bring_about()
            if action != "unchanged":
                await self._visible()
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
        present = await self._program_data()
        if present is None:
            raise ChainError("the program was deployed and is not there: ask another endpoint, run this again")
        return {
            "action": action,
            "program": str(self.program.pubkey()),
            "program_data": str(program_data_address(self.program.pubkey())),
            "upgrade_authority": str(present.authority) if present.authority is not None else None,
            "slot": present.slot,
            "bytes": len(self.elf),
            "sha256": hashlib.sha256(self.elf).hexdigest(),
            "chunks": self.chunks,
            "chunks_written": self.chunks_written,
            "transactions": self.transactions,
        }

    async def _bring_about(self) -> str:
        present = await self._program_data()
        if present is not None:
            self._require_authority(present)
            if _holds(present.content, self.elf):
                await self._close_left_over()
                return "unchanged"
        await self._require_lamports(is_new=present is None)
        await self._make_buffer()
        await self._write_all()
        crash.crash_point("deploy.before_deploy")
        if present is None:
            await self._deploy()
        else:
            await self._make_room(present)
            await self._upgrade()
        crash.crash_point("deploy.after_deploy")
        return "deployed" if present is None else "upgraded"

    async def _program_data(self) -> loader.ProgramData | None:
        """What is deployed now; None where nothing is. Raises SettingsError for what can't be upgraded by us."""
        address = self.program.pubkey()
        account = await self.rpc.find_account(address)
        if account is None:
            return None
        if account.owner != UPGRADEABLE_LOADER:
            raise SettingsError(
                f"{address} belongs to {account.owner}, not to the upgradeable loader: nothing was done"
            )
        named = loader.parse_program(account.data)
        data = await self.rpc.find_account(named) if named is not None else None
        found = loader.parse_program_data(data.data) if data is not None else None
        if found is None:
            raise SettingsError(f"{address} was closed, and its address can't be used again: take another program key")
        return found

    def _require_authority(self, present: loader.ProgramData) -> None:
        if present.authority is None:
            raise SettingsError("the program has no upgrade authority any more: it stays as it is for ever")
        if present.authority != self.authority.pubkey():
            raise SettingsError(
                f"the program's upgrade authority is {present.authority}, not {self.authority.pubkey()}: "
                "name its keypair with --upgrade-authority"
            )

    async def _require_lamports(self, *, is_new: bool) -> None:
        """Before anything is paid for. A buffer that is there already has its rent."""
        there = await self.rpc.find_account(self.buffer.pubkey())
        needed = 0 if there is not None else await self._rent(loader.BUFFER_HEADER_BYTES + len(self.elf))
        if is_new:
            needed += await self._rent(loader.PROGRAM_BYTES) + await self._rent(8)
        needed += (len(self.elf) // 900 + 3) * 10_000  # two signatures for each write
        held = await self.rpc.get_balance(self.payer.pubkey())
        if held < needed:
            raise SettingsError(
                f"{self.payer.pubkey()} holds {held} lamports and about {needed} are needed: nothing was done"
            )

    async def _make_buffer(self) -> None:
        address = self.buffer.pubkey()
        account = await self.rpc.find_account(address)
        if account is None:
            rent = await self._rent(loader.BUFFER_HEADER_BYTES + len(self.elf))
            made = loader.create_buffer(self.payer.pubkey(), address, self.authority.pubkey(), len(self.elf), rent)
            await self._land("buffer", made, [self.payer, self.buffer])
            crash.crash_point("deploy.after_buffer")
            return
        found = loader.parse_buffer(account.data) if account.owner == UPGRADEABLE_LOADER else None
        if found is None or found.authority != self.authority.pubkey() or len(found.content) != len(self.elf):
            raise ChainError(f"the account at {address} is not the buffer that a run of ours would have made")
        _say(f"going on with the buffer {address}")

    async def _write_all(self) -> None:
        """Write what is missing, read back, and again, until the buffer holds the file."""
        size = self._chunk_bytes()
        barren, before = 0, None
        while missing := await self._missing(size):
            barren = barren + 1 if len(missing) == before else 0
            if barren >= BARREN_ROUNDS:
                raise ChainError(f"the chain took none of {len(missing)} writes; run this again, or --compute-price")
            before = len(missing)
            _say(f"{self.chunks - len(missing)} of {self.chunks} chunks are on the chain")
            for start in range(0, len(missing), WINDOW):
                await self._write_window(missing[start : start + WINDOW], size)
                crash.crash_point("deploy.after_window")

    async def _missing(self, size: int) -> list[int]:
        """Offsets of the chunks that the buffer doesn't hold yet."""
        account = await self.rpc.find_account(self.buffer.pubkey())
        found = loader.parse_buffer(account.data) if account is not None else None
        if found is None:
            raise ChainError("the buffer is gone: somebody with the same keys closed it; run this again")
        offsets = range(0, len(self.elf), size)
        self.chunks = len(offsets)
        return [at for at in offsets if found.content[at : at + size] != self.elf[at : at + size]]

    async def _write_window(self, offsets: Sequence[int], size: int) -> None:
        """Send these writes and wait until each has landed or can't any more."""
        latest = await self.rpc.get_latest_blockhash()
        sent = []
        for at in offsets:
            wire = self._signed(self._write(at, size), [self.payer, self.authority], latest.blockhash)
            entry = await self.sender.submit(f"write {at} {latest.blockhash}", wire, latest.last_valid_block_height)
            self.transactions += 1
            sent.append(entry.signature)
        for signature in sent:
            with contextlib.suppress(TransactionExpired):  # the next round looks what is missing
                await self.sender.wait(signature, timeout_s=WAIT_S)
                self.chunks_written += 1

    def _write(self, at: int, size: int) -> list[Instruction]:
        chunk = self.elf[at : at + size]
        return [loader.write(self.buffer.pubkey(), self.authority.pubkey(), at, chunk)]

    def _chunk_bytes(self) -> int:
        """As many as a transaction carries beside its signatures and keys."""
        empty = loader.write(self.buffer.pubkey(), self.authority.pubkey(), 0, b"")
        bare = self._signed([empty], [self.payer, self.authority], self.buffer.pubkey())
        return TRANSACTION_BYTES - len(bare) - 1  # the data's own length takes a second byte

    async def _deploy(self) -> None:
        payer, program, authority = self.payer.pubkey(), self.program.pubkey(), self.authority.pubkey()
        rent = await self._rent(loader.PROGRAM_BYTES)
        made = loader.deploy(payer, program, self.buffer.pubkey(), authority, len(self.elf), rent)
        await self._land("program", made, [self.payer, self.program, self.authority])

    async def _make_room(self, present: loader.ProgramData) -> None:
        """A longer program needs more room than the present one has. The loader wants a slot between the two."""
        lacking = len(self.elf) - len(present.content)
        if lacking <= 0:
            return
        more, program, payer = max(lacking, LEAST_EXTENSION), self.program.pubkey(), self.payer.pubkey()
        try:
            await self._land(f"{more} bytes more", [loader.extend(program, payer, more)], [self.payer])
        except TransactionFailed as refused:
            if SWITCHED_OFF not in str(refused.failure):
                raise
            checked = loader.extend_checked(program, payer, self.authority.pubkey(), more)
            await self._land(f"{more} bytes more", [checked], [self.payer, self.authority])
        await self._visible()

    async def _upgrade(self) -> None:
        instruction = loader.upgrade(
            self.program.pubkey(), self.buffer.pubkey(), self.authority.pubkey(), self.payer.pubkey()
        )
        await self._land("upgrade", [instruction], [self.payer, self.authority])

    async def _close_left_over(self) -> None:
        """A run that was killed after somebody else's had deployed the same file leaves its buffer's rent behind."""
        address = self.buffer.pubkey()
        if await self.rpc.find_account(address) is not None:
            closing = loader.close_buffer(address, self.payer.pubkey(), self.authority.pubkey())
            await self._land("rent of an unused buffer", [closing], [self.payer, self.authority])

    async def _visible(self) -> None:
        """A program can be called, and extended or upgraded again, from the slot after its last change on."""
        present = await self._program_data()
        changed_in = present.slot if present is not None else await self.rpc.get_slot()
        async with asyncio.timeout(WAIT_S):
            while await self.rpc.get_slot() <= changed_in:  # noqa: ASYNC110 - a slot is no event here
                await asyncio.sleep(0.2)

    async def _land(self, what: str, instructions: Sequence[Instruction], signers: Sequence[Keypair]) -> None:
        """Simulate, send, wait until it is confirmed. The first signer pays."""
        latest = await self.rpc.get_latest_blockhash()
        wire = self._signed(instructions, signers, latest.blockhash)
        simulated = await self.rpc.simulate_transaction(wire)
        if simulated.failure is not None:
            raise TransactionFailed(simulated.failure, simulated.logs)
        entry = await self.sender.submit(f"{what} {latest.blockhash}", wire, latest.last_valid_block_height)
        self.transactions += 1
        entry = await self.sender.wait(entry.signature, timeout_s=WAIT_S)
        if not entry.state.landed:
            raise ChainError(f"{what}: not confirmed within {WAIT_S:.0f} s; run the same command again")
        _say(f"{what}: {entry.signature}")

    def _signed(self, instructions: Sequence[Instruction], signers: Sequence[Keypair], blockhash: Any) -> bytes:
        steps = list(instructions)
        if self.compute_price:
            steps.insert(0, set_compute_unit_price(self.compute_price))
        message = Message.new_with_blockhash(steps, signers[0].pubkey(), Hash.from_bytes(bytes(blockhash)))
        unique = {signer.pubkey(): signer for signer in signers}  # payer and authority may be one key
        ordered = [unique[key] for key in message.account_keys[: message.header.num_required_signatures]]
        return bytes(VersionedTransaction(message, ordered))

    async def _rent(self, size: int) -> int:
        return await self.rpc.get_minimum_balance_for_rent_exemption(size)


def _holds(content: bytes, elf: bytes) -> bool:
    """Whether the program's room holds this file and zeros."""
    return content[: len(elf)] == elf and not any(content[len(elf) :])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def deploy(options: argparse.Namespace) -> dict[str, Any]:
    """Bring about what the options say. Raises MarketError."""
    payer, program = load_keypair(options.payer), load_keypair(options.program)
    authority = load_keypair(options.upgrade_authority) if options.upgrade_authority is not None else payer
    elf = options.file.read_bytes()
    if not elf.startswith(b"\x7fELF"):
        raise SettingsError(f"{options.file} is no program file: scripts/build-program makes one")
    async with RpcClient([options.rpc]) as rpc:
        return await Deployment(rpc, payer, program, authority, elf, options.compute_price).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/deploy-program", description=__doc__)
    parser.add_argument("--rpc", required=True, help="URL of the chain's JSON-RPC endpoint")
    parser.add_argument("--payer", required=True, type=Path, help="keypair file: pays fees and rent")
    parser.add_argument("--program", required=True, type=Path, help="keypair file: the program's address")
    parser.add_argument("--upgrade-authority", type=Path, help="keypair file: may upgrade (default: the payer)")
    default = ROOT / "programs/deploy/reaver_market.so"
    parser.add_argument("--file", type=Path, default=default, help="the program (default: the committed one)")
    parser.add_argument("--compute-price", type=int, default=0, metavar="MICROLAMPORTS", help="per compute unit")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    crash.enable(local=urlsplit(options.rpc).hostname in {"127.0.0.1", "localhost", "::1"})
    try:
        done = asyncio.run(deploy(options))
    except (MarketError, OSError) as error:
        if options.json:
            print(json.dumps({"error": str(error)}))
        else:
            _say(f"deploy-program: {error}")
        return 1
    if options.json:
        print(json.dumps(done))
    else:
        for name, value in done.items():
            print(f"{name.replace('_', ' ')}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
