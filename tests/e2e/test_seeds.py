"""The examples of seeds 000 and 002 for real: class and image are this machine's, everything else is the pages' own."""

import json
import shlex
import time
import urllib.request

import pytest

from tests.api.test_seed_000 import SEED as SEED_000
from tests.api.test_seed_002 import SEED as SEED_002
from tests.api.test_seed_002 import has_shape
from tests.e2e.test_faults import _quiet
from tests.e2e.test_jobs import TERMINAL, ended
from tests.e2e.test_models import models
from tests.runners.slow_gpt2 import continued

__all__ = ["_quiet", "models"]
pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.xdist_group("stack"), pytest.mark.timeout(900)]


class Client:
    """A client of one of the pages: its way of saying who it is, its bodies."""

    def __init__(self, stack, **headers):
        self.base, self.headers = stack.api_url, headers

    def raw(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def __call__(self, method, path, body=None):
        return json.loads(self.raw(method, path, body))

    def until(self, job_id, *statuses):
        for _ in range(90):
            job = self("GET", f"/v1/jobs/{job_id}")
            if job["status"] in statuses:
                return job
            time.sleep(1)
        raise AssertionError(f"{job_id} never became {statuses}: {job}")


def test_seed_000_s_job_runs_in_a_container_and_another_is_cancelled(stack, image_names):
    client = Client(stack, Authorization=f"Bearer {stack.token()}")
    words = shlex.split(SEED_000["submit"].replace("\\\n", ""))
    body = json.loads(words[words.index("-d") + 1]) | {"image": image_names["busybox"], "gpu": "cpu-small"}
    quote = client("POST", "/v1/quote", body)
    assert quote["match"] is True
    answer = client("POST", "/v1/jobs", body)
    has_shape(answer, SEED_000["submit_answer"])
    job = client.until(answer["id"], *TERMINAL)
    assert (job["status"], job["exit_code"], job["region"]) == ("completed", 0, ["eu"])
    assert job["node_id"] in {node.id for node in stack.nodes.values()}
    assert job["id"] in [row["id"] for row in client("GET", "/v1/jobs")["jobs"]]
    ended(stack, job["id"])
    again = client("POST", "/v1/jobs", body | {"command": ["sh", "-c", "echo streamed; sleep 100"]})
    client.until(again["id"], "running")
    stack.wait_until("its log", lambda: client.raw("GET", f"/v1/jobs/{again['id']}/logs") == b"streamed\n")
    client("POST", f"/v1/jobs/{again['id']}/cancel")
    assert client.until(again["id"], *TERMINAL)["status"] == "cancelled"
    ended(stack, again["id"])


def test_seed_002_s_job_runs_its_model_and_another_is_deleted(stack, models):
    made = stack.post("/v1/api-keys", {"name": "seed 002", "scopes": ["jobs"]})
    client = Client(stack, **{"X-Api-Key": made["key"]})
    body = SEED_002["submit"] | {
        "input": "the market pays",
        "output_config": {"destination": "local", "format": "json"},
        "requirements": {"gpu_type": "cpu-small", "gpu_count": 1, "min_vram_gb": 0},
    }
    answer = client("POST", "/v1/jobs", body)
    shown = {name: type(answer[name]) for name in SEED_002["submit_answer"]}
    assert shown == {"job_id": str, "estimated_cost": float, "estimated_time_seconds": int}
    job = client.until(answer["job_id"], *TERMINAL)
    has_shape(job, SEED_002["status_answer"])
    assert (job["status"], job["progress"]) == ("completed", 100), job
    assert job["result"]["text"] == continued(models["folder"], "the market pays", 40)
    assert client("GET", f"/v1/jobs/{job['job_id']}/download") == job["result"]
    today = job["completed_at"][:10]
    history = client("GET", f"/v1/jobs/history?from={today}&to={today}")
    assert list(history) == list(SEED_002["list_answer"])
    assert (job["job_id"], "completed", "gpt2") in [tuple(row.values())[:3] for row in history["jobs"]]
    ended(stack, job["job_id"])
    again = client("POST", "/v1/jobs", body)
    has_shape(client("DELETE", f"/v1/jobs/{again['job_id']}"), SEED_002["status_answer"])
    assert client.until(again["job_id"], *TERMINAL)["status"] in ("cancelled", "completed")
    ended(stack, again["job_id"])
