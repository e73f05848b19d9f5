"""What must not be read is planted on every way in, and then looked for in everything that is written."""

import json
import sqlite3
from pathlib import Path

import pytest
from solders.keypair import Keypair

from scripts.local_stack import Stack, StackError
from tests.e2e.test_jobs import ended, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack-faults"),
    pytest.mark.timeout(180, func_only=True),
]
ENV = "planted-value-of-a-variable"
REFUSED = "planted-value-of-a-refused-job"
TOKEN = "planted.bearer.token"
SECRET = "planted-value-of-a-job-secret"
PASSWORD = "planted-password-of-a-registry"
MARKER = "harmless-marker"
"""Stands beside the secrets: where it is not, nothing was looked through."""
TELLING = frozenset({"events", "chain_events", "outbox"})
"""Tables of what happened; `env` of a job is shown to its owner, and stands with the job."""


@pytest.fixture
def talkative(stack: Stack):
    """The market logs everything while the test runs."""
    before = stack.config.read_text()
    stack.config.write_text(before.replace('level = "warning"', 'level = "debug"'))
    assert stack.config.read_text() != before
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


def written(stack: Stack, tables: frozenset[str] | None = TELLING) -> dict[str, str]:
    """Every log line, and every row of these tables of the market's store; None: of all."""
    found = {path.name: path.read_text(errors="replace") for path in (stack.home / "logs").iterdir()}
    for database in (stack.home / "market").rglob("*.sqlite3"):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in there if tables is None else there & tables:
                found[f"{database.name}: {table}"] = str(connection.execute(f"SELECT * FROM {table}").fetchall())
    return found


def keys(folder: Path) -> list[str]:
    """The secret half of each keypair file, in the ways in which keys are written."""
    texts = []
    for path in folder.rglob("*.json"):
        try:
            content = json.loads(path.read_text())
            raw = bytes(content)
        except (ValueError, TypeError):
            continue
        if len(raw) == 64:
            texts += [str(Keypair.from_bytes(raw)), raw[:32].hex(), ", ".join(map(str, raw[:32]))]
    return texts


def test_no_secret_is_in_a_log_an_event_or_an_error(talkative, image_names):
    stack = talkative
    image = image_names["busybox"]
    jobs = [
        run(stack, image, "sh", "-c", "exit 3", options=("--env", f"PASSWORD={ENV}")),
        run(stack, image, "no-such-program", options=("--env", f"PASSWORD={ENV}")),
        run(stack, image.split("@")[0].replace("busybox", "gone") + ":1", options=("--env", f"PASSWORD={ENV}")),
    ]
    # its owner is shown what he submitted, and no copy of it anywhere else in the job
    shown = [json.dumps({k: v for k, v in ended(stack, job_id).items() if k != "env"}) for job_id in jobs]
    errors = []
    for body in ({"image": image, "gpu": "nothing", "env": {"P": REFUSED}}, {"env": {"P": REFUSED}, "image": REFUSED}):
        with pytest.raises(StackError) as refused:
            stack.post("/v1/jobs", {"region": "eu", "maxMinutes": 1, **body})
        errors.append(str(refused.value))
    body = {"image": image, "gpu": "cpu-small", "command": ["sh", "-c", 'test -n "$S"'], "max_price_per_hour": "0.5"}
    job_id = str(stack.submit({**body, "secrets": {"S": SECRET}, "name": MARKER, "env": {"M": MARKER}})["id"])
    job = ended(stack, job_id)
    assert (job["status"], job["secret_names"]) == ("completed", ["S"]), "it was there, in the container"
    login = {"name": MARKER, "username": "robot", "password": PASSWORD, "registry": "registry.example"}
    given = [
        stack.post("/v1/api-keys", {"name": MARKER, "scopes": ["read"]})["key"],
        stack.post("/v1/webhooks", {"url": "https://hooks.test/x", "description": MARKER})["secret"],
    ]
    assert "password" not in stack.post("/v1/registry-auth", login)
    nowhere = [SECRET, PASSWORD, *given, stack.token()]
    rows = written(stack, None)
    assert {"allocations", "api_keys", "webhooks"} <= {
        name.split(": ")[1] for name, text in rows.items() if ": " in name and MARKER in text
    }
    for name, text in (rows | {"job": json.dumps(job)}).items():
        assert [secret[:12] for secret in nowhere if secret in text] == [], name
    held, stack._token = stack.token(), TOKEN
    assert stack.get("/v1/me", wallet=True) is None
    with pytest.raises(StackError) as refused:
        stack.post("/v1/jobs", {"image": image, "env": {"P": REFUSED}})
    errors.append(str(refused.value))
    stack._token = held
    planted = [ENV, TOKEN, held, stack.token(), *keys(stack.home)]
    assert len(planted) > 3 * 6
    everything = written(stack)
    assert any("events" in name for name in everything), list(everything)
    assert '"' in everything["market.log"] or "debug" in everything["market.log"]
    everything |= {f"job {n}": text for n, text in enumerate(shown)}
    for name, text in everything.items():
        assert [secret[:12] for secret in (*planted, REFUSED) if secret in text] == [], name
    for text in errors:
        assert [secret[:12] for secret in planted if secret in text] == []
