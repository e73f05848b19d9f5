"""`reaver crank` on a real chain with short epochs."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest
from solders.keypair import Keypair
from solders.signature import Signature

from marketplace.chain.constants import LOCALNET
from marketplace.chain.program import transfer_tokens
from marketplace.chain.rpc import RpcClient
from marketplace.cli.reaver.commands.crank import _Cranking
from marketplace.cli.reaver.exits import Exit
from marketplace.domain.quantities import Millis
from marketplace.services.crank import CrankDuty, CrankReport, Done
from tests.chain.jobs import settled_job
from tests.chain.market import Actor, Running, TestNode, localnet
from tests.cli.reaver.conftest import Reaver

pytestmark = [pytest.mark.xdist_group("crank-localnet"), pytest.mark.timeout(300)]
T = TypeVar("T")
EPOCH_S = 6
DEADLINE_S = 240
"""A window that a slow machine misses comes again with the next epoch."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    windows = replace(LOCALNET.windows, epoch_length=EPOCH_S * 1_000)
    profile = replace(LOCALNET, windows=windows, first_emission=1_000)
    with localnet(tmp_path_factory.mktemp("chain"), profile=profile) as running:
        yield running


@pytest.fixture
def cranker(tmp_path: Path, chain: Running) -> Reaver:
    """A stranger with SOL and nothing else."""
    wallet = Keypair()
    chain.fund(wallet.pubkey())
    file = tmp_path / "id.json"
    file.write_text(json.dumps(list(bytes(wallet))))
    return Reaver(
        {
            "REAVER_KEYPAIR": str(file),
            "REAVER_STATE_DIR": str(tmp_path / "state"),
            "REAVER_RPC": chain.rpc,
            "REAVER_PROGRAM_ID": str(chain.market.deployment.program),
        }
    )


def on_chain(running: Running, use: Callable[[Actor], Awaitable[T]]) -> T:
    async def work() -> T:
        async with RpcClient([running.rpc]) as rpc:
            actor = Actor(running, rpc)
            loop = asyncio.create_task(actor.sender.run())
            try:
                return await use(actor)
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    return asyncio.run(work())


async def _fund_emission(actor: Actor) -> None:
    donor = Keypair()
    await actor.fund(donor.pubkey())
    mint = actor.running.market.deployment.stake_mint
    source = actor.calls.stake_account(donor.pubkey())
    vault = (await actor.reader.get_config()).emission_vault
    await actor.send([transfer_tokens(source, mint, vault, donor.pubkey(), 500_000_000, 6)], donor)


def test_an_epoch_is_registered_closed_distributed_and_ended(cranker: Reaver, chain: Running) -> None:
    on_chain(chain, _fund_emission)
    node, wallet = on_chain(chain, _people)
    seen: set[str] = set()
    cost = 0

    async def drawn(actor: Actor) -> bool:
        return (await actor.reader.get_pool(actor.calls.addresses.node(node.key.pubkey()))).emission_unclaimed > 0

    end = time.monotonic() + DEADLINE_S
    nonce = 0
    # Nodes of other tests take part, too: this one's own part is what is waited for.
    while not ({"register", "close", "distribute"} <= seen and on_chain(chain, drawn)):
        assert time.monotonic() < end, seen
        nonce += 1
        on_chain(chain, lambda actor, n=nonce: settled_job(actor, node, wallet, nonce=n, billed_ms=200))
        done = cranker("crank", "--json")
        assert done.exit_code == 0, done.stderr
        report = json.loads(done.stdout)
        seen |= {entry["duty"] for entry in report["done"]}
        cost += report["fee_lamports"]
        assert bool(report["fee_lamports"]) == bool(report["done"])
    assert cost >= 3 * 5_000


def test_fees_of_at_least_so_much_are_swept_by_anybody(cranker: Reaver, chain: Running) -> None:
    on_chain(chain, settled_job)
    owed = on_chain(chain, lambda actor: actor.reader.get_market(actor.market)).protocol_owed
    assert owed > 0
    cranker("crank", "--sweep-from", "1000000")
    assert on_chain(chain, lambda actor: actor.reader.get_market(actor.market)).protocol_owed == owed
    done = cranker("crank", "--sweep-from", "0.000001")
    assert done.exit_code == 0, done.stderr
    assert "swept the protocol's fees of market" in done.stdout
    assert "lamports of fees" in done.stdout
    assert on_chain(chain, lambda actor: actor.reader.get_market(actor.market)).protocol_owed == 0


def test_a_loop_goes_on_until_it_is_interrupted(cranker: Reaver, chain: Running) -> None:
    command = [
        sys.executable, "-c", "from marketplace.cli.reaver import main; main()",
        "crank", "--loop", "--every", "1", "--json",
    ]  # fmt: skip
    environment = {"PATH": "/usr/bin:/bin", **cranker.environment, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            first, second = (json.loads(process.stdout.readline()) for _ in range(2))
            assert second["chain_time"] > first["chain_time"]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, b"stopped" in errors, b"Traceback" in errors) == (0, True, False)


async def test_what_a_round_cost_is_known_though_the_clusters_history_lags() -> None:
    class Lagging:
        asked = 0

        async def find_transaction(self, _signature: Signature) -> SimpleNamespace | None:
            self.asked += 1
            return None if self.asked < 3 else SimpleNamespace(fee_lamports=5_000)

    cranking = _Cranking(Lagging(), None, None, None)  # type: ignore[arg-type]
    done = Done(CrankDuty.CLOSE, "1", str(Signature.default()))
    assert await cranking.fees(CrankReport(Millis(0), (done,), (), 0, Millis(0))) == 5_000


def test_a_wallet_without_sol_is_told_before_anything_is_sent(cranker: Reaver, tmp_path: Path) -> None:
    file = tmp_path / "poor.json"
    file.write_text(json.dumps(list(bytes(Keypair()))))
    done = cranker("crank", "--keypair", str(file))
    assert done.exit_code == Exit.FUNDS
    assert "has no SOL" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--every", "0"), Exit.USAGE),
        (("--sweep-from", "1,5"), Exit.USAGE),
        (("--only-market", "nowhere"), Exit.REFUSED),
        (("--program", "11111111111111111111111111111112"), Exit.REFUSED),
        (("--keypair", "/nowhere.json"), Exit.LOGIN),
        (("--rpc", "http://127.0.0.1:9"), Exit.UNAVAILABLE),
    ],
)
def test_what_can_not_be_cranked(cranker: Reaver, arguments: tuple[str, ...], code: Exit) -> None:
    done = cranker("crank", *arguments)
    assert done.exit_code == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_without_an_endpoint_it_says_which_option(environment: dict[str, str]) -> None:
    done = Reaver(environment)("crank")
    assert (done.exit_code, "--rpc" in done.stderr) == (Exit.USAGE, True)


async def _people(actor: Actor) -> tuple[TestNode, Keypair]:
    return await actor.node(), await actor.renter(200_000_000)
