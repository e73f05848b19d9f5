"""What one attempt or job hands on to the next: checkpoints, artifacts of jobs before it, secrets of groups."""

import asyncio
import json

from marketplace.protocol.checkpoints import Entry, EntryKind, closing, header, opening
from marketplace.protocol.vouchers import VoucherState
from marketplace.services import checkpoints as rules
from marketplace.store.groups import Groups
from tests.api import test_groups as groups
from tests.api.test_job_secrets import everything_stored
from tests.api.test_jobs import allowed, node, until
from tests.api.test_transfers import DAY_MS, Delivery, begin, digest, end, run

__all__ = ["allowed", "begin", "node", "run"]
SECRET = "planted-group-secret"


def checkpoint(name="a", data=b"state"):
    return opening() + header(Entry(EntryKind.FILE, name, 0o644, size=len(data))) + data + closing(1)


async def objects(market, prefix):
    return [found.key async for found in market.jobs.checkpoints._storage.list(prefix)]


async def test_a_checkpoint_is_whole_or_the_one_before_stays(run, allowed, live_market, node, live_call):
    job_id, attempt, delivery = await run(checkpoint={"minutes": 5}, retry={"max_attempts": 2, "exit_codes": [75]})
    assert attempt.spec.checkpoint_minutes == 5
    assert (await delivery("GET", "checkpoint"))[0] == 404
    first, second = checkpoint(data=b"first"), checkpoint(data=b"second" * 100_000)
    status, taken, _ = await delivery("PUT", "checkpoint", data=first)
    assert (status, taken) == (200, {"size": len(first), "sha256": digest(first)})
    # cut off, garbage, another's lease, a path that leads out: none replaces it
    for data in (second[:-1], b"garbage", b"", first + b"x", first.replace(b'"path":"a"', b'"path":".."')):
        status, problem, _ = await delivery("PUT", "checkpoint", data=data)
        assert (status, problem["details"][0]["field"]) == (422, "body"), data[:40]
    assert (await delivery("PUT", "checkpoint", lease="other", data=second))[1]["error"] == "lease_lost"
    assert (await delivery("GET", "checkpoint"))[1] == first
    assert len(await objects(live_market, "checkpoints")) == 1, "what was refused left nothing"
    assert (await delivery("PUT", "checkpoint", data=second))[0] == 200
    assert len(await objects(live_market, "checkpoints")) == 1, "nor did what was replaced"
    job = (await allowed("GET", f"/v1/jobs/{job_id}"))[1]
    assert (job["checkpoint"]["minutes"], job["checkpoint"]["attempt"], job["checkpoint"]["bytes"]) == (
        5, 1, len(second),
    )  # fmt: skip
    # the next attempt goes on from it, and the one before can't write any more
    voucher = attempt.voucher(0, state=VoucherState.ENDED, reason=2)
    assert (await attempt.report("exited", reason=2, exit_code=75, voucher=voucher))["type"] == "ack"
    assert (await delivery("PUT", "checkpoint", data=first))[1]["error"] == "lease_lost"
    following = await node.take()
    assert following.request.attempt == 2
    again = Delivery(live_call, node, following, delivery.token)
    async with asyncio.timeout(60):
        while (await again("GET", "checkpoint"))[0] != 200:  # noqa: ASYNC110 - what a probe does
            await asyncio.sleep(0.1)
    assert (await again("GET", "checkpoint"))[1] == second
    # forgotten a week after the end, with its bytes
    await following.report("pulling")
    await following.ready(live_market)
    await end(following)
    await until(allowed, job_id, "completed")
    checkpoints = live_market.jobs.checkpoints
    await checkpoints.clean()
    assert len(await objects(live_market, "checkpoints")) == 1
    checkpoints._clock = Later(checkpoints._clock)
    assert await checkpoints.clean() == 1
    assert await objects(live_market, "checkpoints") == []


class Later:
    def __init__(self, clock, by_ms=rules.RETENTION_MS + DAY_MS):
        self.clock = clock
        self.by_ms = by_ms

    def now(self):
        return self.clock.now() + self.by_ms

    def monotonic_ms(self):
        return self.clock.monotonic_ms()


