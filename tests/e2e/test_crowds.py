"""More jobs than slots, and a chain that is away while jobs run."""

import time

import pytest

from scripts.local_stack import Stack
from tests.e2e.test_faults import nodes_take_work
from tests.e2e.test_jobs import STAMP_MS, TERMINAL, ended, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(300, func_only=True),
]
JOBS = 20


def test_twenty_jobs_on_two_slots_are_each_served_once_and_nobody_is_starved(stack: Stack, image_names):
    nodes_take_work(stack)
    body = {"image": image_names["busybox"], "gpu": "cpu-small", "region": "eu", "maxMinutes": 1}
    ids = [
        stack.submit({**body, "command": ["echo", f"job {n}"], "max_price_per_hour": "0.5"})["id"] for n in range(JOBS)
    ]
    for job_id in ids:  # before anything waits for a node to be empty: between two jobs it is for a moment only
        stack.wait_job(job_id, TERMINAL)
    jobs = [ended(stack, job_id) for job_id in ids]
    assert [(job["status"], len(job["attempts"])) for job in jobs] == [("completed", 1)] * JOBS
    begun = sorted(range(JOBS), key=lambda n: jobs[n]["attempts"][0]["claimed_at"])
    # Who waits longest goes first. Two claimed at the same moment may change places, and one that arrives while those
    # before it are still being opened may go before them: at most as many as two turns of both slots.
    assert max(abs(place - number) for place, number in enumerate(begun)) <= 4, begun
    for number, job in enumerate(jobs):
        logs = stack.command("reaver", "jobs", "logs", job["job_id"], environment=stack.environment)
        assert logs.splitlines() == [f"job {number}"]


def test_a_chain_that_is_away_while_jobs_run_and_end_delays_their_payment_only(stack: Stack, image_names):
    nodes_take_work(stack)
    long = run(stack, image_names["busybox"], "sh", "-c", "sleep 25; echo late")
    short = run(stack, image_names["busybox"], "sh", "-c", "sleep 4; echo early")
    for job_id in (long, short):
        stack.wait_job(job_id, ["running"])
    stack.chain.kill()
    away_since = time.monotonic()
    stack.wait_until("fifteen seconds without a chain", lambda: time.monotonic() - away_since > 15)
    stack.start_chain()
    for job_id, least_ms in ((short, 4_000), (long, 25_000)):
        job = ended(stack, job_id)
        assert (job["status"], len(job["attempts"])) == ("completed", 1), job["attempts"]
        assert least_ms - STAMP_MS <= job["settlement"]["billed_ms"] < least_ms + 10_000
        attempt = job["attempts"][0]
        assert attempt["ended_at"] <= job["settlement"]["settled_at"]
