"""One job, from the quote to the receipt, on a real Agave validator instead of the localnet."""

import base64
import os
import shutil
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

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
from tests.e2e.test_jobs import money_is_conserved, run

VALIDATOR = os.environ.get("SOLANA_TEST_VALIDATOR") or shutil.which("solana-test-validator")
PROGRAM = "3Q8EAU3nPL3Fh5LAphwprGjPi7TTtY1qaPtXejC4iVhY"
TOKENS = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not VALIDATOR,
        reason="NOT RUN ON A REAL VALIDATOR: set SOLANA_TEST_VALIDATOR (docs/localnet.md says how to get one)",
    ),
]


class ValidatorStack(Stack):
    """The same market on a chain that nobody here wrote; tokens come from the mints that `init` made."""

    def start_chain(self, extra=None):
        base = free_ports(1)[0]
        self.rpc_url, self.ws_url = f"http://127.0.0.1:{base}", f"ws://127.0.0.1:{base + 1}"
        self.write_config()
        command = [
            str(VALIDATOR), "--ledger", str(self.home / "ledger"), "--reset", "--quiet", "--bind-address", "127.0.0.1",
            "--rpc-port", str(base), "--faucet-port", str(free_ports(1)[0]), "--gossip-port", str(free_ports(1)[0]),
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


@pytest.fixture
def stack(tmp_path: Path, image_names: dict[str, str]) -> Iterator[ValidatorStack]:
    running = ValidatorStack(tmp_path / "stack", docker_host=engine(), heartbeat_s=1)
    try:
        running.start_chain()
        running.init_market()
        running.start_market()
        running.create_wallet(deposit="5", payment="20")
        running.add_node("alpha", check_image=image_names["busybox"])
        running.start_node("alpha")
        yield running
    finally:
        running.stop(remove=True)


def test_a_job_runs_and_is_paid_on_a_real_validator(stack, image_names):
    stack.reaver(
        "allow", "grant", "--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "5", "--expires", "1d",
    )  # fmt: skip
    started = time.monotonic()
    job_id = run(stack, image_names["busybox"], "sh", "-c", "echo on a real chain; sleep 2")
    job = stack.wait_settled(job_id, 120)
    assert time.monotonic() - started < 120
    assert (job["status"], job["exit_code"]) == ("completed", 0)
    assert job["settlement"]["billed_ms"] >= 1_900
    assert (len(job["settlement"]["transactions"]), job["settlement"]["signatures"]) == (2, 4)
    money_is_conserved(stack, job)
