import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.runtime.docker import DockerRuntime, DockerSettings
from node.runtime.fake import FakeEngine, FakeOutput, FakeProgram, FakeRuntime
from node.runtime.firewall import Firewall
from node.runtime.naming import Namespace
from node.runtime.port import LogStream, Runtime
from node.runtime.process import ProcessImage, ProcessRuntime
from tests.node.runtime.stages import Behaviour, Stage

ROOT = Path(__file__).resolve().parents[3]

DockerMaker = Callable[..., DockerRuntime]

SHELL = {
    Behaviour.ENDS: "exit 0",
    Behaviour.FAILS: "exit 7",
    Behaviour.RUNS: "trap 'exit 143' TERM; while :; do sleep 0.1; done",
    Behaviour.STUBBORN: "trap '' TERM; while :; do sleep 0.1; done",
    Behaviour.SPEAKS: "echo one; echo two; echo oops >&2; printf three",
    Behaviour.BURSTS: "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done",
    Behaviour.WIDE: "head -c 40000 /dev/zero | tr '\\0' x; echo",
    Behaviour.CHATS: "trap 'exit 143' TERM; echo hello; while :; do sleep 0.1; done",
    Behaviour.READS: 'cp "$REAVER_INPUT" "$REAVER_OUTPUTS/"',
    Behaviour.REPORTS: "trap 'exit 143' TERM; echo 42 > \"$REAVER_PROGRESS\"; while :; do sleep 0.1; done",
    Behaviour.COUNTS: 'cd "$REAVER_CHECKPOINT" && n=$(cat count) && echo $((n + 1)) > count',
    Behaviour.HOGS: "x=a; while :; do x=$x$x; done",
}
FAKES = {
    Behaviour.ENDS: FakeProgram(),
    Behaviour.FAILS: FakeProgram(exit_code=7),
    Behaviour.RUNS: FakeProgram(runs_for_s=None),
    Behaviour.STUBBORN: FakeProgram(runs_for_s=None, obeys_term=False),
    Behaviour.SPEAKS: FakeProgram(
        output=(
            FakeOutput(b"one\ntwo\n"),
            FakeOutput(b"oops\n", stream=LogStream.STDERR),
            FakeOutput(b"three"),
        )
    ),
    Behaviour.BURSTS: FakeProgram(output=tuple(FakeOutput(f"line {i}\n".encode()) for i in range(2000))),
    Behaviour.WIDE: FakeProgram(output=(FakeOutput(b"x" * 40_000 + b"\n"),)),
    Behaviour.CHATS: FakeProgram(runs_for_s=None, output=(FakeOutput(b"hello\n"),)),
    Behaviour.ABSENT: FakeProgram(exit_code=127),
    Behaviour.WRITES: FakeProgram(files=(("result.txt", b"result\n"),)),
    Behaviour.READS: FakeProgram(copies_input=True),
    Behaviour.REPORTS: FakeProgram(runs_for_s=None, progress="42\n"),
    Behaviour.COUNTS: FakeProgram(counts=True),
    Behaviour.HOGS: FakeProgram(exit_code=137, oom_killed=True),
    Behaviour.FILLS: FakeProgram(exit_code=1, disk_full=True),
}


def play_in_container(image: str) -> Callable[[Behaviour], tuple[str, tuple[str, ...] | None]]:
    scripts = {
        **SHELL,
        Behaviour.WRITES: "echo result > /outputs/result.txt",
        Behaviour.FILLS: "dd if=/dev/zero of=/scratch/all bs=64k",
    }

    def play(behaviour: Behaviour) -> tuple[str, tuple[str, ...] | None]:
        if behaviour is Behaviour.ABSENT:
            return image, ("no-such-program",)
        return image, ("sh", "-c", scripts[behaviour])

    return play


