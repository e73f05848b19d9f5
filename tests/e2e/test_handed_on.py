"""What outlives a container: a checkpoint on another node, artifacts in the next job, outputs in a bucket; kill -9 amid."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from marketplace.objects.storage import ObjectStorage, S3Access
from scripts.job_money import units
from scripts.local_stack import Stack
from tests.e2e.test_faults import _quiet
from tests.e2e.test_jobs import TERMINAL, ended
from tests.e2e.test_transfers import call, submit
from tests.objects.seaweed import ACCESS_KEY, SECRET_KEY, S3Server, s3_server

__all__ = ["_quiet"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack-faults"),
    pytest.mark.timeout(300, func_only=True),
]
COUNTING = """
n=0; [ -f "$REAVER_CHECKPOINT/n" ] && n=$(cat "$REAVER_CHECKPOINT/latest")
echo "from $n"
if [ "$n" -gt 0 ]; then echo "{\\"from\\": $n}" > /outputs/result.json; exit 0; fi
while :; do n=$((n + 1)); echo $n > /scratch/n; cp /scratch/n "$REAVER_CHECKPOINT/n"
[ -L "$REAVER_CHECKPOINT/latest" ] || ln -s n "$REAVER_CHECKPOINT/latest"; sleep 5; done
"""


def test_a_job_goes_on_from_its_checkpoint_on_another_node(stack: Stack, image_names: dict[str, str]) -> None:
    job_id = submit(stack, image_names["busybox"], COUNTING, checkpoint={"minutes": 1})
    saved = lambda: ((stack.try_job(job_id) or {}).get("checkpoint") or {}).get("saved_at")  # noqa: E731
    stack.wait_until("a checkpoint", saved, 150)
    first = stack.job(job_id)["node_id"]
    node = next(node for node in stack.nodes.values() if node.id == first)
    node.process.kill()
    stack.remove_containers(node)
    stack.wait_until("the job to end", lambda: (stack.try_job(job_id) or {}).get("status") in TERMINAL, 120)
    job = ended(stack, job_id)
    assert (job["status"], [a["end_reason"] for a in job["attempts"]]) == ("completed", ["node_lost", "completed"])
    assert job["attempts"][1]["node_id"] != first
    assert job["result"]["from"] >= 1


def test_what_jobs_left_lies_in_the_inputs_of_what_follows(stack: Stack, image_names: dict[str, str]) -> None:
    one = submit(stack, image_names["busybox"], "mkdir /outputs/sub; echo one > /outputs/sub/a.txt")
    assert ended(stack, one)["status"] == "completed"
    look = f"cat /inputs/{one}/sub/a.txt > /outputs/result.txt; (touch /inputs/x /inputs/{one}/x 2>/dev/null && exit 9)"
    job = {
        "image": image_names["busybox"], "gpu": "cpu-small", "maxMinutes": 5, "max_price_per_hour": "1",
        "command": ["sh", "-c", f'{look}; test "$TOKEN" = planted'], "secrets": {"TOKEN": "planted"},
    }  # fmt: skip
    raw, _ = call(
        stack, "POST", "/v1/groups", json.dumps({"job": job, "count": 1, "after": [one]}).encode(),
        **{"Content-Type": "application/json"},
    )  # fmt: skip
    group_id = json.loads(raw)["id"]
    group = stack.wait_until("the group to end", lambda: _over(stack, group_id), 90)
    assert group["summary"] == {"completed": 1}, group
    assert ended(stack, group["jobs"][0]["job_id"])["result"] == "one\n"


def _over(stack: Stack, group_id: str) -> dict | None:
    found = stack.get(f"/v1/groups/{group_id}", wallet=True)
    return found if found and found["ended_at"] else None


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("theirs")
        yield server


@pytest.fixture
def reaching(stack: Stack) -> Iterator[Stack]:
    """A market that may deliver to this machine."""
    before = stack.config.read_text()
    stack.config.write_text(before + "\n[outgoing]\nloopback = true\n")
    yield stack
    stack.config.write_text(before)
    stack.market.stop()
    stack.start_market()


@pytest.mark.parametrize("point", ["market.delivering", "market.delivered"])
def test_a_market_killed_while_it_delivers_to_a_bucket_delivers_all_of_it(
    reaching: Stack, image_names: dict[str, str], bucket: S3Server, point: str, tmp_path: Path
) -> None:
    stack = reaching
    stack.market.stop()
    stack.start_market({"REAVER_CRASH_AT": point})
    secret = tmp_path / "secret"
    secret.write_text(SECRET_KEY)
    made = stack.reaver(
        "credentials", "create", point, "--endpoint", bucket.endpoint, "--access-key", ACCESS_KEY,
        "--secret-file", str(secret), "--default",
    )  # fmt: skip
    script = "head -c 20000000 /dev/urandom > /outputs/big.bin; echo small > /outputs/result.txt"
    job_id = submit(
        stack, image_names["busybox"], script, output_config={"destination": "s3://theirs/e2e", "format": "text"}
    )
    stack.market.wait_dead(120)
    stack.start_market()
    stack.wait_until("the job to end", lambda: (stack.try_job(job_id) or {}).get("status") in TERMINAL, 120)
    job = ended(stack, job_id)
    assert (job["status"], job["delivery"]["state"], len(job["attempts"])) == ("completed", "delivered", 1)
    assert job["delivery"]["credential_id"] == made["id"]
    assert asyncio.run(_sizes(bucket, f"e2e/{job_id}")) == {
        "output.json": None, "result.txt": 6, "artifacts/big.bin": 20_000_000,
    }  # fmt: skip


def test_a_bucket_that_refuses_is_paid_for_as_the_table_says(
    reaching: Stack, image_names: dict[str, str], bucket: S3Server, tmp_path: Path
) -> None:
    stack = reaching
    stack.market.stop()
    stack.start_market()
    secret = tmp_path / "secret"
    secret.write_text("planted-wrong-key")
    made = stack.reaver(
        "credentials", "create", "wrong", "--endpoint", bucket.endpoint, "--access-key", ACCESS_KEY,
        "--secret-file", str(secret),
    )  # fmt: skip
    config = {"destination": "s3://theirs/refused", "credential_id": made["id"], "format": "text"}
    job_id = submit(
        stack, image_names["busybox"], "sleep 2; echo kept > /outputs/result.txt", output_config=config
    )  # fmt: skip
    job = ended(stack, job_id)
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "output_delivery_failed", 0)
    assert "403" in job["delivery"]["error"]
    assert units(job["settlement"]["operator_received"]) > 0
    assert call(stack, "GET", f"/v1/jobs/{job_id}/download")[0] == b"kept\n"
    # the chain says the same: the receipt's reason is the last voucher's
    receipt = stack.home / "receipt-refused.json"
    receipt.write_text(json.dumps(stack.reaver("jobs", "receipt", job_id)))
    assert json.loads(receipt.read_text())["reason"] == "output_delivery_failed"
    assert stack.reaver("receipt", "verify", str(receipt), "--rpc", stack.rpc_url)
    stack.reaver("credentials", "delete", made["id"])


async def _sizes(server: S3Server, prefix: str) -> dict[str, int | None]:
    access = S3Access("theirs", "", server.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, timeout_s=10)
    found = {f.key.removeprefix(f"{prefix}/"): f.size async for f in ObjectStorage.in_bucket(access).list(prefix)}
    return {**found, "output.json": None} if found.get("output.json") else dict(found)