async def test_an_attempt_that_goes_on_from_a_checkpoint_has_time_to_get_it(run, allowed, live_market, node):
    job_id, attempt, delivery = await run(checkpoint={"minutes": 5}, retry={"max_attempts": 2, "exit_codes": [75]})
    assert (await delivery("PUT", "checkpoint", data=checkpoint()))[0] == 200
    voucher = attempt.voucher(0, state=VoucherState.ENDED, reason=2)
    assert (await attempt.report("exited", reason=2, exit_code=75, voucher=voucher))["type"] == "ack"
    following = await node.take()
    await following.report("pulling")
    scheduler, allocation_id = live_market.jobs.scheduler, following.request.allocation_id
    await until(allowed, job_id, "assigned", "starting")
    real, limits = scheduler._clock, (await allowed("GET", "/v1/constants"))[1]["timing"]
    assert (limits["restore_s"], limits["restore_silence_s"]) == (1200, 120)
    seen = []
    watched = scheduler._checkpoints.begins_with_one

    async def begins_with_one(allocation):
        seen.append(await watched(allocation))
        return seen[-1]

    scheduler._checkpoints.begins_with_one = begins_with_one
    scheduler._clock = Later(real, int(limits["start_limit_s"] * 1000))
    scheduler.wake(allocation_id)
    async with asyncio.timeout(60):
        while not seen:  # noqa: ASYNC110 - the scheduler's own task
            await asyncio.sleep(0.02)
    assert live_market.jobs.live.attempt(allocation_id).live, "its start limit is over, its checkpoint's is not"
    scheduler._clock = Later(real, int((limits["start_limit_s"] + limits["restore_s"]) * 1000))
    scheduler.wake(allocation_id)
    job = await until(allowed, job_id, "failed")
    assert (job["reason"], seen) == ("start_timeout", [True, True])


async def test_a_job_that_is_repeated_goes_on_from_the_checkpoint_of_the_first(
    run, allowed, live_market, node, live_call
):
    job_id, attempt, delivery = await run(checkpoint={"minutes": 5})
    assert (await delivery("PUT", "checkpoint", data=checkpoint()))[0] == 200
    await end(attempt, reason=2, exit_code=3)
    await until(allowed, job_id, "failed")
    (status, again, _), following = await asyncio.gather(
        allowed("POST", f"/v1/jobs/{job_id}/retry", headers={"Idempotency-Key": "again"}), node.take()
    )
    assert status == 201, again
    assert following.spec.checkpoint_minutes == 5
    reading = Delivery(live_call, node, following, delivery.token)
    async with asyncio.timeout(60):
        while (await reading("GET", "checkpoint"))[0] != 200:  # noqa: ASYNC110 - what a probe does
            await asyncio.sleep(0.1)
    assert (await reading("GET", "checkpoint"))[1] == checkpoint()
    # what completed is done anew from its beginning
    await following.ready(live_market)
    assert (await reading("PUT", "checkpoint", data=checkpoint(data=b"later")))[0] == 200
    await end(following)
    await until(allowed, again["id"], "completed")
    (_, third, _), anew = await asyncio.gather(
        allowed("POST", f"/v1/jobs/{again['id']}/retry", headers={"Idempotency-Key": "anew"}), node.take()
    )
    await until(allowed, third["id"], "assigned")
    assert (await Delivery(live_call, node, anew, delivery.token)("GET", "checkpoint"))[0] == 404


async def test_checkpoints_have_their_limits(run, allowed, live_market, monkeypatch):
    _, _, delivery = await run("plain")
    assert (await delivery("PUT", "checkpoint", data=checkpoint()))[0] == 422, "not asked for"
    monkeypatch.setattr(rules, "OVERHEAD_BYTES", -1_999_999_000)  # of the job's 2 GB
    _, _, delivery = await run("limited", checkpoint={"minutes": 1})
    assert (await delivery("PUT", "checkpoint", data=checkpoint(data=b"x" * 500)))[0] == 200
    status, problem, _ = await delivery("PUT", "checkpoint", data=checkpoint(data=b"x" * 2_000))
    assert (status, problem["limit_bytes"]) == (413, 1_000)
    monkeypatch.setattr(rules, "QUOTA_BYTES", 600)
    status, problem, _ = await delivery("PUT", "checkpoint", data=checkpoint(data=b"x" * 700))
    assert (status, problem["quota"]) == (413, "checkpoints")
    assert (await delivery("GET", "checkpoint"))[1] == checkpoint(data=b"x" * 500)


