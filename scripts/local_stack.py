"""A whole market on this machine for the demo, the end-to-end tests and the benches: real processes, loopback only.

Everything is done with the product's own commands, as a user would; keys, ports, logs and journals lie in one folder.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.transaction import Transaction

from node.engines import build_runtime
from node.errors import ConfigUnusable
from node.runtime.firewall import Firewall
from node.runtime.naming import DEPLOYMENT, Namespace
from node.settings import RuntimeKind, load, template, update
from scripts.processes import Process, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from solders.instruction import Instruction

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
READY_S = 120
"""A process, from its start until it answers, where twenty others want the same two cores; a hang takes longer."""
COMMAND_S = 180
ANSWER_S = 30
"""A request to a process that lives: one that is gone refuses it at once."""


class StackError(Exception):
    """A step failed; the message has the command's own words."""


class MarketBusy(StackError):
    """The market can't answer now, and says so."""


@dataclass
class NodeFolder:
    """A node's folder and its process."""

    name: str
    home: Path
    process: Process
    id: str = ""
    deployment: str = ""

    @property
    def config(self) -> Path:
        return self.home / "config.toml"


@dataclass
class Stack:
    """Localnet, market and nodes in one folder.

    heartbeat_s, slot_ms, finality_slots: short on purpose, so that a demo takes seconds. rpc_url: an existing
    chain instead of our localnet (its mints and program must be there or creatable).
    """

    home: Path
    heartbeat_s: int = 2
    slot_ms: int = 200
    finality_slots: int = 4
    docker_host: str | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, NodeFolder] = field(default_factory=dict)
    chain: Process | None = None
    market: Process | None = None
    rpc_url: str = ""
    ws_url: str = ""
    api_url: str = ""

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)

    # the chain and the market

    @property
    def config(self) -> Path:
        return self.home / "localnet.toml"

    def write_config(self) -> None:
        """One settings file for localnet and market, with chosen ports."""
        rpc_port, api_port = free_ports(2)
        outside = {"rpc_url": self.rpc_url, "ws_url": self.ws_url} if self.rpc_url else {}
        self.rpc_url = self.rpc_url or f"http://127.0.0.1:{rpc_port}"
        self.ws_url = self.ws_url or f"ws://127.0.0.1:{rpc_port + 1}"
        self.api_url = f"http://127.0.0.1:{api_port}"
        sections: dict[str, dict[str, Any]] = {
            "chain": {
                "host": "127.0.0.1",
                "rpc_port": rpc_port,
                "data": str(self.home / "chain"),
                "slot_ms": self.slot_ms,
                "finality_slots": self.finality_slots,
                "program": os.environ.get("REAVER_PROGRAM", str(ROOT / "programs/deploy/reaver_market.so")),
                **outside,
            },
            "market": {"data_dir": str(self.home / "market"), "heartbeat_s": self.heartbeat_s},
            "api": {"port": api_port},
            # one renter polls for all: the published limit is for people
            "limits": {"wallet": 6000, "address": 6000, "challenge": 600, "login": 600},
            "log": {"format": "console", "level": "warning"},
        }
        for name, values in self.settings.items():
            sections.setdefault(name, {}).update(values)
        lines: list[str] = []
        for name, values in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
            lines.append("")
        self.config.write_text("\n".join(lines))

    def start_chain(self, extra: Mapping[str, str] | None = None) -> None:
        if not self.config.exists():
            self.write_config()
        if self.chain is None:
            self.chain = self._process("chain", "reaver-localnet", "start", "--config", str(self.config))
        self.chain.start(extra)
        self.wait_for("the chain", self.chain, lambda: self.rpc("getHealth") == "ok")

    def init_market(self) -> None:
        self.command("reaver-market", "init", "--config", str(self.config))

    def start_market(self, extra: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        if self.market is None:
            self.market = self._process("market", "reaver-market", "serve", "--config", str(self.config))
        self.market.start(extra)
        if wait:
            self.wait_for("the market", self.market, lambda: self.get("/ready") is not None)

    # nodes

    def add_node(
        self,
        name: str,
        *,
        floor: str = "0.00002",
        slots: int = 1,
        runtime: str = "docker",
        check_image: str | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> NodeFolder:
        """Initializes, funds and registers a node; does not start it.

        floor: lowest price per slot and second, whole tokens.
        """
        home = self.home / name
        home.mkdir(exist_ok=True)
        process = self._process(name, "reaver-node", "start", "--config", str(home / "config.toml"))
        # Two stacks of one process have nodes of the same names, and each node removes what is of its deployment.
        place = hashlib.sha256(bytes(home)).hexdigest()[:6]
        node = NodeFolder(name, home, process, deployment=f"demo-{os.getpid()}-{place}-{name}"[:31])
        # what a person would edit in the file, before anything is set up under the names that it begins with
        node.config.write_text(
            template(
                market_url=self.api_url,
                rpc_url=self.rpc_url,
                region="eu",
                class_id="cpu-small",
                slots=slots,
                kind=RuntimeKind(runtime),
            )
        )
        registry = [check_image.split("/")[0]] if check_image else []
        changes: dict[str, dict[str, Any]] = {
            "node": {"name": name, "price_floor_per_gpu_second": floor},
            "runtime": {
                "deployment": node.deployment,
                "engine": self.docker_host or "",
                "private_registries": registry,
            },
        }
        for section, values in (settings or {}).items():
            changes.setdefault(section, {}).update(values)
        update(node.config, changes)
        check = ("--check-image", check_image) if check_image else ()
        self.command("reaver-node", "init", "--config", str(node.config), *check)
        operator = self.address_of(home / "operator.json")
        self.faucet(operator, sol="20", stake="600", payment="1")
        self.command(
            "reaver-node", "register", "--config", str(node.config), "--bond", "500", "--max-bond", "500", "--json"
        )
        node.id = load(node.config).node.id
        self.nodes[name] = node
        return node

    def start_node(self, name: str, extra: Mapping[str, str] | None = None, *, wait: bool = True) -> None:
        node = self.nodes[name]
        node.process.start(extra)
        if wait:
            self.wait_for(f"node {name}", node.process, lambda: self.node_is_available(node.id))

    def node_is_available(self, node_id: str) -> bool:
        found = self.get(f"/v1/nodes/{node_id}", wallet=True)
        return bool(found and found.get("available"))

    # wallets

    @property
    def wallet(self) -> Path:
        return self.home / "renter.json"

    @property
    def environment(self) -> dict[str, str]:
        """What the renter's CLI needs to talk to this stack."""
        return self.environment_of(self.wallet)

    def environment_of(self, wallet: Path) -> dict[str, str]:
        """The same for another wallet's keypair file."""
        return {
            "REAVER_API": self.api_url,
            "REAVER_RPC": self.rpc_url,
            "REAVER_WS": self.ws_url,
            "REAVER_KEYPAIR": str(wallet),
        }

    def create_wallet(self, *, deposit: str = "5", payment: str = "20") -> str:
        """A fresh funded wallet with an open vault; returns its address."""
        address = self._funded(self.wallet, payment=payment, stake="1")
        self.reaver("vault", "deposit", deposit)
        return address

    def create_delegator(self, name: str, *, stake: str) -> Path:
        """A fresh wallet that holds so many whole stake tokens; returns its keypair file."""
        file = self.home / f"{name}.json"
        self._funded(file, payment="0", stake=stake)
        return file

    def _funded(self, file: Path, *, payment: str, stake: str) -> str:
        file.write_text(json.dumps(list(bytes(Keypair()))))
        file.chmod(0o600)
        address = self.address_of(file)
        self.faucet(address, sol="5", payment=payment, stake=stake)
        self.reaver("login", wallet=file)
        return address

    def faucet(self, address: str, *, sol: str, payment: str, stake: str) -> None:
        self.command(
            "reaver-localnet", "faucet", address, "--config", str(self.config),
            "--sol", sol, "--payment", payment, "--stake", stake,
        )  # fmt: skip

    @staticmethod
    def keypair_of(file: Path) -> Keypair:
        return Keypair.from_bytes(bytes(json.loads(file.read_text())))

    @staticmethod
    def address_of(keypair: Path) -> str:
        return str(Stack.keypair_of(keypair).pubkey())

    # commands

    def command(self, *words: str, environment: Mapping[str, str] | None = None, check: bool = True) -> str:
        """Runs one of our commands to its end and returns what it printed. Raises StackError."""
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.folders(), **self._engine(), **(environment or {})},
            cwd=self.home,
        )
        if check and done.returncode:
            raise StackError(f"{' '.join(words)} (exit {done.returncode})\n{done.stdout}{done.stderr}")
        return done.stdout

    def reaver(self, *words: str, wallet: Path | None = None) -> Any:
        """A command of the CLI; what its --json prints. wallet: another keypair file than the renter's."""
        at = words.index("--") if "--" in words else len(words)
        environment = self.environment_of(wallet or self.wallet)
        text = self.command("reaver", *words[:at], "--json", *words[at:], environment=environment)
        return json.loads(text) if text.strip() else None

    def _engine(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.docker_host} if self.docker_host else {}

    def folders(self) -> dict[str, str]:
        """The CLI's token cache stays in this folder, so that a demo touches nothing of the user's."""
        return {
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_STATE_HOME": str(self.home / "state"),
        }

    # reading

    def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call; None when nobody answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
        request = urllib.request.Request(self.rpc_url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return json.load(answer).get("result")
        except (OSError, ValueError):
            return None

    def send(self, instructions: Sequence[Instruction], *signers: Keypair) -> str:
        """Lands a transaction that none of our commands makes, the first signer paying; its signature.

        Raises StackError when the chain refuses it.
        """
        confirmed = {"commitment": "confirmed"}
        blockhash = Hash.from_string(self.rpc("getLatestBlockhash", confirmed)["value"]["blockhash"])
        message = Message.new_with_blockhash(list(instructions), signers[0].pubkey(), blockhash)
        raw = base64.b64encode(bytes(Transaction(list(signers), message, blockhash))).decode()
        options = {"encoding": "base64", "preflightCommitment": "confirmed"}
        simulated = self.rpc("simulateTransaction", raw, {"encoding": "base64", **confirmed})["value"]
        if simulated["err"] is not None:
            raise StackError(f"the chain refuses it: {simulated['err']}\n" + "\n".join(simulated["logs"]))
        signature = str(self.rpc("sendTransaction", raw, options))

        def landed() -> bool:
            (status,) = self.rpc("getSignatureStatuses", [signature])["value"]
            if status and status["err"] is not None:
                raise StackError(f"transaction {signature} failed: {status['err']}")
            return bool(status) and status["confirmationStatus"] in {"confirmed", "finalized"}

        self.wait_until(f"transaction {signature}", landed)
        return signature

    def get(self, path: str, *, wallet: bool = False) -> Any:
        """GET of the market's API; None when it isn't there or says no. wallet: with the renter's token."""
        headers = {}
        if wallet:
            headers["Authorization"] = f"Bearer {self.token()}"
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.api_url + path, headers=headers), timeout=ANSWER_S
            ) as answer:
                text = answer.read()
        except (OSError, urllib.error.HTTPError):
            return None
        try:
            return json.loads(text)
        except ValueError:
            return text.decode()

    def submit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Submits a job as clients do: a market that is busy (503) is asked again, by the same key. Its answer."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        def taken() -> Any:
            try:
                return self.post("/v1/jobs", body, headers)
            except MarketBusy:
                return None

        return dict(self.wait_until("the market to take a job", taken))

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """POST of the market's API with the renter's token.

        Raises StackError with the market's own words; MarketBusy where they are that it may be asked again.
        """
        request = urllib.request.Request(
            self.api_url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token()}", **(headers or {})},
        )
        try:
            # what waits for the chain may take 20 s of the market's own
            with urllib.request.urlopen(request, timeout=20 + ANSWER_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            kind = MarketBusy if error.code == HTTPStatus.SERVICE_UNAVAILABLE else StackError
            raise kind(f"POST {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def token(self) -> str:
        """A bearer token of the renter, by a login of its own; kept for this stack's life."""
        if not hasattr(self, "_token"):
            self._token = self._login()
        return self._token

    def _login(self) -> str:
        keypair = Keypair.from_bytes(bytes(json.loads(self.wallet.read_text())))
        challenge = self.get(f"/v1/auth/challenge?wallet={keypair.pubkey()}")
        if challenge is None:
            raise StackError("the market gives no challenge")
        body = {"wallet": str(keypair.pubkey()), "signature": str(keypair.sign_message(challenge["message"].encode()))}
        request = urllib.request.Request(
            self.api_url + "/v1/auth/verify", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return str(json.load(answer)["token"])

    def job(self, job_id: str) -> dict[str, Any]:
        found = self.get(f"/v1/jobs/{job_id}", wallet=True)
        if found is None:
            raise StackError(f"the market does not answer for {job_id}")
        return dict(found)

    def wait_job(self, job_id: str, statuses: Iterable[str], limit_s: float = 90) -> dict[str, Any]:
        """Waits until the job's status is one of these."""
        wanted = set(statuses)
        return self.wait_until(
            f"{job_id} to be {' or '.join(sorted(wanted))}",
            lambda: (job := self.try_job(job_id)) and job["status"] in wanted and job,
            limit_s,
        )

    def try_job(self, job_id: str) -> dict[str, Any] | None:
        found = self.get(f"/v1/jobs/{job_id}", wallet=True)
        return None if found is None else dict(found)

    def wait_settled(self, job_id: str, limit_s: float = 90) -> dict[str, Any]:
        """Waits until all money of the job is where it belongs, contests included."""
        return self.wait_until(
            f"the books of {job_id} to close",
            lambda: (
                (job := self.try_job(job_id)) and job["settlement"] and job["settlement"]["state"] == "closed" and job
            ),
            limit_s,
        )

    # waiting

    def wait_until(self, what: str, holds: Any, limit_s: float = READY_S) -> Any:
        """What `holds` returns once it is true. Raises StackError with the processes' last words."""
        deadline = time.monotonic() + limit_s
        while True:
            found = holds()
            if found:
                return found
            if time.monotonic() > deadline:
                raise StackError(f"waited {limit_s:.0f} s for {what}\n{self.last_words()}")
            time.sleep(0.1)

    def wait_for(self, what: str, process: Process, holds: Any, limit_s: float = READY_S) -> None:
        def check() -> bool:
            if not process.alive:
                raise StackError(f"{what} ended\n{process.tail()}")
            return bool(holds())

        self.wait_until(what, check, limit_s)

    def processes(self) -> list[Process]:
        return [p for p in (self.chain, self.market, *(n.process for n in self.nodes.values())) if p is not None]

    def last_words(self) -> str:
        return "\n".join(f"--- {p.name} ({'alive' if p.alive else 'gone'})\n{p.tail()}" for p in self.processes())

    def _process(self, name: str, program: str, *words: str) -> Process:
        log = self.home / "logs" / f"{name}.log"
        return Process(name, [str(BIN / program), *words], log, self._engine())

    def stop(self, *, remove: bool = False) -> None:
        """Ends all processes, nodes first, and removes what their containers left."""
        for node in self.nodes.values():
            node.process.stop()
        for process in (self.market, self.chain):
            if process is not None:
                process.stop()
        for node in self.nodes.values():
            clean(node.config)
        if remove:
            shutil.rmtree(self.home, ignore_errors=True)

    # the engine, as its user sees it

    def containers(self, deployment: str) -> list[str]:
        """Ids of all containers that carry this node's label, running or not."""
        return self._docker("ps", "-aq", "--filter", f"label={DEPLOYMENT}={deployment}").split()

    def paused_containers(self, deployment: str) -> list[str]:
        """Ids of those that the engine holds where they are."""
        return self._docker(
            "ps", "-q", "--filter", f"label={DEPLOYMENT}={deployment}", "--filter", "status=paused"
        ).split()

    def enter(self, deployment: str, *command: str) -> str:
        """Runs a command in the node's one container, as a machine's owner can; what it printed."""
        (container,) = self.containers(deployment)
        return self._docker("exec", container, *command)

    def remove_containers(self, node: NodeFolder) -> None:
        """What a killed node left running ends, as it would in a power cut."""
        if found := self.containers(node.deployment):
            self._docker("rm", "-f", *found)

    def _docker(self, *words: str) -> str:
        docker = shutil.which("docker") or "/usr/bin/docker"
        done = subprocess.run(
            [docker, *words],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, **self._engine()},
        )
        return done.stdout


def clean(config: Path) -> None:
    """Removes everything that a node that will not start again left on its engine and machine."""

    async def sweep() -> None:
        settings = load(config)
        runtime = build_runtime(settings)
        try:
            await runtime.sweep(frozenset(), older_than_s=0)
        finally:
            await runtime.close()
        if settings.runtime.kind is RuntimeKind.DOCKER:
            await Firewall(Namespace(settings.runtime.deployment).interfaces).remove()

    with contextlib.suppress(ConfigUnusable):
        asyncio.run(sweep())


def engine() -> str:
    """Address of a container engine, started when none answers. Raises StackError."""
    done = subprocess.run([str(ROOT / "scripts/engine"), "start"], capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("export DOCKER_HOST="):
            return line.removeprefix("export DOCKER_HOST=").strip("'\"")
    raise StackError(f"no container engine:\n{done.stderr}")


def images() -> dict[str, str]:
    """Names with digests of the small images, among them `demo` with the repository's lock file."""
    words = [sys.executable, str(ROOT / "scripts/images"), "--demo", str(ROOT / "uv.lock")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"the images could not be built:\n{done.stderr}")
    return dict(json.loads(done.stdout))
