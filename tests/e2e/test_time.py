"""Time on real containers: held at the limit, extended, ended; a command beside a job, and what the job used."""

import asyncio

import aiohttp
import pytest

from scripts.job_money import units
from scripts.local_stack import Stack
from tests.e2e.test_faults import nodes_take_work
from tests.e2e.test_jobs import STAMP_MS, ended

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(240, func_only=True),
]


def submit(stack: Stack, image: str, *command: str, **fields: object) -> str:
    nodes_take_work(stack)
    body = {"image": image, "gpu": "cpu-small", "max_price_per_hour": "0.5", "command": command, **fields}
    return str(stack.submit(body)["job_id"])


def held(stack: Stack, job_id: str) -> dict:
    """The job once it stands at its limit, and its container really does."""
    job = stack.wait_until("the job to be held", lambda: (j := stack.try_job(job_id)) and j["paused_at"] and j, 90)
    node = next(n for n in stack.nodes.values() if n.id == job["node_id"])
    stack.wait_until("the container to stand still", lambda: stack.paused_containers(node.deployment))
    return job


def test_a_job_held_at_its_limit_goes_on_when_it_is_extended_and_the_pause_is_not_billed(stack, image_names):
    counting = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; sleep 1; done"
    job_id = submit(stack, image_names["busybox"], "sh", "-c", counting, timeout_seconds=5)
    held(stack, job_id)
    extended = stack.post(f"/v1/jobs/{job_id}/extend", {"additional_seconds": 120})
    assert (extended["timeout_seconds"], extended["status"]) == (125, "running")
    job = ended(stack, job_id)
    assert (job["status"], len(job["attempts"])) == ("completed", 1), job["attempts"]
    logs = stack.command("reaver", "jobs", "logs", job_id, environment=stack.environment)
    assert logs.splitlines() == [f"line {n}" for n in range(1, 13)]
    # what it ran, less what an engine takes to write its start down, to hold it at its limit, and to say that it goes on
    assert 12_000 - 3 * STAMP_MS <= job["settlement"]["billed_ms"] < 20_000
    kinds = [event["type"] for event in stack.get(f"/v1/jobs/{job_id}/events?limit=1000", wallet=True)["events"]]
    wanted = ["allocation.paused", "allocation.resumed", "job.completed"]
    assert [kind for kind in kinds if kind in wanted] == wanted
    assert kinds.count("allocation.funds_low") >= 1


def test_a_job_that_is_held_and_not_extended_times_out_at_its_limit(stack, image_names):
    job_id = submit(stack, image_names["busybox"], "sleep", "600", timeout_seconds=3)
    job = held(stack, job_id)
    assert job["cost"] <= job["settlement"]["deposit"]
    job = ended(stack, job_id)
    assert (job["status"], job["reason"], job["settlement"]["billed_ms"]) == ("timed_out", "timeout", 3_000)


def test_a_job_that_is_cancelled_while_it_is_held_pays_its_limit(stack, image_names):
    job_id = submit(stack, image_names["busybox"], "sleep", "600", timeout_seconds=3)
    held(stack, job_id)
    stack.reaver("jobs", "cancel", job_id)
    job = ended(stack, job_id)
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    assert job["settlement"]["billed_ms"] <= 3_000
    assert units(job["settlement"]["paid"]) <= units(job["settlement"]["deposit"])


def test_a_command_beside_a_job_is_in_its_container_and_the_job_s_use_is_told(stack, image_names):
    work = "echo begun > /tmp/mark; while true; do :; done"
    job_id = submit(
        stack, image_names["busybox"], "sh", "-c", work, maxMinutes=5, network="none", env={"WHO": "the job"}
    )
    stack.wait_job(job_id, ["running"])
    assert asyncio.run(beside(stack, job_id, "sh", "-c", "cat; cat /tmp/mark; echo $WHO; echo oops >&2; exit 4")) == (
        b"said\nbegun\nthe job\n", b"oops\n", 4
    )  # fmt: skip
    metrics = stack.wait_until(
        "two samples",
        lambda: (m := stack.get(f"/v1/jobs/{job_id}/metrics", wallet=True)) and len(m["samples"]) >= 2 and m["samples"],
    )
    assert metrics[-1]["cpu_ms"] > metrics[0]["cpu_ms"]
    assert metrics[-1]["cpu_milli"] > 0
    assert metrics[-1]["memory_bytes"] > 0
    assert stack.job(job_id)["status"] == "running"
    stack.reaver("jobs", "cancel", job_id)
    assert ended(stack, job_id)["status"] == "cancelled"


async def beside(stack: Stack, job_id: str, *command: str) -> tuple[bytes, bytes, int]:
    """Standard output, standard error and exit code of a command that is fed one line."""
    headers = {"Authorization": f"Bearer {stack.token()}"}
    output = {1: b"", 2: b""}
    url = f"{stack.api_url}/v1/jobs/{job_id}/exec"
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(url) as socket,
    ):
        await socket.send_json({"cmd": list(command)})
        assert await socket.receive_json() == {"opened": True}
        await socket.send_bytes(b"said\n")
        await socket.send_json({"end_input": True})
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                return output[1], output[2], message.json()["exit_code"]
            output[message.data[0]] += message.data[1:]
    raise AssertionError("no exit code")
