"""Registering: what is signed is only what was asked for, and a lying market gets nothing."""

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import base58
import pytest
from aiohttp import web
from solders.compute_budget import set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from marketplace.chain.addresses import class_id
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.instructions import RegisterNode
from marketplace.chain.program import AnchorCodec, create_token_account
from marketplace.protocol import signatures
from marketplace.protocol.control import Hardware
from marketplace.protocol.terms import canonical_json
from node import keys, settings
from node.errors import MarketRefused, NotTrusted
from node.market import MarketHttp
from node.metering import Identity
from node.registration import Bond, check_transaction, default_bond, register
from node.settings import RuntimeKind
from tests.node.scripted_market import NODE_ID, ScriptedMarket

NODE, OPERATOR = keys.generate(), keys.generate()
NODE_KEY, OPERATOR_KEY = Pubkey.from_bytes(NODE.public), Pubkey.from_bytes(OPERATOR.public)
MARKET = Pubkey.new_unique()
DEPLOYMENT = Deployment(
    program=Pubkey.new_unique(),
    genesis_hash=b"\x02" * 32,
    payment_mint=Pubkey.new_unique(),
    stake_mint=Pubkey.new_unique(),
    payment_decimals=6,
    stake_decimals=6,
)
CODEC = AnchorCodec(DEPLOYMENT.program)
BUILDER = CallBuilder(DEPLOYMENT)
BOND = 50_000_000


def wanted(**changes: Any) -> RegisterNode:
    call = BUILDER.register_node(OPERATOR_KEY, NODE_KEY, MARKET, class_id("cpu-small"), BOND, 500)
    return replace(call, accounts=replace(call.accounts, **changes))


def transaction(*steps: Instruction, payer: Pubkey = OPERATOR_KEY) -> str:
    message = MessageV0.try_compile(payer, list(steps), [], Hash.default())
    blank = [Signature.default()] * message.header.num_required_signatures
    return base64.b64encode(bytes(VersionedTransaction.populate(message, blank))).decode()


def check(text: str) -> Bond:
    _, bond = check_transaction(
        text, deployment=DEPLOYMENT, market=MARKET, operator=OPERATOR_KEY, node_key=NODE_KEY, class_name="cpu-small"
    )
    return bond


def test_the_registration_that_was_asked_for_passes_with_its_bond() -> None:
    payout = create_token_account(OPERATOR_KEY, OPERATOR_KEY, DEPLOYMENT.payment_mint)
    assert check(transaction(payout, CODEC.instruction(wanted()))) == Bond(BOND, 6, 500)
    assert str(Bond(BOND, 6, 500)) == "50.000000 stake tokens, commission 5 %"


