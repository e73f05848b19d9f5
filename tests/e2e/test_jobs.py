"""Jobs of a renter on real processes: how they end, and who is paid what."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.job_money import units
from scripts.local_stack import Stack

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(180, func_only=True),
]
LIMIT_S = 10
STAMP_MS = 1_000
"""An engine writes a start down once the process runs already, on busy cores so much later: the node's loss."""
README = Path(__file__).parents[2] / "README.md"
TERMINAL = ("completed", "failed", "cancelled", "timed_out", "expired")


def run(stack: Stack, image: str, *command: str, minutes: int = 5, options: tuple[str, ...] = ()) -> str:
    answer = stack.reaver(
        "run", "--image", image, "--gpu", "cpu-small", "--max-minutes", str(minutes), *options,
        *(("--", *command) if command else ()),
    )  # fmt: skip
    return str(answer["job_id"])


def ended(stack: Stack, job_id: str) -> dict:
    stack.wait_job(job_id, TERMINAL)
    job = stack.wait_settled(job_id)
    money_is_conserved(stack, job)
    for node in stack.nodes.values():
        stack.wait_until(f"{node.name} to remove its containers", lambda n=node: not stack.containers(n.deployment), 30)
    return job


def money_is_conserved(stack: Stack, job: dict) -> None:
    """Deposit = paid + refunded, paid = its parts, no rent is left, and the chain's transactions are real."""
    s = job["settlement"]
    assert units(s["deposit"]) == units(s["paid"]) + units(s["refunded"])
    assert units(s["paid"]) == units(s["operator_received"]) + sum(units(v) for v in s["fees"].values())
    assert units(s["paid"]) == sum(units(a["paid"]) for a in job["attempts"])
    assert s["rent_left_lamports"] == 0
    account = stack.rpc("getAccountInfo", s["escrow"], {"encoding": "base64", "commitment": "confirmed"})
    assert account["value"] is None
    fees = 0
    for entry in s["transactions"]:
        found = stack.wait_until(
            "a transaction",
            lambda e=entry: stack.rpc(
                "getTransaction", e["signature"], {"commitment": "confirmed", "maxSupportedTransactionVersion": 1}
            ),
        )
        assert found["meta"]["err"] is None
        fees += found["meta"]["fee"]
    assert fees == 5_000 * s["signatures"]


def test_a_job_runs_is_paid_by_the_millisecond_and_its_receipt_verifies(stack, image_names):
    before = stack.reaver("vault", "balance")
    job_id = run(stack, image_names["busybox"], "sh", "-c", "echo hello; echo oops >&2; sleep 2; echo done")
    job = ended(stack, job_id)
    assert (job["status"], job["reason"], job["exit_code"]) == ("completed", "completed", 0)
    assert job["image_digest"] == image_names["busybox"].split("@")[1]
    s = job["settlement"]
    assert 2_000 - STAMP_MS <= s["billed_ms"] < 10_000
    assert units(s["paid"]) == units(s["price_per_hour"]) * s["billed_ms"] // 3_600_000
    # with an allowance and a free node: open + assign, and settle
    assert len(s["transactions"]) == 2
    assert s["signatures"] == 4
    after = stack.reaver("vault", "balance")
    assert units(before["balance"]) - units(after["balance"]) == units(s["paid"])
    assert units(after["locked"]) == 0
    logs = stack.command("reaver", "jobs", "logs", job_id, environment=stack.environment)
    assert {"hello", "oops", "done"} <= set(logs.split())
    receipt = stack.home / "receipt.json"
    receipt.write_text(json.dumps(stack.reaver("jobs", "receipt", job_id)))
    market = stack.get("/v1/constants")["chain"]["market"]
    assert stack.reaver("receipt", "verify", str(receipt), "--rpc", stack.rpc_url)
    assert market
    # a receipt with one unit more does not verify
    forged = json.loads(receipt.read_text())
    forged["price"] = str(int(forged["price"]) + 1)
    receipt.write_text(json.dumps(forged))
    with pytest.raises(Exception, match="exit 116"):
        stack.reaver("receipt", "verify", str(receipt))


def test_an_exit_code_is_an_app_error_and_the_time_is_paid(stack, image_names):
    job = ended(stack, run(stack, image_names["busybox"], "sh", "-c", "sleep 2; exit 7"))
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "app_error", 7)
    assert job["settlement"]["billed_ms"] >= 2_000 - STAMP_MS