async def test_of_two_checkpoints_that_fit_alone_but_not_together_one_is_kept(run, allowed, live_market, monkeypatch):
    size = len(checkpoint(data=b"x" * 500))
    monkeypatch.setattr(rules, "QUOTA_BYTES", 2 * size - 1)
    deliveries = [(await run(key, checkpoint={"minutes": 1}))[2] for key in ("one", "two")]
    both_under_way = asyncio.Barrier(2)

    async def body():
        data = checkpoint(data=b"x" * 500)
        yield data[:100]
        await both_under_way.wait()  # each has found room for itself by now
        yield data[100:]

    answers = await asyncio.gather(*(delivery("PUT", "checkpoint", data=body()) for delivery in deliveries))
    assert sorted(status for status, _, _ in answers) == [200, 413]
    assert [problem["quota"] for status, problem, _ in answers if status == 413] == ["checkpoints"]
    assert len(await objects(live_market, "checkpoints")) == 1, "what was refused left nothing"
    # the one that was refused is taken once there is room
    monkeypatch.setattr(rules, "QUOTA_BYTES", 2 * size)
    again = [await delivery("PUT", "checkpoint", data=checkpoint(data=b"x" * 500)) for delivery in deliveries]
    assert [status for status, _, _ in again] == [200, 200]


async def test_what_a_group_s_jobs_leave_lies_in_the_inputs_of_what_follows(run, allowed, node, live_market, live_call):
    one, attempt, delivery = await run("one")
    await delivery.put("sub/a.bin", b"aaa")
    await end(attempt)
    await until(allowed, one, "completed")
    status, first, _ = await groups.order(allowed, "first", count=2)
    assert status == 201, first
    members = {}
    for number in range(2):
        attempt = await node.take()
        await attempt.ready(live_market)
        sent = Delivery(live_call, node, attempt, delivery.token)
        assert (await sent.put("part.txt", str(number).encode()))[0] == 200
        members["job_" + attempt.request.allocation_id.removeprefix("alloc_")] = str(number).encode()
        await end(attempt)
    await groups.until(allowed, first["id"], lambda g: g["ended_at"])
    after = [one, first["id"]]
    status, follower, _ = await groups.order(allowed, "follower", count=1, after=after)
    assert status == 201, follower
    attempt = await node.take()
    assert attempt.spec.after == tuple(sorted(after)) or attempt.spec.after == tuple(after)
    reading = Delivery(live_call, node, attempt, delivery.token)
    status, listed, _ = await reading("GET", "artifacts")
    expected = {f"{one}/sub/a.bin": b"aaa"} | {f"{first['id']}/{job}/part.txt": data for job, data in members.items()}
    assert {file["path"]: file["sha256"] for file in listed["outputs"]} == {p: digest(d) for p, d in expected.items()}
    for path, data in expected.items():
        assert (await reading("GET", f"artifacts/{path}"))[1] == data
    assert (await reading("GET", f"artifacts/{one}/none"))[0] == 404
    assert (await reading("GET", "artifacts/job_1111111111111111111111/sub/a.bin"))[0] == 404
    assert (await reading("GET", "artifacts", lease="other"))[1]["error"] == "lease_lost"
    # what was kept for a week and is gone is told before anything is paid
    artifacts = live_market.jobs.groups._jobs._artifacts
    artifacts._clock = Later(artifacts._clock)
    _, late, _ = await groups.order(allowed, "late", count=1, after=after)
    late = await groups.until(allowed, late["id"], lambda g: g["ended_at"])
    assert (late["summary"], late["cost"]) == ({"refused": 1}, "0.000000")
    assert "7 days" in late["jobs"][0]["error"]


async def test_secrets_of_a_group_reach_each_member_sealed_and_nothing_else(allowed, node, live_market, capfd):
    job = groups.JOB | {"secrets": {"TOKEN": SECRET}}
    status, group, _ = await groups.order(allowed, "s", job=job, count=2)
    assert status == 201, group
    written = everything_stored(live_market.settings.database)
    assert [table for table, text in written.items() if SECRET in text] == []
    assert SECRET not in json.dumps(group)
    attempts = [await groups.run_one(node, live_market) for _ in range(2)]
    assert [(a.spec.secrets, a.spec.secret_names) for a in attempts] == [({"TOKEN": SECRET}, ("TOKEN",))] * 2
    done = await groups.until(allowed, group["id"], lambda g: g["ended_at"])
    assert done["summary"] == {"completed": 2}
    kept = await live_market.jobs.store.read(lambda tx: Groups(tx).secrets(group["id"]))
    assert kept is None, "forgotten with the last of them"
    written = everything_stored(live_market.settings.database)
    assert [table for table, text in written.items() if SECRET in text] == []
    assert SECRET not in "".join(capfd.readouterr())
