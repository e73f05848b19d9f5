"""Webhooks of a market that is killed while a real job runs: every event arrives, signed, whatever was running."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook as Verifier

from scripts.local_stack import Stack
from tests.e2e.test_jobs import ended, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack-faults"),
    pytest.mark.timeout(240, func_only=True),
]
WORK = ("sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 1; done")


@pytest.fixture
def local(stack: Stack):
    """The market may deliver to this machine while the test runs."""
    before = stack.config.read_text()
    stack.config.write_text(before + "\n[outgoing]\nloopback = true\n")
    restart(stack)
    yield stack
    stack.config.write_text(before)
    restart(stack)


def restart(stack: Stack) -> None:
    stack.market.stop()
    stack.start_market()
    for node in stack.nodes.values():
        if not node.process.alive:
            stack.start_node(node.name, wait=False)
        stack.wait_until(f"{node.name} to take work", lambda n=node: stack.node_is_available(n.id))


@pytest.fixture
def receiver():
    """A server on loopback that refuses the first request and takes the others."""
    got, refused, one_by_one = [], [], threading.Lock()

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with one_by_one:
                first = not refused
                (refused if first else got).append((dict(self.headers), body))
            self.send_response(503 if first else 204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got, refused
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_event_of_a_job_arrives_though_the_market_is_killed(local, receiver, image_names):
    url, got, refused = receiver
    webhook = local.post("/v1/webhooks", {"url": url, "events": ["job.*", "escrow.*"]})
    job_id = run(local, image_names["busybox"], *WORK)
    local.wait_job(job_id, ["running"])
    local.market.kill()
    local.start_market()
    job = ended(local, job_id)
    assert job["status"] == "completed"

    def listed():
        return local.get(f"/v1/jobs/{job_id}/events", wallet=True)["events"]

    def arrived():
        found = {headers["webhook-id"] for headers, _ in got}
        events = listed()
        last = {"job.completed", "escrow.closed"} <= {event["type"] for event in events}
        return last and {event["id"] for event in events} <= found

    local.wait_until("every event to arrive", arrived, 90)
    assert len(refused) == 1
    events = {event["id"]: event for event in listed()}
    kinds = [event["type"] for event in events.values()]
    assert kinds.count("job.running") == kinds.count("job.completed") == kinds.count("escrow.closed") == 1
    for headers, body in got:
        Verifier(webhook["secret"]).verify(body, headers)
        told = json.loads(body)
        if told["id"] in events:
            assert told == events[told["id"]]
    # what was refused came again, under its own id
    assert refused[0][0]["webhook-id"] in {headers["webhook-id"] for headers, _ in got}
