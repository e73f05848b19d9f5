"""The real daemon on a real container engine."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import CommandType
from node.runtime.docker import DockerRuntime, DockerSettings
from node.runtime.firewall import Firewall
from node.runtime.naming import Namespace
from node.settings import RuntimeKind
from tests.node.daemon_process import Daemon, daemon_on
from tests.node.runtime.conftest import engine_host, images, registry
from tests.node.scripted_market import reason, spec

__all__ = ["engine_host", "images", "registry"]  # fixtures of the runtime's own tests

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("engine")]


@dataclass
class OnEngine:
    daemon: Daemon
    runtime: DockerRuntime
    image: str

    async def until_gone(self) -> None:
        """Until journal, containers and disks are empty."""
        await self.daemon.until_clean()
        assert await self.runtime.list() == ()
        assert not list((self.daemon.folder / "data" / "disks").rglob("*.img"))


@pytest.fixture
async def node(
    engine_host: str, images: dict[str, str], registry: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[OnEngine]:
    deployment = f"t{os.getpid()}-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]}"
    runtime = DockerRuntime(DockerSettings(deployment, tmp_path / "data" / "disks", host=engine_host))
    options: dict[str, str | list[str]] = {
        "deployment": deployment,
        "engine": engine_host,
        "private_registries": [registry],
    }
    async with daemon_on(tmp_path, RuntimeKind.DOCKER, options) as daemon:
        yield OnEngine(daemon, runtime, images["busybox"])
        await runtime.sweep(frozenset(), older_than_s=0)
        await runtime.close()
        await Firewall(Namespace(deployment).interfaces).remove()


async def test_a_container_job_runs_is_metered_and_leaves_nothing(node: OnEngine) -> None:
    market = node.daemon.market
    await node.daemon.start()
    job = spec(
        node.image, command=("sh", "-c", "echo $WORD; sleep 3; echo done"), env={"WORD": "hello"}, network="none"
    )
    seen = await market.offer(job)
    await market.until(lambda: seen.final, timeout_s=60)
    await node.until_gone()
    assert reason(seen) is Reason.COMPLETED
    assert seen.text == ["hello", "done"]
    assert seen.final is not None
    # an engine writes a start down once the process runs already, and an end once it has heard of it: seconds, at worst
    assert 1_000 <= seen.final.billed_ms <= 10_000
    assert seen.exited is not None
    assert seen.exited.image_digest == node.image.rpartition("@")[2]


async def test_a_killed_daemon_adopts_its_container(node: OnEngine) -> None:
    market = node.daemon.market
    first = await node.daemon.start()
    script = "echo one; until [ -e /scratch/go ]; do sleep 0.1; done; echo two"
    job = spec(node.image, command=("sh", "-c", script), network="none")
    seen = await market.offer(job)
    await market.until(lambda: seen.countersigned, timeout_s=60)
    (before,) = await node.runtime.list()
    await node.daemon.kill(first)
    await node.daemon.start()
    shown, count = seen.countersigned[-1], len(seen.countersigned)
    await market.until(lambda: len(seen.countersigned) > count, timeout_s=60)
    (adopted,) = await node.runtime.list()
    assert (adopted.container_id, adopted.started_at) == (before.container_id, before.started_at)
    assert before.scratch is not None
    (before.scratch / "go").touch()
    await market.until(lambda: seen.final, timeout_s=60)
    await node.until_gone()
    assert seen.text == ["one", "two"]
    assert seen.final is not None
    assert before.started_at is not None
    assert (
        shown.billed_ms < seen.final.billed_ms <= (datetime.now(UTC) - before.started_at) // timedelta(milliseconds=1)
    )


async def test_a_missing_command_and_a_cancelled_job_end_with_their_reasons(node: OnEngine) -> None:
    market = node.daemon.market
    await node.daemon.start()
    missing = await market.offer(spec(node.image, command=("no-such-program",), network="none"))
    await market.until(lambda: missing.final, timeout_s=60)
    assert reason(missing) is Reason.APP_ERROR
    assert missing.exited is not None
    assert missing.exited.exit_code == 127
    assert missing.final is not None
    assert missing.final.billed_ms < 5_000, "what its init program took to say so, and the engine to hear it"
    await node.daemon.until_clean()
    endless = await market.offer(spec(node.image, command=("sleep", "600"), network="none"), allocation="alloc_2")
    await market.until(lambda: endless.countersigned, timeout_s=60)
    await market.command(CommandType.STOP, endless, reason=Reason.CANCELLED.value, grace_ms=200)
    await market.until(lambda: endless.final, timeout_s=60)
    assert reason(endless) is Reason.CANCELLED
    await node.until_gone()
