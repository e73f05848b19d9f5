"""A market whose store is PostgreSQL, with real processes: one job, and a kill in the middle of it."""

import os
from collections.abc import Iterator

import pytest

from scripts.local_stack import Stack, engine
from scripts.postgres import UNSAFE, running_cluster
from tests.e2e.conftest import HEARTBEAT_S
from tests.e2e.test_jobs import STAMP_MS, ended, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.postgres,
    pytest.mark.xdist_group("stack-stake"),
    pytest.mark.timeout(300),
]
WORK = ("sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, image_names: dict[str, str]) -> Iterator[Stack]:
    """A market of its own with one node; its store is the server's first database."""
    with running_cluster(*UNSAFE) as url:
        running = Stack(
            tmp_path_factory.mktemp("postgres-stack"),
            docker_host=engine(),
            heartbeat_s=HEARTBEAT_S,
            settings={"store": {"url": f"{url}/postgres"}},
        )
        try:
            running.start_chain()
            running.init_market()
            running.start_market()
            running.create_wallet(deposit="10", payment="20")
            running.add_node("alpha", check_image=image_names["busybox"])
            running.start_node("alpha")
            running.reaver(
                "allow", "grant", "--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "5",
                "--expires", "1d",
            )  # fmt: skip
            yield running
        finally:
            if "REAVER_KEEP_LOGS" in os.environ:
                print(running.last_words())
            running.stop()


def test_a_job_runs_and_is_paid_once_though_its_market_is_killed(stack, image_names):
    assert not list((stack.home / "market").rglob("*.sqlite3")), "there is no other store"
    job_id = run(stack, image_names["busybox"], *WORK)
    stack.wait_job(job_id, ["running"])
    stack.market.kill()
    stack.start_market()
    job = ended(stack, job_id)
    assert (job["status"], job["exit_code"], len(job["attempts"])) == ("completed", 0, 1), job["attempts"]
    assert 6_000 - STAMP_MS <= job["settlement"]["billed_ms"] < 20_000
    assert len(job["settlement"]["transactions"]) == 2
    logs = stack.command("reaver", "jobs", "logs", job_id, environment=stack.environment)
    assert logs.splitlines() == [f"line {n}" for n in range(1, 7)]
    kinds = [event["type"] for event in stack.get(f"/v1/jobs/{job_id}/events", wallet=True)["events"]]
    assert (kinds.count("job.running"), kinds.count("job.completed"), kinds.count("escrow.closed")) == (1, 1, 1)
    said = stack.market.log.read_text()
    assert "Traceback" not in said
    assert stack.settings["store"]["url"].split("@")[0].rpartition(":")[2] not in said