def test_the_cli_ends_with_the_job_s_exit_code(stack, image_names):
    with pytest.raises(Exception, match="exit 9"):
        stack.command(
            "reaver", "run", "--image", image_names["busybox"], "--gpu", "cpu-small", "--max-minutes", "1", "--follow",
            "--", "sh", "-c", "echo last words; exit 9", environment=stack.environment,
        )  # fmt: skip


def test_a_missing_command_is_the_workload_s_error(stack, image_names):
    job = ended(stack, run(stack, image_names["busybox"], "no-such-program"))
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "app_error", 127)


def test_a_missing_image_costs_nothing(stack, image_names):
    missing = image_names["busybox"].split("@")[0].replace("busybox", "nothing-here") + ":1"
    job = ended(stack, run(stack, missing))
    assert (job["status"], job["reason"]) == ("failed", "image_unavailable")
    assert units(job["settlement"]["paid"]) == 0


def test_memory_beyond_the_limit_is_oom(stack, image_names):
    # a shell that is to hold as much takes half a minute of a whole core
    job = ended(stack, run(stack, image_names["busybox"], "tail", "-c", "3000000000", "/dev/zero"))
    assert (job["status"], job["reason"]) == ("failed", "oom")


def test_cancelling_a_running_job_pays_what_was_used(stack, image_names):
    job_id = run(stack, image_names["busybox"], "sleep", "600", minutes=20)
    stack.wait_job(job_id, ["running"])
    time_running = time.monotonic()
    stack.wait_until("a second of work", lambda: time.monotonic() - time_running > 1)
    stack.reaver("jobs", "cancel", job_id)
    job = ended(stack, job_id)
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    assert 0 < units(job["settlement"]["paid"]) < units(job["settlement"]["deposit"])
    assert job["settlement"]["compensation"]["amount"] in {"0", "0.000000"}


def test_the_time_limit_ends_a_job_and_nothing_beyond_it_is_paid(stack, image_names):
    file = stack.home / "limited.yaml"
    file.write_text(
        f"image: {image_names['busybox']}\ngpu: cpu-small\ncommand: [sleep, '600']\ntimeout_seconds: {LIMIT_S}\n"
    )
    job_id = stack.reaver("run", "--file", str(file))["job_id"]
    stack.wait_job(job_id, TERMINAL, 120)
    job = ended(stack, job_id)
    assert (job["status"], job["reason"]) == ("timed_out", "timeout")
    assert 0 < job["settlement"]["billed_ms"] <= LIMIT_S * 1_000
    assert units(job["settlement"]["refunded"]) >= 0


def test_without_an_allowance_the_renter_signs_the_escrow_himself(stack, image_names):
    stack.reaver("allow", "revoke")
    try:
        job = ended(stack, run(stack, image_names["busybox"], "echo", "signed"))
        assert job["status"] == "completed"
        kinds = [t["kind"] for t in job["settlement"]["transactions"]]
        assert len(kinds) == 3
    finally:
        stack.reaver(
            "allow", "grant", "--per-job", "5", "--per-day", "50", "--total", "50", "--max-price-per-hour", "5",
            "--expires", "1d",
        )  # fmt: skip


def test_a_job_waits_for_a_node_and_can_be_cancelled_for_free(stack, image_names):
    names = list(stack.nodes)
    for name in names:
        stack.command("reaver-node", "drain", "--config", str(stack.nodes[name].config))
    try:
        job_id = run(stack, image_names["busybox"], "echo", "never")
        stack.wait_job(job_id, ["queued"])
        stack.reaver("jobs", "cancel", job_id)
        job = ended(stack, job_id)
        assert (job["status"], units(job["settlement"]["paid"])) == ("cancelled", 0)
    finally:
        for name in names:
            stack.command("reaver-node", "undrain", "--config", str(stack.nodes[name].config))
            stack.wait_until("the node to take work", lambda n=name: stack.node_is_available(stack.nodes[n].id))


def test_the_readmes_example_runs_and_pays(stack, image_names):
    """As it stands there, but for the image: from nowhere but this machine's registry can one be pulled."""
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1]
    assert example.count('"alpine"') == 1
    program = example.replace('"alpine"', repr(image_names["busybox"]))
    done = subprocess.run(
        [sys.executable, "-c", program], env=stack.environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    status, cost, currency = done.stdout.split()
    assert (status, currency) == ("completed", "USDC")
    job = stack.job(stack.reaver("jobs", "--limit", "1")["jobs"][0]["id"])
    assert (job["settlement"]["paid"], job["image"]) == (cost, image_names["busybox"])
    ended(stack, job["id"])