def play_as_process(behaviour: Behaviour) -> tuple[str, tuple[str, ...] | None]:
    if behaviour is Behaviour.ABSENT:
        return "host/shell", ("no-such-program",)
    scripts = {**SHELL, Behaviour.WRITES: 'echo result > "$REAVER_OUTPUTS/result.txt"'}
    return "host/shell", ("/bin/sh", "-c", scripts[behaviour])


def play_as_fake(behaviour: Behaviour) -> tuple[str, tuple[str, ...] | None]:
    return f"fake/{behaviour}", None


@pytest.fixture(scope="session")
def engine_host() -> str:
    """An engine's address. None answers and none can be started: the tests that need one are skipped, out loud."""
    started = subprocess.run([ROOT / "scripts/engine", "start"], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        pytest.skip(f"no container engine: {started.stderr.strip()}")
    return started.stdout.strip().removeprefix("export DOCKER_HOST=")


@pytest.fixture(scope="session")
def images(engine_host: str) -> dict[str, str]:
    """name@digest of each small image, pushed to the registry on loopback."""
    built = subprocess.run([ROOT / "scripts/images"], capture_output=True, text=True, check=True)
    pushed: dict[str, str] = json.loads(built.stdout)
    return pushed


@pytest.fixture(scope="session")
def registry(images: dict[str, str]) -> str:
    return images["busybox"].partition("/")[0]


@contextlib.asynccontextmanager
async def docker_runtimes(host: str, registry: str, folder: Path, test: str) -> AsyncIterator[DockerMaker]:
    """Runtimes on the real engine; whatever they leave behind is swept, rules of the firewall included."""
    name = f"test-{os.getpid()}-{hashlib.sha256(test.encode()).hexdigest()[:12]}"
    made: list[tuple[str, DockerRuntime]] = []

    def make(deployment: str | None = None, **settings: Any) -> DockerRuntime:
        chosen = deployment or name
        base = DockerSettings(chosen, folder / "disks", host=host, private_registries=frozenset({registry}))
        runtime = DockerRuntime(replace(base, **settings))
        made.append((chosen, runtime))
        return runtime

    yield make
    for _, runtime in made:
        await runtime.close()
    for deployment in {deployment for deployment, _ in made}:
        sweeper = make(deployment)
        await sweeper.sweep(frozenset(), older_than_s=0)
        await sweeper.close()
        await Firewall(Namespace(deployment).interfaces).remove()


@pytest.fixture
async def make_docker(
    engine_host: str, registry: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[DockerMaker]:
    async with docker_runtimes(engine_host, registry, tmp_path, request.node.nodeid) as make:
        yield make


@pytest.fixture(params=["fake", "process", pytest.param("docker", marks=pytest.mark.engine)])
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    """Every runtime in turn."""
    if request.param == "fake":
        engine = FakeEngine({f"fake/{name}": program for name, program in FAKES.items()}, folder=tmp_path)

        def again(deployment: str | None) -> Runtime:
            return FakeRuntime(engine, deployment or "test")

        yield Stage(again(None), again, play_as_fake, enforces=True)
    elif request.param == "process":
        made: list[ProcessRuntime] = []

        def again_process(deployment: str | None) -> Runtime:
            runtime = ProcessRuntime(deployment or "test", tmp_path, {"host/shell": ProcessImage(command=("/bin/sh",))})
            made.append(runtime)
            return runtime

        yield Stage(again_process(None), again_process, play_as_process, enforces=False)
        for runtime in made:
            await runtime.sweep(frozenset(), older_than_s=0)
            await runtime.close()
    else:
        image = request.getfixturevalue("images")["busybox"]
        host, registry = request.getfixturevalue("engine_host"), request.getfixturevalue("registry")
        async with docker_runtimes(host, registry, tmp_path, request.node.nodeid) as make:
            yield Stage(make(), make, play_in_container(image), enforces=True)


@pytest.fixture
def has_ip() -> str:
    """The program `ip`; tests that build a network of their own need it."""
    found = shutil.which("ip")
    if found is None:
        pytest.skip("no `ip` on this machine (apt-get install iproute2)")
    return found
