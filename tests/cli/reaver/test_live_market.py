"""Commands against a real market in this process, on a local chain: what is typed is what happens."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from click.testing import Result
from solders.keypair import Keypair
from structlog.testing import capture_logs

from marketplace.app import Market
from marketplace.cli.reaver.exits import Exit
from marketplace.settings import Settings
from scripts.processes import free_ports
from tests.api.conftest import settings_in
from tests.api.serving import ready
from tests.chain.market import Running, localnet
from tests.cli.reaver.conftest import Reaver

# Each test has a market of its own and starts many commands; what a test waits for has a shorter limit.
pytestmark = pytest.mark.timeout(400)
Type = Callable[..., Awaitable[Result]]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with localnet(tmp_path_factory.mktemp("chain")) as running:
        yield running


class Way:
    """The only way to the market: counts what goes there, and lets no more through than it is told."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.passed = 0
        self.limit: int | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """Every connection breaks; new ones may come."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers += [writer, outer]
        back = asyncio.create_task(self._answer(inner, writer))
        self._tasks.add(back)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while piece := await reader.read(1 << 16):
                self.passed += len(piece)
                while self.limit is not None and self.passed > self.limit and not writer.is_closing():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                outer.write(piece)
                await outer.drain()
        outer.close()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                writer.write(piece)
                await writer.drain()
        writer.close()


@pytest.fixture
async def way() -> AsyncIterator[Way]:
    # Not a port of the kernel's choice: until the market listens, some connection of this machine could be given it.
    (free,) = free_ports(1, in_a_row=1)
    made = Way(free)
    yield made
    made.close()


@pytest.fixture
async def environment(tmp_path: Path, chain: Running, way: Way) -> AsyncIterator[dict[str, str]]:
    port = way.target
    base = f"http://127.0.0.1:{await way.open()}"
    found = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    wallet = Keypair()
    sections = {
        "api": {"port": port, "base_url": base},
        "market": found.market.model_dump() | {"admins": (str(wallet.pubkey()),)},
    }
    settings = Settings.model_validate(found.model_dump() | sections)
    market = Market.build(settings)
    await market.start()
    await ready(market)
    await asyncio.to_thread(chain.fund, wallet.pubkey())
    keypair = tmp_path / "id.json"
    keypair.write_text(json.dumps(list(bytes(wallet))))
    # Commands in this process have their output caught with whatever else is printed meanwhile.
    with capture_logs():
        yield {"REAVER_KEYPAIR": str(keypair), "REAVER_STATE_DIR": str(tmp_path / "state"), "REAVER_API": base}
    await market.stop()


@pytest.fixture
def reaver(environment: dict[str, str]) -> Type:
    run = Reaver(environment)
    return lambda *arguments: asyncio.to_thread(run, *arguments)


async def test_an_upload_that_was_killed_goes_on_with_the_parts_that_are_missing(
    reaver: Type, environment: dict[str, str], way: Way, tmp_path: Path
) -> None:
    file, part = tmp_path / "large.bin", 16 << 20
    with file.open("wb") as stream:
        stream.write(os.urandom(part * 5 // 2))
    way.limit = part * 3 // 2
    words = [str(Path(sys.executable).with_name("reaver")), "files", "upload", str(file)]
    killed = await asyncio.create_subprocess_exec(*words, env={**os.environ, **environment})
    async with asyncio.timeout(120):
        while way.passed <= way.limit:  # noqa: ASYNC110 - what was sent is what is waited for
            await asyncio.sleep(0.02)
    killed.kill()
    await killed.wait()
    # What the dead had handed to its socket would still arrive, up to the rest of the part.
    way.cut()
    way.limit, before = None, way.passed
    id_ = (await done(reaver, "files", "upload", str(file))).strip()
    assert part * 3 // 2 <= way.passed - before < part * 2
    back = tmp_path / "back"
    await done(reaver, "files", "download", id_, "-o", str(back))
    assert back.read_bytes() == file.read_bytes()
    # That one is done: the same command once more is another upload.
    before = way.passed
    assert (await done(reaver, "files", "upload", str(file))).strip() != id_
    assert way.passed - before > part * 2


async def test_events_are_followed_across_a_broken_connection(
    reaver: Type, environment: dict[str, str], way: Way
) -> None:
    await done(reaver, "vault", "deposit", "1")  # before: none of the follower's business
    words = [str(Path(sys.executable).with_name("reaver")), "events", "--follow", "--json", "--types", "vault.*"]
    pipe = asyncio.subprocess.PIPE
    follower = await asyncio.create_subprocess_exec(*words, env={**os.environ, **environment}, stdout=pipe, stderr=pipe)
    assert follower.stdout is not None
    # It is there when the market counts its stream.
    metrics = f"http://127.0.0.1:{way.target}/metrics"
    async with asyncio.timeout(120), aiohttp.ClientSession() as session:
        while "reaver_http_streams 1.0" not in await (await session.get(metrics)).text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    told = []
    for amount in ("2", "3", "4"):
        await done(reaver, "vault", "deposit", amount)
        if amount == "2":
            async with asyncio.timeout(120):
                told.append(json.loads(await follower.stdout.readline()))
        way.cut()  # after the first was told, and again before the next are
    async with asyncio.timeout(120):
        told += [json.loads(await follower.stdout.readline()) for _ in range(2)]
    assert [event["data"]["amount"] for event in told] == ["2.000000", "3.000000", "4.000000"]
    follower.send_signal(signal.SIGINT)
    _, err = await follower.communicate()
    assert (follower.returncode, err.decode()) == (0, f"go on with --after {told[-1]['cursor']}\n")
    known = json.loads(await done(reaver, "events", "--types", "vault.*", "--json"))
    assert [event["cursor"] for event in known["events"]][1:] == [event["cursor"] for event in told]
    assert "vault.deposited" in await done(reaver, "events", "--after", told[1]["cursor"])
    assert (await reaver("events", "--types", "volt.*")).exit_code == Exit.REFUSED
    assert (await reaver("events", "--follow", "--limit", "3")).exit_code == Exit.USAGE
    # A job's own end by themselves.
    run = ("run", "--image", "alpine", "--gpu", "cpu-small", "--max-price-per-hour", "0.6", "--json")
    job = json.loads(await done(reaver, *run))["id"]
    await done(reaver, "jobs", "cancel", job)
    followed = await reaver("jobs", "events", job, "--follow")
    assert (followed.exit_code, "job.cancelled" in followed.stdout) == (0, True), followed.stderr
    assert "the job is cancelled: cancelled" in followed.stderr


async def test_a_registrys_login_is_kept(reaver: Type, environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-secret\n")
    id_ = (await done(reaver, "registries", "create", "hub", "-u", "me", "--password-file", str(file))).strip()
    assert id_.startswith("reg_")
    listed = await done(reaver, "registries")
    assert ("hub" in listed, "me" in listed, "a-secret" in listed) == (True, True, False)
    assert await done(reaver, "registries", "delete", id_) == f"Deleted {id_}\n"
    assert "no stored logins" in (await reaver("registries")).stderr
    assert (await reaver("registries", "create", "hub", "-u", "me")).exit_code == Exit.USAGE
    assert (await reaver("registries", "delete", id_)).exit_code == Exit.REFUSED


async def test_what_nobody_works_for_is_taken_back_by_the_wallets_own_signature(reaver: Type) -> None:
    await done(reaver, "vault", "deposit", "5")
    run = ("run", "--image", "alpine", "--gpu", "cpu-small", "--max-price-per-hour", "0.6", "--json")
    job = json.loads(await done(reaver, *run))
    found = json.loads(await done(reaver, "escrows", "--json"))["escrows"]
    assert [(escrow["address"], escrow["node"]) for escrow in found] == [(job["escrow"], None)]
    assert job["escrow"] in await done(reaver, "escrows")
    assert "no node took it yet" in (await reaver("jobs", "placement", job["id"])).stderr
    said = await done(reaver, "escrows", "cancel", job["escrow"])
    assert said.startswith(f"Confirmed: closes escrow {job['escrow']}")
    assert "nothing is locked" in (await reaver("escrows")).stderr
    vault = json.loads(await done(reaver, "vault", "balance", "--json"))
    assert (vault["available"], vault["locked"]) == ("5.000000", "0.000000")
    assert (await reaver("escrows", "cancel", job["escrow"])).exit_code == Exit.REFUSED


async def done(reaver: Type, *arguments: str) -> str:
    result = await reaver(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


async def test_the_login_of_the_integrators_page_runs(environment: dict[str, str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "integrator.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", example[1], env=os.environ | environment, stdout=asyncio.subprocess.PIPE
    )
    token = (await process.communicate())[0].decode().strip()
    assert process.returncode == 0
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(environment["REAVER_API"], headers=headers) as session,
        session.get("/v1/jobs") as answer,
    ):
        assert (answer.status, (await answer.json())["total"]) == (200, 0)


async def test_files_go_and_come_back(reaver: Type, tmp_path: Path) -> None:
    small, large = tmp_path / "data.csv", tmp_path / "large.bin"
    small.write_bytes(b"a,b\n")
    # One byte more than what is sent at once: it goes in parts.
    large.write_bytes(bytes(range(256)) * (32 << 10) + b"x")
    id_ = (await done(reaver, "files", "upload", str(small))).strip()
    sent = json.loads(await done(reaver, "files", "upload", str(large), "--name", "renamed.bin", "--json"))
    assert (sent["name"], sent["size"]) == ("renamed.bin", (8 << 20) + 1)
    listed = await done(reaver, "files")
    assert id_ in listed
    assert "renamed.bin" in listed
    assert "data.csv" in await done(reaver, "files", "get", id_)
    back = tmp_path / "back"
    assert str(back) in await done(reaver, "files", "download", sent["file_id"], "-o", str(back))
    assert back.read_bytes() == large.read_bytes()
    assert (await reaver("files", "download", id_, "-o", str(back))).exit_code == Exit.USAGE
    await done(reaver, "files", "download", id_, "-o", str(back), "--force")
    assert back.read_bytes() == b"a,b\n"
    assert not any(path.name.endswith(".part") for path in tmp_path.iterdir())  # noqa: ASYNC240
    assert await done(reaver, "files", "delete", id_) == f"Deleted {id_}\n"
    assert (await reaver("files", "get", id_)).exit_code == Exit.REFUSED
    assert (await reaver("files", "upload", str(tmp_path / "nowhere"))).exit_code == Exit.USAGE


async def test_a_webhooks_life(reaver: Type) -> None:
    made = json.loads(
        await done(reaver, "webhooks", "add", "https://example.org/hook", "--events", "job.*, allowance.*", "--json")
    )
    hook = made["id"]
    assert made["secret"].startswith("whsec_")
    assert made["events"] == ["job.*", "allowance.*"]
    listed = await reaver("webhooks")
    assert hook in listed.stdout
    assert made["secret"] not in listed.stdout
    assert "is paused" in await done(reaver, "webhooks", "pause", hook)
    assert "is active" in await done(reaver, "webhooks", "resume", hook)
    rotated = await reaver("webhooks", "rotate", hook)
    assert rotated.stdout.startswith("whsec_")
    assert "signs too until" in rotated.stderr
    await done(reaver, "webhooks", "deliveries", hook)
    assert "0 events" in await done(reaver, "webhooks", "replay", hook, "--from", "2026-01-01T00:00:00Z")
    assert (await reaver("webhooks", "replay", hook)).exit_code == Exit.USAGE
    assert await done(reaver, "webhooks", "delete", hook) == f"Deleted {hook}\n"
    assert "no webhooks yet" in (await reaver("webhooks")).stderr
    refused = await reaver("webhooks", "add", "http://169.254.169.254/")
    assert refused.exit_code == Exit.REFUSED
    assert "url" in refused.stderr


async def test_a_key_is_shown_once(reaver: Type) -> None:
    made = await reaver("keys", "create", "ci", "--scopes", "jobs, files", "--per-day", "5", "--total", "50")
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    assert key.startswith("rk_")
    listed = json.loads(await done(reaver, "keys", "--json"))["api_keys"]
    assert [(k["name"], sorted(k["scopes"]), k["spend_limit"]["per_day"]) for k in listed] == [
        ("ci", ["files", "jobs"], "5.000000")
    ]
    assert key not in await done(reaver, "keys")
    assert await done(reaver, "keys", "delete", listed[0]["id"]) == f"Deleted {listed[0]['id']}\n"
    assert "no API keys yet" in (await reaver("keys")).stderr


async def test_a_key_ends_by_itself_when_it_was_told_to(reaver: Type) -> None:
    before = datetime.now(UTC)
    for text, ahead in (("1d", timedelta(days=1)), ("2w", timedelta(weeks=2)), ("2100-01-01T00:00:00+01:00", None)):
        await done(reaver, "keys", "create", text, "--expires", text)
        (made,) = [k for k in json.loads(await done(reaver, "keys", "--json"))["api_keys"] if k["name"] == text]
        until = datetime.fromisoformat(made["expires_at"])
        if ahead is None:
            assert until == datetime(2099, 12, 31, 23, tzinfo=UTC)
        else:
            assert timedelta(0) <= until - before - ahead + timedelta(seconds=1) < timedelta(minutes=1)
    for wrong in ("tomorrow", "1", "1y", "2100-01-01T00:00:00", ""):
        refused = await reaver("keys", "create", "x", "--expires", wrong)
        assert (refused.exit_code, "--expires" in refused.stderr) == (Exit.USAGE, True)
    past = await reaver("keys", "create", "x", "--expires", "2001-01-01T00:00:00Z")
    assert (past.exit_code, "must lie in the future" in past.stderr) == (Exit.REFUSED, True)


async def test_an_api_key_stands_for_the_wallet_but_signs_nothing(
    reaver: Type, environment: dict[str, str], tmp_path: Path
) -> None:
    await done(reaver, "vault", "deposit", "20")
    key = (await done(reaver, "keys", "create", "ci", "--scopes", "jobs,read", "--per-day", "5")).strip()
    given = {name: value for name, value in environment.items() if name != "REAVER_KEYPAIR"} | {"HOME": str(tmp_path)}

    def typed(more: dict[str, str]) -> Type:
        """`reaver` of somebody who has no keypair, not even the usual one."""
        run = Reaver(given | more)
        return lambda *arguments: asyncio.to_thread(run, *arguments)

    keyed, plain = typed({"REAVER_API_KEY": key}), typed({})
    assert "read" in await done(keyed, "whoami")
    assert "an API key speaks for the account" in (await keyed("doctor")).stdout
    run = ("run", "--image", "busybox", "--gpu", "cpu-small", "--max-minutes", "2", "--max-price-per-hour", "1")
    # Without an allowance the wallet would have to sign: said so, nothing is spent, and what to do.
    refused = await keyed(*run)
    assert refused.exit_code == Exit.FUNDS, refused.stderr
    assert "reaver allow grant" in refused.stderr
    for words in (("vault", "withdraw", "1"), ("allow", "revoke"), ("login",), ("logout",)):
        refused = await keyed(*words)
        assert (refused.exit_code, "API key" in refused.stderr) == (Exit.LOGIN, True), (words, refused.stderr)
    caps = ("--per-job", "5", "--per-day", "20", "--total", "100", "--max-price-per-hour", "3")
    await done(reaver, "allow", "grant", *caps)
    # The same submission goes on by itself, once what the wallet was offered for it can't land any more.
    async with asyncio.timeout(200):
        while (made := await keyed(*run)).exit_code == Exit.FUNDS:
            assert "can land until" in made.stderr
            await asyncio.sleep(1)
    assert made.exit_code == 0, made.stderr
    (job,) = json.loads(await done(keyed, "jobs", "--json"))["jobs"]
    await done(keyed, "jobs", "cancel", job["id"])
    # From a file as well, of one or the other; and never on the command line.
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    assert (await plain("--api-key-file", str(file), "whoami")).exit_code == 0
    assert (await typed({"REAVER_API_KEY_FILE": str(file)})("whoami")).exit_code == 0
    both = await keyed("--api-key-file", str(file), "whoami")
    assert (both.exit_code, "two API keys" in both.stderr) == (Exit.LOGIN, True)
    for content, said in (("", "is empty"), ("secret words", "begins with rk_"), (None, "can't be read")):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
        wrong = await plain("--api-key-file", str(file), "whoami")
        assert (wrong.exit_code, said in wrong.stderr, "secret" in wrong.stderr) == (Exit.LOGIN, True, False)
    assert (await plain("whoami", "--api-key", key)).exit_code == Exit.USAGE
    # One that is no more
    (listed,) = json.loads(await done(reaver, "keys", "--json"))["api_keys"]
    await done(reaver, "keys", "delete", listed["id"])
    ended = await keyed("whoami")
    assert (ended.exit_code, "reaver keys create" in ended.stderr) == (Exit.LOGIN, True)
    assert key not in ended.stderr


async def test_prices_and_classes_are_shown(reaver: Type) -> None:
    assert "nothing was on offer" in (await reaver("prices")).stderr
    assert json.loads(await done(reaver, "prices", "--json", "--days", "7"))["prices"] == []
    assert (await reaver("prices", "--days", "91")).exit_code == Exit.USAGE
    unknown = await reaver("prices", "--gpu", "cpu-smal")
    assert (unknown.exit_code, "cpu-small" in unknown.stderr) == (Exit.REFUSED, True)
    shown = await done(reaver, "gpu-types")
    assert {"class", "cpu-small", "a100"} <= set(shown.split())
    listed = json.loads(await done(reaver, "gpu-types", "--json"))["gpu_types"]
    assert len(listed) == len(shown.splitlines()) - 1


async def test_a_jobs_life_without_a_node(reaver: Type, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(b"a,b")
    run = ("run", "--image", "alpine", "--gpu", "cpu-small", "--max-minutes", "10", "--max-price-per-hour", "0.6")
    labelled = (*run, "--label", "team=x:y", "--upload", str(data), "--json")
    await done(reaver, "vault", "deposit", "5")
    job = json.loads(await done(reaver, *labelled))["id"]  # the wallet signs this one
    assert job in await done(reaver, "jobs", "--status", "queued", "--gpu", "cpu", "--label", "team=x:y")
    await done(reaver, "jobs", "cancel", json.loads(await done(reaver, *labelled))["id"])
    files = json.loads(await done(reaver, "files", "--json"))["files"]
    assert [file["name"] for file in files] == ["data.csv"], "the same bytes are sent once"
    # and its extension
    assert "has 60 s more" in await done(reaver, "jobs", "extend", job, "60")
    assert "job.queued" in await done(reaver, "jobs", "events", job)
    assert json.loads(await done(reaver, "jobs", "metrics", job, "--json")) == {"job_id": job, "samples": []}
    await done(reaver, "jobs", "cancel", job)
    caps = ("--per-job", "1", "--per-day", "5", "--total", "5", "--max-price-per-hour", "1")
    await done(reaver, "allow", "grant", *caps)
    again = json.loads(await done(reaver, "jobs", "retry", job, "--max-price-per-hour", "0.6", "--json"))["id"]
    assert again != job
    assert "has 60 s more" in await done(reaver, "jobs", "extend", again, "60")
    await done(reaver, "jobs", "cancel", again)
    ended = json.loads(await done(reaver, "history", "--json"))
    assert {row["id"] for row in ended["jobs"]} > {job, again}
    table = await done(reaver, "history", "--csv")
    assert table.startswith("job_id,status,image")
    assert table.count("\n") == 4
    assert "no job ended then" in (await reaver("history", "--to", "2026-01-01", "--from", "2025-12-31")).stderr
    assert json.loads(await done(reaver, "costs", "--by", "gpu", "--json"))["group_by"] == "gpu"
    assert (await reaver("costs", "--by", "colour")).exit_code == Exit.REFUSED


async def test_a_group_is_ordered_watched_and_cancelled(reaver: Type, tmp_path: Path) -> None:
    run = ("run", "--image", "alpine", "--gpu", "cpu-small", "--max-price-per-hour", "0.6", "--name", "sweep")
    made = json.loads(await done(reaver, *run, "--array", "3", "--json"))
    assert (made["count"], made["name"]) == (3, "sweep")
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n")
    second = json.loads(await done(reaver, *run, "--array-inputs", str(lines), "--after", made["id"], "--json"))
    assert (second["count"], second["after"]) == (2, [made["id"]])
    listed = await done(reaver, "groups")
    assert made["id"] in listed
    assert second["id"] in listed
    shown = await done(reaver, "groups", "get", made["id"])
    assert "sweep" in shown
    assert f"Group {second['id']} is" in await done(reaver, "groups", "cancel", second["id"])
    for wrong in (("--array", "2", "--follow"), ("--array", "2", "--array-inputs", str(lines)), ("--after", "job_1")):
        assert (await reaver(*run, *wrong)).exit_code == Exit.USAGE


async def test_a_market_without_models_says_so(reaver: Type) -> None:
    assert json.loads(await done(reaver, "models", "--json"))["models"] == []
    assert "jobs run any image" in (await reaver("models")).stderr
    assert (await reaver("models", "get", "no/such")).exit_code == Exit.REFUSED


async def test_an_admin_names_models(reaver: Type, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    table = 'image = "registry.test/m:1"\ndescription = "d"\ndefault_gpu = "cpu-small"\n'
    file.write_text(f"[one]\n{table}[two]\n{table}command = ['run']\n")
    assert await done(reaver, "models", "put", str(file), "two") == "two is registry.test/m:1\n"
    made = json.loads(await done(reaver, "models", "put", str(file), "--json"))["models"]
    assert [(model["name"], model["command"]) for model in made] == [("one", None), ("two", ["run"])]
    assert "registry.test/m:1" in await done(reaver, "models", "get", "one")
    assert await done(reaver, "models", "delete", "one") == "Deleted one\n"
    gone = await reaver("models", "delete", "one")
    assert (gone.exit_code, "there is no model one" in gone.stderr) == (Exit.REFUSED, True)
    for text, said in (("[a", "is not TOML"), ("a = 1", "no table"), ("[a]\nimages = 1", "images"), ("", "no table")):
        file.write_text(text)
        wrong = await reaver("models", "put", str(file))
        assert (wrong.exit_code, said in wrong.stderr) == (Exit.USAGE, True), wrong.stderr
    file.write_text(f"[one]\n{table}")
    assert "has no table three" in (await reaver("models", "put", str(file), "three")).stderr
