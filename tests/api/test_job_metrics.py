"""What a job uses: from its node's heartbeats to its renter, thin, and for seven days."""

import asyncio

from marketplace.services import usage as usage_service
from tests.api.test_job_faults import ended, make_node, quick_call, quick_market, renter, started

__all__ = ["make_node", "quick_call", "quick_market", "renter"]


async def beat(node, attempt, **used):
    entry = {**attempt.name, "lease_token": attempt.lease, "state": "running", "used": used}
    answer = await node.ask("heartbeat", {"sequence": 1, "free_slots": 1, "allocations": [entry]})
    assert answer["type"] == "ack", answer


def used(cpu_ms):
    return {"cpu_ms": cpu_ms, "memory_bytes": 7 << 20, "received_bytes": 10, "sent_bytes": 20}


async def test_samples_are_kept_apart_and_shown_with_their_rates(renter, make_node, quick_market, monkeypatch):
    monkeypatch.setattr(usage_service, "CLOSEST_MS", 600_000)
    node = await make_node()
    job_id, attempt = await started(renter, node, quick_market)
    await beat(node, attempt, **used(1_000))
    # too soon after the first, from another node's lease, of another attempt: none is kept
    await beat(node, attempt, **used(1_001))
    monkeypatch.setattr(usage_service, "CLOSEST_MS", 300)
    lease, attempt.lease = attempt.lease, "f" * 32
    await asyncio.sleep(0.5)
    await beat(node, attempt, **used(1_002))
    attempt.lease = lease
    await beat(node, attempt, **used(1_250), gpu_percent=37, gpu_memory_bytes=9 << 30)
    status, answer, _ = await renter("GET", f"/v1/jobs/{job_id}/metrics")
    assert status == 200, answer
    first, second = answer["samples"]
    assert (first["cpu_ms"], first["cpu_milli"], first["memory_bytes"]) == (1_000, None, 7 << 20)
    assert (second["cpu_ms"], second["attempt"], second["sent_bytes"]) == (1_250, 1, 20)
    assert (first["gpu"], second["gpu"]) == (None, {"percent": 37, "memory_bytes": 9 << 30})
    # a quarter of a second of processor in at least half a second
    assert 0 < second["cpu_milli"] <= 500
    assert (await ended(attempt, exit_code=0))["type"] == "ack"
    _, later, _ = await renter("GET", f"/v1/jobs/{job_id}/metrics?from={second['at']}")
    assert [s["at"] for s in later["samples"]] == [second["at"]]
    status, answer, _ = await renter(
        "GET", f"/v1/jobs/{job_id}/metrics?from=2026-02-02T00:00:00Z&to=2026-01-01T00:00:00Z"
    )
    assert (status, answer["details"][0]["field"]) == (422, "from")
    # after seven days they are gone
    now = quick_market.clock.now()
    monkeypatch.setattr(quick_market.jobs.usage._clock, "now", lambda: now + usage_service.RETENTION_MS + 60_000)
    assert await quick_market.jobs.usage.forget_old() == 2
