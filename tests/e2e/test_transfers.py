"""Files in, files out, through real containers: whole lives of a job's bytes, also when a process dies among them."""

import hashlib
import http.server
import io
import json
import threading
import urllib.request
import zipfile

import pytest

from scripts.job_money import units
from scripts.local_stack import Stack
from tests.e2e.test_faults import _quiet, over
from tests.e2e.test_jobs import TERMINAL, ended

__all__ = ["_quiet"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(240, func_only=True),
]


def call(stack: Stack, method: str, path: str, data: bytes | None = None, **headers: str) -> tuple[bytes, dict]:
    sent = {"Authorization": f"Bearer {stack.token()}", **headers}
    request = urllib.request.Request(stack.api_url + path, data, sent, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read(), dict(answer.headers)


def submit(stack: Stack, image: str, script: str, **fields: object) -> str:
    wanted = {
        "image": image, "gpu": "cpu-small", "maxMinutes": 5, "command": ["sh", "-c", script],
        "max_price_per_hour": "1", **fields,
    }  # fmt: skip
    return str(stack.submit(wanted)["job_id"])


def test_a_file_goes_in_and_a_result_with_its_files_comes_out(stack, image_names):
    data = bytes(range(256)) * 4096
    raw, _ = call(stack, "POST", "/v1/files?name=data.bin", data, **{"Content-Type": "application/octet-stream"})
    file_id = json.loads(raw)["file_id"]
    script = (
        'echo 40 > "$REAVER_PROGRESS"; until [ -e /tmp/seen ]; do sleep 0.1; done; mkdir /outputs/sub; cp "$REAVER_INPUT" /outputs/sub/copy.bin; '
        'ln -s /etc/passwd /outputs/link; sum=$(sha256sum "$REAVER_INPUT" | cut -c1-64); echo read; '
        '(touch /inputs/x 2>/dev/null && echo writable); echo "{\\"sha256\\": \\"$sum\\"}" > /outputs/result.json'
    )
    job_id = submit(stack, image_names["busybox"], script, input=file_id)
    stack.wait_until("its progress", lambda: (stack.try_job(job_id) or {}).get("progress") == 40, 60)
    node = next(n for n in stack.nodes.values() if n.id == stack.job(job_id)["node_id"])
    stack.enter(node.deployment, "touch", "/tmp/seen")
    job = ended(stack, job_id)
    assert (job["status"], job["progress"]) == ("completed", 100), job
    assert job["result"] == {"sha256": hashlib.sha256(data).hexdigest()}
    copied, headers = call(stack, "GET", f"/v1/jobs/{job_id}/download?path=sub/copy.bin")
    assert copied == data
    assert headers["ETag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    packed, _ = call(stack, "GET", f"/v1/jobs/{job_id}/download?format=archive")
    archive = zipfile.ZipFile(io.BytesIO(packed))
    top = f"job_{job_id.removeprefix('job_')}"
    assert archive.read(f"{top}/artifacts/sub/copy.bin") == data
    assert archive.read(f"{top}/logs/stdout.log") == b"read\n", "the input is read-only"
    listed = stack.get(f"/v1/jobs/{job_id}/outputs", wallet=True)
    assert [file["path"] for file in listed["outputs"]] == ["result.json", "sub/copy.bin"], "no link is followed"
    receipt = stack.home / "receipt-outputs.json"
    receipt.write_text(json.dumps(stack.reaver("jobs", "receipt", job_id)))
    assert stack.reaver("receipt", "verify", str(receipt), "--rpc", stack.rpc_url)


def test_an_input_by_url_comes_from_its_host_and_one_that_is_not_there_costs_nothing(stack, image_names):
    class Host(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/data.txt" else 404)
            self.end_headers()
            self.wfile.write(b"from a host")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{host.server_port}"
        script = 'cat "$REAVER_INPUT" > /outputs/result.txt'
        job_id = submit(stack, image_names["busybox"], script, input=f"{base}/data.txt", network="none")
        job = ended(stack, job_id)
        assert (job["status"], job["result"]) == ("completed", "from a host")
        job = ended(stack, submit(stack, image_names["busybox"], script, input=f"{base}/none"))
        assert (job["status"], job["reason"]) == ("failed", "input_unavailable")
        assert job["settlement"]["paid"] in {"0", "0.000000"}
        host.shutdown()


@pytest.mark.parametrize("process", ["node", "market"])
def test_a_process_killed_while_outputs_travel_delivers_them_once(stack, image_names, process):
    names = list(stack.nodes.values())
    for node in names[1:]:
        node.process.stop()
    if process == "node":
        names[0].process.stop()
        stack.start_node(names[0].name, {"REAVER_CRASH_AT": "node.uploading"})
    # Enough that a delivery takes a moment: the market dies in it.
    script = "head -c 60000000 /dev/urandom > /outputs/big.bin; echo done > /outputs/result.txt"
    job_id = submit(stack, image_names["busybox"], script)
    if process == "node":
        stack.wait_until("the node to die", lambda: not names[0].process.alive, 90)
    else:
        seen = ("uploading", *TERMINAL)
        stack.wait_until("its outputs to travel", lambda: (stack.try_job(job_id) or {}).get("status") in seen, 90)
        stack.market.kill()
        stack.start_market()
    stack.wait_until("the job to end", lambda: over(stack, job_id), 150)
    job = ended(stack, job_id)
    assert (job["status"], job["result"]) == ("completed", "done\n")
    # A machine so busy that the daemon is back after three heartbeats lost it: then another did the work anew.
    assert [a["end_reason"] for a in job["attempts"]] in (["completed"], ["node_lost", "completed"])
    assert process == "node" or len(job["attempts"]) == 1
    listed = stack.get(f"/v1/jobs/{job_id}/outputs", wallet=True)
    assert [(file["path"], file["size"]) for file in listed["outputs"]] == [("big.bin", 60_000_000), ("result.txt", 5)]
    big, _ = call(stack, "GET", f"/v1/jobs/{job_id}/download?path=big.bin")
    assert hashlib.sha256(big).hexdigest() == listed["outputs"][0]["sha256"]


def test_a_cancelled_job_keeps_what_it_wrote(stack, image_names):
    job_id = submit(stack, image_names["busybox"], "echo half > /outputs/partial.txt; echo written; sleep 600")
    stack.wait_until(
        "its first line", lambda: "written" in str(stack.get(f"/v1/jobs/{job_id}/logs", wallet=True) or ""), 90
    )
    stack.reaver("jobs", "cancel", job_id)
    job = ended(stack, job_id)
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    assert call(stack, "GET", f"/v1/jobs/{job_id}/download?path=partial.txt")[0] == b"half\n"


def test_a_job_that_is_cancelled_while_its_outputs_travel_pays_its_time_and_keeps_what_arrived(stack, image_names):
    seen = ("uploading", *TERMINAL)
    # As much as a delivery of some moments: the cancellation comes into it. Where it comes too late, there is more.
    for size in (100_000_000, 500_000_000):
        script = f"head -c {size} /dev/urandom > /outputs/big.bin; echo done > /outputs/result.txt"
        job_id = submit(stack, image_names["busybox"], script)
        found = stack.wait_until(
            "its outputs to travel",
            lambda id_=job_id: (job := stack.try_job(id_)) and job["status"] in seen and job,
            90,
        )
        if found["status"] == "uploading":
            break
        ended(stack, job_id)
    assert found["status"] == "uploading", "the machine delivers all of it before it is asked"
    answer, _ = call(stack, "POST", f"/v1/jobs/{job_id}/cancel", b"{}", **{"Content-Type": "application/json"})
    assert json.loads(answer)["status"] in {"cancelling", "cancelled", "completed"}
    job = ended(stack, job_id)
    # The work was over before: what it used is paid, whichever of the two was first.
    assert (job["status"], job["reason"]) in {("cancelled", "cancelled"), ("completed", "completed")}
    assert len(job["attempts"]) == 1
    assert 0 < units(job["settlement"]["paid"]) < units(job["settlement"]["deposit"])
    listed = stack.get(f"/v1/jobs/{job_id}/outputs", wallet=True)["outputs"]
    for file in listed:
        content, _ = call(stack, "GET", f"/v1/jobs/{job_id}/download?path={file['path']}")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
    assert job["status"] == "cancelled" or {file["path"] for file in listed} == {"big.bin", "result.txt"}
