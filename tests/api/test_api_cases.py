"""Cases made from the API's own document, against the live market: nothing is a fault, and everything is as declared.

Deterministic: the seed is fixed, and nothing is remembered from run to run. The caller is a funded wallet, whose own
ids stand in the paths: what is behind them is reached, and not only the refusal of an unknown id.
"""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from marketplace.app import Market
from tests.api.conftest import Renter, Wallet, settings_in
from tests.api.serving import ready
from tests.api.test_ownership import belongings

EXAMPLES = 3
"""Random cases of each route beside those at its bounds, some 100 a route; chosen: a minute on two cores of one's own."""
UNLIMITED = 10_000_000
STREAMS = {"/v1/events", "/v1/jobs/{job_id}/events", "/v1/jobs/{job_id}/logs"}
"""Routes that may answer without an end; what they answer with one is asked for."""
SOCKETS = {"/v1/jobs/{job_id}/exec", "/v1/nodes/{node_id}/control"}
"""Not HTTP after the first line."""


@pytest.fixture
async def live_market(tmp_path, chain):
    """A market that admits more requests a minute than the cases make."""
    settings = settings_in(tmp_path, chain.folder / "keys", chain.rpc)
    limits = settings.limits.model_copy(
        update=dict.fromkeys(("wallet", "address", "challenge", "login", "node"), UNLIMITED)
    )
    market = Market.build(settings.model_copy(update={"limits": limits}))
    await market.start()
    await ready(market)
    yield market
    await market.stop()


def configuration(own: dict[str, str]) -> str:
    lines = ["[parameters]", *(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in own.items())]
    for path in sorted(STREAMS):
        lines += ["[[operations]]", f"include-path = {json.dumps(path)}", "[operations.parameters]", "follow = 0"]
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(600)
async def test_every_route_answers_as_the_document_says(tmp_path, chain, live_market, live_call):
    renter = await Renter.funded(Wallet(bytes(32)), chain, live_market, live_call)
    (tmp_path / "schemathesis.toml").write_text(configuration(await belongings(renter)))
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    run = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "schemathesis", "run", f"{live_call.base}/openapi.json",
        "--url", live_call.base, "--header", f"Authorization: Bearer {renter.token}",
        "--checks", checks, "--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1",
        "--generation-deterministic", "--request-timeout", "60", "--no-color",
        "--warnings", "off", *(part for path in SOCKETS for part in ("--exclude-path", path)),
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await run.communicate()
    text = said.decode()
    assert run.returncode == 0, text[-20_000:]
    # Nothing was left out in silence: a document that can't be read would pass, too.
    selected, declared, tested = (
        int(n) for n in re.findall(r"(?:Selected: |/|Tested: )(\d+)", text.partition("API Operations:")[2])[:3]
    )
    assert selected == tested == declared - len(SOCKETS), text[-2_000:]
