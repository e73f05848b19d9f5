"""Registering a node: the operator bonds stake on chain, the market learns where the node is.

The market builds the transaction; nothing of it is believed. It is taken apart, compared with the one that this
module builds from the configuration, and signed only when the two are equal.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import base58
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.addresses import NULL_ADDRESS, class_id, parse_address
from marketplace.chain.builders import CallBuilder, Deployment
from marketplace.chain.errors import NotCanonical, UnsupportedTransaction
from marketplace.chain.instructions import RegisterNode
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import CreateTokenAccount, InspectedTransaction, countersign, inspect
from marketplace.domain.money import AmountOverflow, MalformedAmount, format_amount, parse_amount
from marketplace.protocol.control import Hardware
from marketplace.protocol.terms import canonical_json
from node.errors import MarketRefused, MarketUnavailable, NotTrusted
from node.keys import KeyPair
from node.market import MarketHttp
from node.settings import Settings

PATH: Final = "/v1/nodes/register"
SIGNATURE_REQUIRED: Final = "signature_required"
ALREADY_EXISTS: Final = "already_exists"
# Chosen: 0.001 SOL; more would be a market burning the operator's money.
MAX_FEE_LAMPORTS: Final = 1_000_000
# Chosen: what one node of its class may lose a few times before its operator has to bond again.
SPARE_BOND_PERCENT: Final = 10
# Chosen: two lives of a blockhash.
LAND_S: Final = 120.0
_POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bond:
    """What registering locks. units: base units of the stake token."""

    units: int
    decimals: int
    commission_bps: int

    def __str__(self) -> str:
        return f"{format_amount(self.units, self.decimals)} stake tokens, commission {self.commission_bps / 100:g} %"


@dataclass(frozen=True, slots=True)
class Registered:
    """The market's answer. transaction: signature of the registration, None when the node was bonded before."""

    node_id: str
    status: str
    transaction: str | None


