"""The sandbox on a real engine: what a stranger's program can't do, and what is left behind."""

import asyncio
import base64
import contextlib
import hashlib
import http.client
import http.server
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.runtime.docker import DockerRuntime
from node.runtime.engine import Engine
from node.runtime.errors import (
    CapabilityMissing,
    ContainerVanished,
    EngineUnavailable,
    ImageFault,
    ImageUnavailable,
    PullFailed,
    StartFailed,
)
from node.runtime.firewall import BLOCKED_V4
from node.runtime.naming import Namespace
from node.runtime.port import (
    EXIT_NOT_EXECUTABLE,
    AttemptKey,
    ContainerSpec,
    DiskLimit,
    Image,
    Login,
    LogStream,
    Network,
)
from tests.node.runtime.stages import LIMITS, MIB

pytestmark = pytest.mark.engine
DockerMaker = Callable[..., DockerRuntime]


@pytest.fixture
async def busybox(make_docker: DockerMaker, images: dict[str, str]) -> Image:
    return await make_docker().prepare(images["busybox"], max_bytes=100 * MIB)


async def run(runtime: DockerRuntime, spec: ContainerSpec) -> tuple[int, str]:
    """Exit code and all that was written."""
    await runtime.start(spec)
    outcome = await runtime.wait(spec.key)
    text = b"".join([line.text + b"\n" async for line in runtime.logs(spec.key)])
    return outcome.exit_code, text.decode()


def shell(image: Image, script: str, *, attempt: int = 1, network: Network = Network.NONE) -> ContainerSpec:
    return ContainerSpec(
        AttemptKey("alloc_sandbox", attempt), image, LIMITS, command=("sh", "-c", script), network=network
    )


