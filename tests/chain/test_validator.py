"""The lifecycle suite and a delegator's stake once more, against a real Agave validator: the localnet's honest peer.

`SOLANA_TEST_VALIDATOR` names the program, or it is on PATH; without one these tests are skipped and say so.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from solders.pubkey import Pubkey

from marketplace.chain.bootstrap import MarketDeployment, MarketPlan, OperatorKeys, initialize_market
from marketplace.chain.constants import LOCALNET
from marketplace.chain.rpc import RpcClient
from scripts.processes import free_ports
from tests.chain.market import Running, program_file
from tests.chain.test_lifecycle import (  # noqa: F401 - collected here too, with this module's chain
    test_a_job_is_opened_assigned_and_settled_in_two_transactions,
    test_a_lost_node_is_released_contested_and_compensated,
    test_a_nodes_operator_quits_bonds_and_updates,
    test_a_wallet_opens_cancels_and_withdraws_by_itself,
)
from tests.chain.test_stakes import (  # noqa: F401 - and a delegator's
    stakes,
    test_a_delegators_stake_is_read_as_the_program_books_it,
)

VALIDATOR = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
PROGRAM = Pubkey.from_string("3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY")
START_S = 90

pytestmark = [
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),  # one at a time: each takes most of a core for most of a minute to start
    pytest.mark.timeout(240),
    pytest.mark.skipif(not VALIDATOR, reason="no solana-test-validator: set SOLANA_TEST_VALIDATOR (docs/localnet.md)"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("validator")
    (base,) = free_ports(1, in_a_row=60)
    command = [
        str(VALIDATOR), "--ledger", str(folder / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1",
        "--rpc-port", str(base), "--faucet-port", str(base + 3), "--gossip-port", str(base + 4),
        "--dynamic-port-range", f"{base + 10}-{base + 59}",
        "--bpf-program", str(PROGRAM), str(program_file()),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{base}"
        plan = MarketPlan(PROGRAM, folder / "keys", LOCALNET, local=True, create_mints=True)
        market = asyncio.run(set_up(url, plan))
        yield Running(url, f"ws://127.0.0.1:{base + 1}", folder, market, OperatorKeys.load(plan.keys_dir))
    finally:
        process.kill()
        process.wait(timeout=30)
        shutil.rmtree(folder / "ledger", ignore_errors=True)


async def set_up(url: str, plan: MarketPlan) -> MarketDeployment:
    async with RpcClient([url]) as rpc:
        deadline = time.monotonic() + START_S
        while not (await rpc.get_health() and await rpc.get_slot() > 0):
            assert time.monotonic() < deadline, "the validator did not start"
            await asyncio.sleep(0.5)
        return await initialize_market(rpc, plan)


def test_this_is_the_real_validator(running: Running) -> None:
    async def version() -> str:
        async with RpcClient([running.rpc]) as rpc:
            return await rpc.get_version()

    assert asyncio.run(version()).startswith(("2.", "3.", "4."))
    assert Path(str(VALIDATOR)).exists()