def default_bond(constants: dict[str, Any], class_name: str, decimals: int) -> int:
    """The class's bond and a tenth more, in base units of the stake token.

    A node with the least bond takes no more work after its first loss: compensation comes out of the bond. Raises
    NotTrusted when the market's constants don't name the class's bond.
    """
    for entry in constants.get("classes") or ():
        if entry.get("id") == class_name and entry.get("bond") is not None:
            try:
                least = parse_amount(str(entry["bond"]), decimals)
            except (MalformedAmount, AmountOverflow) as error:
                raise NotTrusted(f"the market's constants name a bond that is no amount: {entry['bond']}") from error
            return least + -(-least * SPARE_BOND_PERCENT // 100)
    raise NotTrusted(f"the market's constants name no bond for {class_name}; say how much with --bond")


def signed_body(settings: Settings, node: KeyPair, hardware: Hardware, bond: str) -> dict[str, Any]:
    """The request, with the node key's signature over its canonical form without that signature.

    bond: decimal text, in stake tokens.
    """
    body: dict[str, Any] = {
        "node_key": node.address,
        "region": settings.node.region,
        "price_floor_per_gpu_second": settings.node.price_floor_per_gpu_second,
        "hardware": hardware.model_dump(mode="json"),
        "class": settings.node.class_id,
        "bond": bond,
    }
    if settings.node.name:
        body["name"] = settings.node.name
    if settings.node.data_center:
        body["data_center"] = settings.node.data_center
    return body | {"node_signature": base58.b58encode(node.sign(canonical_json(body))).decode()}


def check_transaction(
    text: str, *, deployment: Deployment, market: Pubkey, operator: Pubkey, node_key: Pubkey, class_name: str
) -> tuple[InspectedTransaction, Bond]:
    """The transaction, read whole, and the bond it locks. Raises NotTrusted when it does anything else."""
    try:
        inspected = inspect(text, AnchorCodec(deployment.program))
    except UnsupportedTransaction as error:
        raise NotTrusted(f"the market's transaction was not signed: {error}") from error
    calls = inspected.calls
    if len(calls) != 1 or not isinstance(calls[0], RegisterNode):
        raise NotTrusted("the market's transaction does something else than registering one node; it was not signed")
    call = calls[0]
    expected = CallBuilder(deployment).register_node(
        operator, node_key, market, class_id(class_name), call.args.bond, call.args.commission_bps
    )
    if call != expected:
        raise NotTrusted("the market's transaction registers something else than this node; it was not signed")
    accounts = {CreateTokenAccount(operator, operator, m) for m in (deployment.payment_mint, deployment.stake_mint)}
    if any(step != call and step not in accounts for step in inspected.steps):
        raise NotTrusted("the market's transaction has steps that registering doesn't need; it was not signed")
    if inspected.payer != operator or set(inspected.signers) != {operator, node_key}:
        raise NotTrusted("the market's transaction asks for other signatures than operator's and node's")
    if inspected.fee_lamports > MAX_FEE_LAMPORTS:
        raise NotTrusted(f"the market's transaction burns {inspected.fee_lamports} lamports in fees; it was not signed")
    return inspected, Bond(call.args.bond, deployment.stake_decimals, call.args.commission_bps)


async def register(
    http: MarketHttp,
    settings: Settings,
    *,
    deployment: Deployment,
    operator: KeyPair,
    node: KeyPair,
    hardware: Hardware,
    bond: int,
    consent: Callable[[Bond], bool],
) -> Registered:
    """Register and bond. Raises MarketRefused, MarketUnavailable, NotTrusted.

    http: logged in as the operator. bond: base units; a transaction that locks another amount is not signed.
    consent: asked once, before anything is signed.
    """
    body = signed_body(settings, node, hardware, format_amount(bond, deployment.stake_decimals))
    key = f"register-{secrets.token_hex(16)}"
    signed: dict[str, str] = {}
    async with asyncio.timeout(LAND_S):
        while True:
            try:
                answer = await http.post(PATH, body, idempotency_key=key)
            except MarketRefused as error:
                known = error.body.get("node_id")
                if error.code == ALREADY_EXISTS and isinstance(known, str) and known:
                    # Only this node's own key could have signed for it: an earlier run was cut off after its success.
                    return Registered(known, "registered before", next(reversed(signed.values()), None))
                if error.code != SIGNATURE_REQUIRED:
                    raise
                await _sign_and_send(http, settings, error.body, signed, deployment, operator, node, bond, consent)
                await asyncio.sleep(_POLL_S)
                continue
            node_id = answer.get("id")
            if not isinstance(node_id, str) or not node_id:
                raise MarketUnavailable("the market's answer names no node id")
            return Registered(node_id, str(answer.get("status", "")), next(reversed(signed.values()), None))


async def _sign_and_send(
    http: MarketHttp,
    settings: Settings,
    answer: dict[str, object],
    signed: dict[str, str],
    deployment: Deployment,
    operator: KeyPair,
    node: KeyPair,
    wanted: int,
    consent: Callable[[Bond], bool],
) -> None:
    """Sign what was checked, once; the same bytes again mean that it has not landed yet.

    signed: by the market's text, the transaction id of what was sent.
    """
    text = answer.get("transaction")
    if not isinstance(text, str):
        raise NotTrusted("the market asks for a signature without a transaction")
    if text in signed:
        return
    inspected, bond = check_transaction(
        text,
        deployment=deployment,
        market=parse_address(settings.market.address),
        operator=Pubkey.from_bytes(operator.public),
        node_key=Pubkey.from_bytes(node.public),
        class_name=settings.node.class_id,
    )
    if bond.units != wanted:
        raise NotTrusted(f"the market's transaction locks {bond}, which is not what was asked for; it was not signed")
    if not signed and not consent(bond):
        raise NotTrusted("not agreed to; nothing was signed")
    raw = countersign(inspected, [Keypair.from_seed(operator.seed), Keypair.from_seed(node.seed)])
    sent = await http.post("/v1/transactions", {"transaction": base64.b64encode(raw).decode()})
    signed[text] = str(sent.get("signature", ""))


def deployment_of(chain: dict[str, Any]) -> Deployment:
    """The deployment that the market's constants describe. Raises NotTrusted for what can't be read."""
    try:
        return Deployment(
            program=parse_address(str(chain["program_id"])),
            genesis_hash=bytes(parse_address(str(chain["genesis_hash"]))),
            payment_mint=_mint(chain["payment_mint"]),
            stake_mint=_mint(chain["stake_mint"]),
            payment_decimals=int(chain["decimals"]),
            stake_decimals=int(chain.get("stake_decimals", chain["decimals"])),
        )
    except (KeyError, TypeError, ValueError, NotCanonical) as error:
        raise NotTrusted(f"the market's constants can't be read at {error}") from error


def _mint(value: object) -> Pubkey:
    mint = parse_address(str(value))
    if mint == NULL_ADDRESS:
        raise ValueError("a mint")
    return mint
