"""The demo's two jobs, from the submission to the money, on a real Agave validator instead of the localnet."""

import base64
import os
import shutil
from collections.abc import Iterator
from decimal import Decimal

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from spl.token.instructions import (
    MintToParams,
    create_idempotent_associated_token_account,
    get_associated_token_address,
    mint_to,
)

from scripts.local_stack import ROOT, Process, Stack, engine, free_ports
from tests.e2e.conftest import HEARTBEAT_S
from tests.e2e.test_jobs import STAMP_MS, TERMINAL, money_is_conserved, run

VALIDATOR = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
PROGRAM = "3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY"
TOKENS = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),
    pytest.mark.timeout(480),  # the first one starts the validator, the market and both nodes
    pytest.mark.skipif(
        not VALIDATOR,
        reason="NOT RUN ON A REAL VALIDATOR: set SOLANA_TEST_VALIDATOR (docs/localnet.md says how to get one)",
    ),
]


class ValidatorStack(Stack):
    """The same market on a chain that nobody here wrote; tokens come from the mints that `init` made."""

    def start_chain(self, extra=None):
        (base,) = free_ports(1, in_a_row=101)
        self.rpc_url, self.ws_url = f"http://127.0.0.1:{base}", f"ws://127.0.0.1:{base + 1}"
        self.write_config()
        command = [
            str(VALIDATOR), "--ledger", str(self.home / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1",
            "--rpc-port", str(base), "--faucet-port", str(base + 3), "--gossip-port", str(base + 4),
            "--dynamic-port-range", f"{base + 40}-{base + 100}",
            "--bpf-program", PROGRAM, os.environ.get("REAVER_PROGRAM", str(ROOT / "programs/deploy/reaver_market.so")),
        ]  # fmt: skip
        self.chain = Process("validator", command, self.home / "logs" / "validator.log")
        self.chain.start()
        self.wait_for("the validator", self.chain, lambda: (self.rpc("getSlot") or 0) > 0, 120)

    def init_market(self):
        self.command("reaver-market", "init", "--config", str(self.config), "--create-mints")

    def faucet(self, address, *, sol, payment, stake):
        keys = self.home / "market" / "keys"
        authority = self.keypair(keys / "authority.json")
        owner = Pubkey.from_string(address)
        asked = self.rpc("requestAirdrop", address, int(Decimal(sol) * 10**9))
        self.wait_until("the airdrop", lambda: self.landed(asked))
        instructions = []
        for name, amount in (("payment", payment), ("stake", stake)):
            mint = self.keypair(keys / f"{name}-mint.json").pubkey()
            account = get_associated_token_address(owner, mint)
            units = int(Decimal(amount) * 10**6)
            instructions.append(create_idempotent_associated_token_account(authority.pubkey(), owner, mint))
            instructions.append(mint_to(MintToParams(TOKENS, mint, account, authority.pubkey(), units)))
        latest = self.rpc("getLatestBlockhash", {"commitment": "confirmed"})["value"]["blockhash"]
        blockhash = Hash.from_string(latest)
        message = Message.new_with_blockhash(instructions, authority.pubkey(), blockhash)
        raw = base64.b64encode(bytes(Transaction([authority], message, blockhash))).decode()
        sent = self.rpc("sendTransaction", raw, {"encoding": "base64", "preflightCommitment": "confirmed"})
        self.wait_until("the tokens", lambda: self.landed(sent))

    def landed(self, signature):
        found = self.rpc("getSignatureStatuses", [signature])
        status = found and found["value"][0]
        assert not (status and status["err"]), status
        return status and status["confirmationStatus"] in {"confirmed", "finalized"}

    @staticmethod
    def keypair(file):
        return Keypair.from_json(file.read_text())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, image_names: dict[str, str]) -> Iterator[ValidatorStack]:
    """As the demo's: two nodes, a renter with a vault and an allowance. The tests of this module share it."""
    running = ValidatorStack(tmp_path_factory.mktemp("validator-stack"), docker_host=engine(), heartbeat_s=HEARTBEAT_S)
    try:
        running.start_chain()
        running.init_market()
        running.start_market()
        running.create_wallet(deposit="10", payment="20")
        for name in ("alpha", "beta"):
            running.add_node(name, check_image=image_names["busybox"])
            running.start_node(name)
        running.reaver(
            "allow", "grant", "--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "5",
            "--expires", "1d",
        )  # fmt: skip
        yield running
    finally:
        running.stop(remove=True)


def test_a_job_runs_and_is_paid_on_a_real_validator(stack, image_names):
    job_id = run(stack, image_names["busybox"], "sh", "-c", "echo on a real chain; sleep 2")
    job = stack.wait_settled(job_id, 120)
    assert (job["status"], job["exit_code"]) == ("completed", 0)
    assert job["settlement"]["billed_ms"] >= 2_000 - STAMP_MS
    assert (len(job["settlement"]["transactions"]), job["settlement"]["signatures"]) == (2, 4)
    money_is_conserved(stack, job)


def test_a_node_dies_and_another_finishes_the_job_on_a_real_validator(stack, image_names):
    """The demo's second job: paid to the last voucher, finished elsewhere, compensated out of the bond."""
    job_id = run(stack, image_names["busybox"], "sh", "-c", "for n in 1 2 3 4 5 6 7 8; do echo line $n; sleep 1; done")
    stack.wait_job(job_id, ["running"])
    job = stack.wait_until(
        "vouchers", lambda: (j := stack.try_job(job_id)) and j["attempts"][-1]["billed_ms"] >= 2_000 and j
    )
    victim = next(node for node in stack.nodes.values() if node.id == job["node_id"])
    victim.process.kill()
    stack.remove_containers(victim)
    try:
        stack.wait_job(job_id, TERMINAL, 120)
        job = stack.wait_settled(job_id, 120)
    finally:
        stack.start_node(victim.name, wait=False)
        stack.wait_until("the node to take work", lambda: stack.node_is_available(victim.id))
    assert job["status"] == "completed"
    first, second = job["attempts"]
    assert (first["end_reason"], second["end_reason"]) == ("node_lost", "completed")
    assert second["node_id"] != first["node_id"]
    assert float(job["settlement"]["compensation"]["amount"]) > 0
    money_is_conserved(stack, job)