async def test_shared_memory_and_limits_are_what_was_asked_for(make_docker: DockerMaker, busybox: Image) -> None:
    """Without a word: half the memory, and 16,384 open files."""
    script = "df -k /dev/shm | tail -1 | awk '{print $2}'; ulimit -n; ulimit -s; ulimit -l"
    asked = shell(busybox, script)
    asked = replace(asked, shm_bytes=8 * MIB, ulimits=(("memlock", 32 << 10), ("nofile", 512), ("stack", 1 << 20)))
    assert await run(make_docker(), asked) == (0, "8192\n512\n1024\n32\n")
    code, text = await run(make_docker(), shell(busybox, script, attempt=2))
    assert (code, text.splitlines()[:2]) == (0, [str(LIMITS.memory_bytes // 2048), "16384"])


async def test_a_program_has_no_capability_and_can_gain_none(make_docker: DockerMaker, busybox: Image) -> None:
    code, text = await run(make_docker(), shell(busybox, "cat /proc/self/status"))
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert code == 0
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


async def test_processes_are_counted_and_limited(make_docker: DockerMaker, busybox: Image) -> None:
    script = "i=0; while [ $i -lt 200 ]; do sleep 30 & i=$((i+1)); done; echo all of them"
    _, text = await run(make_docker(), shell(busybox, script))
    assert "all of them" not in text


async def test_the_whole_specification_reaches_the_program(make_docker: DockerMaker, busybox: Image) -> None:
    spec = ContainerSpec(
        AttemptKey("alloc_spec", 1),
        busybox,
        LIMITS,
        entrypoint=("sh", "-c", 'echo "$GREETING $0 $1"; pwd; cat /sys/class/net/*/address | wc -l'),
        command=("zero", "one two"),
        env=(("GREETING", "good=day"),),
        workdir="/home",
    )
    code, text = await run(make_docker(), spec)
    assert (code, text.splitlines()) == (0, ["good=day zero one two", "/home", "1"])


async def test_an_empty_command_doesnt_fall_back_to_the_images(make_docker: DockerMaker, busybox: Image) -> None:
    with pytest.raises(ImageUnavailable, match="which command"):
        await make_docker().start(ContainerSpec(AttemptKey("alloc_spec", 1), busybox, LIMITS, command=()))


async def test_memory_processors_and_swap_are_what_was_asked_for(
    make_docker: DockerMaker, busybox: Image, engine_host: str
) -> None:
    runtime = make_docker()
    spec = shell(busybox, "sleep 30")
    container = await runtime.start(spec)
    engine = Engine(engine_host)
    config = (await engine.get(f"containers/{container.container_id}/json"))["HostConfig"]
    await engine.close()
    assert (config["Memory"], config["MemorySwap"]) == (LIMITS.memory_bytes, LIMITS.memory_bytes)
    assert (config["NanoCpus"], config["PidsLimit"]) == (500_000_000, 64)
    assert config["PortBindings"] in (None, {})
    assert config["Binds"] in (None, [])


async def test_an_image_with_its_own_user_can_write_where_it_should(
    make_docker: DockerMaker, images: dict[str, str]
) -> None:
    runtime = make_docker()
    image = await runtime.prepare(images["busybox-user"], max_bytes=100 * MIB)
    code, text = await run(runtime, shell(image, "id -u; touch /outputs/a /scratch/b /tmp/c"))
    assert (code, text) == (0, "1000\n")


async def test_a_file_that_is_no_program_ends_with_126(make_docker: DockerMaker, busybox: Image) -> None:
    runtime = make_docker()
    spec = ContainerSpec(AttemptKey("alloc_x", 1), busybox, LIMITS, command=("/bin/not-executable",))
    await runtime.start(spec)
    assert (await runtime.wait(spec.key)).exit_code == EXIT_NOT_EXECUTABLE


async def test_writing_too_much_outside_the_disk_ends_the_container(make_docker: DockerMaker, busybox: Image) -> None:
    runtime = make_docker(watch_s=0.2)
    assert (await runtime.capabilities()).root_limit is DiskLimit.WATCHED
    spec = shell(busybox, "dd if=/dev/zero of=/home/much bs=1M count=40; sleep 60")
    await runtime.start(spec)
    outcome = await runtime.wait(spec.key)
    assert (outcome.exit_code, outcome.disk_full, outcome.oom_killed) == (137, True, False)


async def test_nothing_is_left_behind(
    make_docker: DockerMaker, busybox: Image, engine_host: str, tmp_path: Path
) -> None:
    runtime = make_docker()
    spec = shell(busybox, "echo secret > /scratch/file", network=Network.EGRESS)
    container = await runtime.start(spec)
    await runtime.wait(spec.key)
    assert container.scratch is not None
    mount = container.scratch.parent
    assert mount.is_mount()
    await runtime.remove(spec.key)
    assert not mount.exists()
    assert [path for path in (tmp_path / "disks").rglob("*") if path.is_file()] == []
    engine = Engine(engine_host)
    name = runtime._names.name(spec.key)
    assert name not in {network["Name"] for network in await engine.get("networks")}
    await engine.close()
    assert runtime._names.interface(spec.key) not in {name for _, name in socket.if_nameindex()}


async def test_a_sweep_finds_networks_and_disks_without_a_container(
    make_docker: DockerMaker, busybox: Image, engine_host: str
) -> None:
    runtime = make_docker()
    spec = shell(busybox, "sleep 30", network=Network.EGRESS)
    container = await runtime.start(spec)
    engine = Engine(engine_host)
    await engine.call("DELETE", f"containers/{container.container_id}", params={"force": "1"})
    await engine.close()
    assert (await runtime.sweep(frozenset({spec.key}), older_than_s=0)).networks == ()
    assert (await runtime.sweep(frozenset(), older_than_s=3600)).networks == ()
    swept = await runtime.sweep(frozenset(), older_than_s=0)
    name = runtime._names.name(spec.key)
    assert (swept.containers, swept.networks, swept.scratch) == ((), (name,), (name,))


async def test_a_container_of_our_name_without_our_label_is_left_alone(
    make_docker: DockerMaker, busybox: Image, engine_host: str
) -> None:
    runtime = make_docker()
    spec = shell(busybox, "exit 0")
    name = runtime._names.name(spec.key)
    engine = Engine(engine_host)
    body = {"Image": busybox.pinned, "Cmd": ["sleep", "60"]}
    await engine.call("POST", "containers/create", params={"name": name}, body=body)
    try:
        with pytest.raises(StartFailed, match="isn't ours"):
            await runtime.start(spec)
        await runtime.remove(spec.key)
        await runtime.sweep(frozenset(), older_than_s=0)
        assert (await engine.get(f"containers/{name}/json"))["Name"] == f"/{name}"
    finally:
        await engine.call("DELETE", f"containers/{name}", params={"force": "1"})
        await engine.close()


async def test_a_container_that_vanishes_is_noticed(make_docker: DockerMaker, busybox: Image, engine_host: str) -> None:
    runtime = make_docker()
    spec = shell(busybox, "sleep 60")
    container = await runtime.start(spec)
    waiting = asyncio.ensure_future(runtime.wait(spec.key))
    engine = Engine(engine_host)
    await engine.call("DELETE", f"containers/{container.container_id}", params={"force": "1"})
    await engine.close()
    with contextlib.suppress(ContainerVanished):  # it may have seen the kill first
        assert (await asyncio.wait_for(waiting, 30)).exit_code == 137
    with pytest.raises(ContainerVanished):
        await runtime.wait(spec.key)


async def test_an_interrupted_start_is_taken_up(make_docker: DockerMaker, busybox: Image) -> None:
    """As after a crash between creating and starting, with the disk unmounted by a reboot."""
    runtime = make_docker()
    spec = shell(busybox, "echo begun; touch /outputs/x")
    await runtime._create(spec, await runtime._examined())
    created = await runtime.find(spec.key)
    assert created is not None
    assert created.scratch is not None
    unmount = await asyncio.create_subprocess_exec("umount", created.scratch.parent)
    assert await unmount.wait() == 0
    again = make_docker()
    container = await again.start(spec)
    assert container.container_id == created.container_id
    assert (await again.wait(spec.key)).exit_code == 0
    assert (created.scratch.parent / "outputs/x").exists()


async def test_more_disk_than_there_is_is_refused_beforehand(make_docker: DockerMaker, busybox: Image) -> None:
    runtime = make_docker()
    spec = replace(shell(busybox, "exit 0"), limits=replace(LIMITS, disk_bytes=1 << 60))
    with pytest.raises(CapabilityMissing):
        await runtime.start(spec)
    assert await runtime.list() == ()


async def test_an_engine_that_is_away_is_said_so(make_docker: DockerMaker, tmp_path: Path) -> None:
    runtime = make_docker(host=f"unix://{tmp_path}/nothing.sock")
    for question in (runtime.list(), runtime.capabilities(), runtime.find(AttemptKey("a", 1))):
        with pytest.raises(EngineUnavailable):
            await question
    await runtime.close()


# Images.


async def test_a_tag_is_resolved_before_it_is_pulled(
    make_docker: DockerMaker, registry: str, images: dict[str, str]
) -> None:
    image = await make_docker().prepare(f"{registry}/reaver/busybox:1", max_bytes=100 * MIB)
    assert image.pinned == images["busybox"]


async def test_an_image_beyond_the_limit_is_the_renters_side(make_docker: DockerMaker, images: dict[str, str]) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        await make_docker().prepare(images["busybox"], max_bytes=1000)
    assert caught.value.fault is ImageFault.TOO_LARGE


async def test_an_image_for_another_processor_is_the_renters_side(
    make_docker: DockerMaker, images: dict[str, str]
) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        await make_docker().prepare(images["busybox-foreign"], max_bytes=100 * MIB)
    assert caught.value.fault is ImageFault.WRONG_PLATFORM


async def test_an_unreachable_registry_is_the_nodes_side(make_docker: DockerMaker) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(PullFailed):
            await make_docker(private_registries=frozenset({address})).prepare(f"{address}/x:1", max_bytes=MIB)


async def test_a_registry_on_the_operators_network_is_refused(make_docker: DockerMaker, registry: str) -> None:
    runtime = make_docker(private_registries=frozenset())
    for address in (registry, "169.254.169.254", "10.0.0.1:5000", "localhost:5000"):
        with pytest.raises(ImageUnavailable) as caught:
            await runtime.prepare(f"{address}/reaver/busybox:1", max_bytes=100 * MIB)
        assert caught.value.fault is ImageFault.DENIED


class _AsksForLogin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="private"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Quiet."""


@pytest.fixture
def locked_registry() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _AsksForLogin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_registry_that_wants_a_login_is_the_renters_side(
    make_docker: DockerMaker, locked_registry: str
) -> None:
    runtime = make_docker(private_registries=frozenset({locked_registry}))
    with pytest.raises(ImageUnavailable) as caught:
        await runtime.prepare(f"{locked_registry}/private/image:1", max_bytes=MIB)
    assert caught.value.fault is ImageFault.DENIED


@pytest.fixture
def private_registry(registry: str) -> Iterator[str]:
    """The registry on loopback behind a door that lets `robot` in."""

    class Door(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(b"robot:planted-password").decode()
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            accept = {"Accept": ", ".join(self.headers.get_all("Accept") or ["*/*"])}
            link = http.client.HTTPConnection(registry)
            link.request(self.command, self.path, headers=accept)
            answer = link.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
            link.close()

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_private_image_is_had_with_its_login_and_stays_private(
    make_docker: DockerMaker, private_registry: str
) -> None:
    runtime = make_docker(private_registries=frozenset({private_registry}))
    reference = f"{private_registry}/reaver/busybox:1"
    for login in (None, Login("robot", "wrong"), Login("robot", "planted-password", "elsewhere.example")):
        with pytest.raises(ImageUnavailable) as caught:
            await runtime.prepare(reference, max_bytes=100 * MIB, login=login)
        assert caught.value.fault is ImageFault.DENIED
        assert "planted-password" not in str(caught.value)
    image = await runtime.prepare(reference, max_bytes=100 * MIB, login=Login("robot", "planted-password"))
    # It is on the machine now. Whoever knows its digest needs a login all the same, also after a restart.
    fresh = make_docker(private_registries=frozenset({private_registry}))
    with pytest.raises(ImageUnavailable) as caught:
        await fresh.prepare(image.pinned, max_bytes=100 * MIB)
    assert caught.value.fault is ImageFault.DENIED
    again = await fresh.prepare(
        reference, digest=image.digest, max_bytes=100 * MIB, login=Login("robot", "planted-password", private_registry)
    )
    assert again.digest == image.digest


# Network.


@dataclass(frozen=True)
class Neighbour:
    """A machine beyond this one, in a network namespace of its own. public, private: its addresses."""

    public: str
    private: str
    port: int


@pytest.fixture
def neighbour(has_ip: str, request: pytest.FixtureRequest) -> Iterator[Neighbour]:
    """198.51.100.0/24 is for examples and stands for the internet; 10.x stands for the operator's own network."""
    first = int(hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:4], 16)
    used = subprocess.run([has_ip, "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    # not one that a killed run has left: the kernel would ask there
    number = next(n for n in ((first + more) % 60 * 4 for more in range(60)) if f" 198.51.100.{n + 1}/" not in used)
    worker = os.getpid() % 200 + 20
    space = f"reaver-test-{os.getpid()}"
    link = f"rt{os.getpid()}"
    public, private = f"198.51.100.{number + 2}", f"10.{worker}.{number}.2"

    def ip(*words: str) -> None:
        subprocess.run([has_ip, *words], check=True)

    ip("netns", "add", space)
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", space)
        ip("addr", "add", f"198.51.100.{number + 1}/30", "dev", link)
        ip("addr", "add", f"10.{worker}.{number}.1/30", "dev", link)
        ip("link", "set", link, "up")
        for words in (
            ("addr", "add", f"{public}/30", "dev", "far"),
            ("addr", "add", f"{private}/30", "dev", "far"),
            ("link", "set", "far", "up"),
            ("route", "add", "default", "via", f"198.51.100.{number + 1}"),
        ):
            ip("-n", space, *words)
        server = subprocess.Popen(
            [has_ip, "netns", "exec", space, "/bin/busybox", "nc", "-ll", "-p", "8080", "-e", "/bin/echo", "reached"],
        )
        try:
            deadline = time.monotonic() + 60
            while b"reached" not in _answer_of(public, 8080):
                assert time.monotonic() < deadline, "the neighbour doesn't listen"
            yield Neighbour(public, private, 8080)
        finally:
            server.kill()
            server.wait()
    finally:
        ip("netns", "delete", space)


def _answer_of(host: str, port: int) -> bytes:
    """From this machine, by another program: the tests' own sockets are for loopback only."""
    call = ["/bin/busybox", "nc", "-w", "1", host, str(port)]
    return subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout


@pytest.fixture
def host_port() -> Iterator[int]:
    """A service of the operator on all addresses of this machine, that says 'reached'."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    link, _ = server.accept()
                except TimeoutError:
                    continue
                with link:
                    link.sendall(b"reached\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


def knock(*doors: tuple[str, int]) -> str:
    """Prints each address that answers within three tries; $gateway is the host's end of the container's own bridge."""
    lines = ["gateway=$(ip route | awk '/default/ {print $3}')"]
    for host, port in doors:
        answer = f"$(nc -w 1 {host} {port} </dev/null 2>/dev/null)"
        lines.append(f'for try in 1 2 3; do [ "{answer}" = reached ] && echo "{host}" && break; done')
    return "; ".join([*lines, "true"])


async def test_egress_reaches_the_internet_and_nothing_of_the_operators(
    make_docker: DockerMaker, busybox: Image, neighbour: Neighbour, host_port: int
) -> None:
    host_public = neighbour.public.rpartition(".")[0] + "." + str(int(neighbour.public.rpartition(".")[2]) - 1)
    doors = (
        (neighbour.public, neighbour.port),
        (neighbour.private, neighbour.port),
        ("$gateway", host_port),
        (host_public, host_port),
    )
    code, text = await run(make_docker(), shell(busybox, knock(*doors), network=Network.EGRESS))
    assert (code, text.split()) == (0, [neighbour.public])


async def test_the_same_doors_are_open_without_our_rules(
    busybox: Image, engine_host: str, neighbour: Neighbour, host_port: int
) -> None:
    """The control of the test above: what it finds closed is closed by us."""
    engine = Engine(engine_host)
    script = knock((neighbour.public, neighbour.port), (neighbour.private, neighbour.port), ("$gateway", host_port))
    made = await engine.call(
        "POST", "containers/create", body={"Image": busybox.pinned, "Cmd": ["sh", "-c", script], "Tty": True}
    )
    try:
        await engine.call("POST", f"containers/{made['Id']}/start")
        await engine.call("POST", f"containers/{made['Id']}/wait", timeout_s=60)
        async with engine.stream("GET", f"containers/{made['Id']}/logs", params={"stdout": "1"}) as answer:
            text = (await answer.read()).decode()
    finally:
        await engine.call("DELETE", f"containers/{made['Id']}", params={"force": "1"})
        await engine.close()
    assert len(text.split()) == 3


async def test_containers_cant_reach_each_other(make_docker: DockerMaker, busybox: Image) -> None:
    runtime = make_docker()
    script = (
        "nc -ll -p 8080 -e /bin/echo $(hostname -i) & "
        "until nc -w 1 $(hostname -i) 8080 </dev/null 2>/dev/null; do :; done; wait"
    )
    listener = shell(busybox, script, network=Network.EGRESS)
    await runtime.start(listener)
    address = (await anext(aiter(runtime.logs(listener.key)))).text.decode()  # said by the listener itself
    script = f"nc -w 2 {address} 8080 </dev/null 2>/dev/null || echo closed"
    caller = shell(busybox, script, attempt=2, network=Network.EGRESS)
    assert await run(runtime, caller) == (0, "closed\n")


async def test_the_rules_are_set_again_when_somebody_took_them_away(
    make_docker: DockerMaker, busybox: Image, host_port: int
) -> None:
    runtime = make_docker()
    await runtime.capabilities()
    await runtime._firewall.remove()
    code, text = await run(runtime, shell(busybox, knock(("$gateway", host_port)), network=Network.EGRESS))
    assert (code, text) == (0, "")


async def test_without_a_firewall_there_is_no_network(
    make_docker: DockerMaker, busybox: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for program in ("mkfs.ext4", "mount", "umount"):
        found = next(Path(place) / program for place in ("/usr/sbin", "/usr/bin") if (Path(place) / program).exists())
        (tools / program).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    runtime = make_docker()
    offered = await runtime.capabilities()
    assert offered.networks == {Network.NONE}
    assert any("iptables" in note for note in offered.notes)
    with pytest.raises(CapabilityMissing):
        await runtime.start(shell(busybox, "exit 0", network=Network.EGRESS))
    assert await run(runtime, shell(busybox, "echo fine")) == (0, "fine\n")
    monkeypatch.undo()


async def test_where_no_disk_can_be_mounted_a_small_one_is_made_of_memory(
    make_docker: DockerMaker, busybox: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    runtime = make_docker()
    offered = await runtime.capabilities()
    assert offered.max_disk_bytes == 256 * MIB
    assert any("memory" in note for note in offered.notes)
    spec = shell(busybox, "dd if=/dev/zero of=/scratch/all bs=64k 2>/dev/null; stat -c %s /scratch/all")
    container = await runtime.start(spec)
    assert (container.outputs, container.scratch) == (None, None)
    await runtime.wait(spec.key)
    lines = [line async for line in runtime.logs(spec.key)]
    assert [line.stream for line in lines] == [LogStream.STDOUT]
    assert 0 < int(lines[0].text) <= LIMITS.disk_bytes


def test_names_of_bridges_fit_the_kernel() -> None:
    names = Namespace("a deployment")
    assert len(names.interface(AttemptKey("a" * 64, 99))) <= 15
    assert names.interface(AttemptKey("a", 1)).startswith(names.interfaces)
    assert len(BLOCKED_V4) == len(set(BLOCKED_V4))