STRANGER = Pubkey.new_unique()
LIES: dict[str, Callable[[], str]] = {
    "another market": lambda: transaction(CODEC.instruction(wanted(market=STRANGER))),
    "another payout": lambda: transaction(CODEC.instruction(wanted(payout=STRANGER))),
    "another source": lambda: transaction(CODEC.instruction(wanted(stake_source=STRANGER))),
    "another class": lambda: transaction(CODEC.instruction(wanted(class_account=STRANGER))),
    "another node key": lambda: transaction(CODEC.instruction(wanted(node_key=STRANGER))),
    "another payer": lambda: transaction(CODEC.instruction(wanted()), payer=STRANGER),
    "two registrations": lambda: transaction(CODEC.instruction(wanted()), CODEC.instruction(wanted())),
    "a transfer beside it": lambda: transaction(
        CODEC.instruction(wanted()),
        transfer(TransferParams(from_pubkey=OPERATOR_KEY, to_pubkey=STRANGER, lamports=1)),
    ),
    "a stranger's account": lambda: transaction(
        create_token_account(OPERATOR_KEY, STRANGER, DEPLOYMENT.payment_mint), CODEC.instruction(wanted())
    ),
    "a fee that burns money": lambda: transaction(CODEC.instruction(wanted()), set_compute_unit_price(1_000_000_000)),
    "something else": lambda: transaction(CODEC.instruction(BUILDER.deposit(OPERATOR_KEY, STRANGER, 1))),
    "a foreign program": lambda: transaction(Instruction(STRANGER, b"", [])),
    "no transaction": lambda: base64.b64encode(b"hello").decode(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_transaction_that_does_anything_else_is_not_signed(lie: str) -> None:
    with pytest.raises(NotTrusted):
        check(LIES[lie]())


@dataclass
class Registrar(ScriptedMarket):
    """A market that registers: asks for a signature, sees the transaction land, answers with the id."""

    text: str = ""
    lands: bool = True
    refuses: str = ""
    known: str | None = None
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)

    def __init__(self) -> None:
        identity = Identity(bytes(DEPLOYMENT.program), DEPLOYMENT.genesis_hash, bytes(MARKET), b"\x04" * 32)
        super().__init__(NODE, identity)
        self.bodies, self.sent = [], []
        self.text = transaction(CODEC.instruction(wanted()))

    async def register(self, request: web.Request) -> web.Response:
        self.bodies.append((request.headers["Idempotency-Key"], await request.json()))
        if self.refuses:
            body = {"error": self.refuses, "message": "no", "status": 409, "node_id": self.known}
            return web.json_response(body, status=409)
        if self.sent:
            return web.json_response({"id": NODE_ID, "status": "pending"}, status=201)
        body = {"error": "signature_required", "message": "sign", "status": 402, "transaction": self.text}
        return web.json_response(body, status=402)

    async def relay(self, request: web.Request) -> web.Response:
        raw = base64.b64decode((await request.json())["transaction"])
        parsed = VersionedTransaction.from_bytes(raw)
        assert all(parsed.verify_with_results())
        self.sent.append(raw)
        return web.json_response({"signature": str(parsed.signatures[0]), "state": "sent"}, status=202)


@pytest.fixture
async def registrar() -> AsyncIterator[tuple[Registrar, str]]:
    market = Registrar()
    app = web.Application()
    app.router.add_get("/v1/auth/challenge", market._challenge)
    app.router.add_post("/v1/auth/verify", market._verify)
    app.router.add_post("/v1/nodes/register", market.register)
    app.router.add_post("/v1/transactions", market.relay)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield market, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def configured(tmp_path: Path, url: str) -> settings.Settings:
    file = tmp_path / "config.toml"
    file.write_text(
        settings.template(
            market_url=url, rpc_url="", region="eu", class_id="cpu-small", slots=1, kind=RuntimeKind.DOCKER
        )
    )
    settings.update(file, {"market": {"address": str(MARKET)}})
    return settings.load(file)


async def run(config: settings.Settings, url: str, consent: Callable[[Bond], bool], bond: int = BOND) -> Any:
    async with MarketHttp(url, OPERATOR, "login") as http:
        return await register(
            http,
            config,
            deployment=DEPLOYMENT,
            operator=OPERATOR,
            node=NODE,
            hardware=Hardware(vcpu=2, ram_bytes=1 << 32, disk_bytes=1 << 36),
            bond=bond,
            consent=consent,
        )


async def test_registering_signs_once_for_both_keys_and_takes_the_id(
    registrar: tuple[Registrar, str], tmp_path: Path
) -> None:
    market, url = registrar
    asked: list[Bond] = []

    def consent(bond: Bond) -> bool:
        asked.append(bond)
        return True

    registered = await run(configured(tmp_path, url), url, consent)
    assert registered.node_id == NODE_ID
    assert asked == [Bond(BOND, 6, 500)]
    assert len(market.sent) == 1
    parsed = VersionedTransaction.from_bytes(market.sent[0])
    assert registered.transaction == str(parsed.signatures[0])
    keys_used, bodies = zip(*market.bodies, strict=True)
    assert len(set(keys_used)) == 1
    body = dict(bodies[0])
    signature = base58.b58decode(body.pop("node_signature"))
    assert signatures.verify(NODE.public, canonical_json(body), signature)
    assert set(body) == {"node_key", "region", "price_floor_per_gpu_second", "hardware", "class", "bond"}
    assert body["bond"] == "50.000000"


async def test_a_transaction_that_locks_another_bond_is_not_signed(
    registrar: tuple[Registrar, str], tmp_path: Path
) -> None:
    market, url = registrar
    with pytest.raises(NotTrusted, match=r"locks 50\.000000 stake tokens"):
        await run(configured(tmp_path, url), url, lambda _: True, bond=BOND + 1)
    assert not market.sent


def test_the_bond_is_the_class_s_and_a_tenth_more_unless_said_otherwise() -> None:
    constants = {"classes": [{"id": "a100", "bond": None}, {"id": "cpu-small", "bond": "50.000001"}]}
    assert default_bond(constants, "cpu-small", 6) == 55_000_002
    for name in ("a100", "h100"):
        with pytest.raises(NotTrusted, match="no bond"):
            default_bond(constants, name, 6)


async def test_without_consent_nothing_is_signed(registrar: tuple[Registrar, str], tmp_path: Path) -> None:
    market, url = registrar
    with pytest.raises(NotTrusted, match="not agreed"):
        await run(configured(tmp_path, url), url, lambda _: False)
    assert not market.sent


async def test_a_lying_market_gets_no_signature(registrar: tuple[Registrar, str], tmp_path: Path) -> None:
    market, url = registrar
    market.text = LIES["another payout"]()
    with pytest.raises(NotTrusted):
        await run(configured(tmp_path, url), url, lambda _: True)
    assert not market.sent


async def test_a_registration_that_was_cut_off_after_its_success_is_found_again(
    registrar: tuple[Registrar, str], tmp_path: Path
) -> None:
    market, url = registrar
    market.known = NODE_ID
    market.refuses = "already_exists"
    registered = await run(configured(tmp_path, url), url, lambda _: True)
    assert registered.node_id == NODE_ID
    assert not market.sent


async def test_a_refusal_is_passed_on_with_its_code(registrar: tuple[Registrar, str], tmp_path: Path) -> None:
    market, url = registrar
    market.refuses = "already_exists"
    with pytest.raises(MarketRefused) as caught:
        await run(configured(tmp_path, url), url, lambda _: True)
    assert caught.value.code == "already_exists"
    assert Keypair.from_seed(OPERATOR.seed).pubkey() == OPERATOR_KEY
