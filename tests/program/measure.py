"""What every instruction costs: compute units, bytes, signatures, fee and rent, each of a call that is accepted.

The catalog's calls are simulated, every one of the instructions; the heavy ones of a job (with vouchers and transfers)
are sent besides. Each address below bump 255 that an instruction derives costs it another 1,500 units: that is luck, and
is taken out, so that all figures are those of keys whose bumps are 255.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import cast

from solders.compute_budget import set_compute_unit_limit
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction
from solders.transaction_metadata import FailedTransactionMetadata

from marketplace.chain.builders import EscrowRef, SignedClaim
from marketplace.chain.ed25519 import SignatureCheck
from marketplace.protocol.claims import ClaimMessage
from tests.program.catalog import make_catalog
from tests.program.flows import (
    DEPOSIT,
    FEES,
    Node,
    assign,
    contest,
    end_contest,
    finish,
    grant,
    market_escrow,
    new_node,
    open_escrow,
    quit_attempt,
    release,
    terms,
    voucher,
)
from tests.program.world import GENESIS, HOUR, PARAMS, PROGRAM, Part, World, bare_world, initialize, new_world

LAMPORTS_PER_SIGNATURE = 5_000
UNITS_PER_BUMP = 1_500
TOKEN_ACCOUNT = 165
PROGRAM_DATA_HEADER = 45
"""Bytes before the binary in the upgradeable loader's account."""

ACCOUNTS = {
    "Config": 569,
    "Market": 231,
    "Class": 67,
    "Node": 557,
    "Pool": 388,
    "Position": 215,
    "Ticket": 202,
    "Vault": 291,
    "Allowance": 338,
    "Escrow": 660,
    "Epoch": 123,
}
"""Sizes, held by a test of the program's own."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one transaction with one instruction of ours."""

    units: int
    transaction_bytes: int
    signatures: int
    fee: int
    rent: int


@dataclass(slots=True)
class MeasuredWorld(World):
    """A world that notes what each labelled transaction costs."""

    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def send(self, *parts: Part, signers: list[Keypair], label: str | None = None) -> list[object]:
        """As in the world; what it cost is noted under the first word of the label."""
        if label is None:
            return cast("list[object]", World.send(self, *parts, signers=signers))
        cost = cost_of(self, parts, tuple(signers))
        self.costs.setdefault(label.split()[0], []).append(cost)
        return cast("list[object]", World.send(self, *parts, signers=signers, label=label))


def cost_of(world: World, parts: tuple[Part, ...], signers: tuple[Keypair, ...]) -> Cost:
    """Simulates a transaction that must be accepted."""
    svm: LiteSVM = world.svm
    instructions = [world.instruction(part) for part in parts]
    ours = next(one for one in instructions if one.program_id == PROGRAM)
    limit = set_compute_unit_limit(400_000)
    distinct = list(dict.fromkeys(signers))
    message = Message.new_with_blockhash([*instructions, limit], distinct[0].pubkey(), svm.latest_blockhash())
    transaction = Transaction(distinct, message, svm.latest_blockhash())
    result = svm.simulate_transaction(transaction)
    assert not isinstance(result, FailedTransactionMetadata), world.name_of(result)
    after = dict(result.post_accounts())
    seeds = [bytes(meta.pubkey) for meta in ours.accounts]
    made = [m.pubkey for m in ours.accounts if svm.get_account(m.pubkey) is None and m.pubkey in after]
    tries = sum(255 - _bump(address, seeds, bytes(after[address].data), after[address].owner) for address in made)
    signatures = message.header.num_required_signatures
    checks = sum(isinstance(part, SignatureCheck) for part in parts)
    return Cost(
        units=result.meta().compute_units_consumed() - _budget_units() - UNITS_PER_BUMP * tries,
        transaction_bytes=len(bytes(transaction)),
        signatures=signatures + checks,
        fee=LAMPORTS_PER_SIGNATURE * (signatures + checks),
        rent=sum(after[address].lamports for address in made),
    )


def _budget_units() -> int:
    return 150  # what the compute budget's own instruction costs


def _bump(address: Pubkey, keys: list[bytes], data: bytes, owner: Pubkey) -> int:
    """The canonical bump of an address that a transaction has made."""
    if owner == PROGRAM:
        return data[9]  # behind discriminator and version
    for prefix, key in product((b"vault_tokens", b"pool_stake", b"pool_fees", b"market_fees"), keys):
        found, bump = Pubkey.find_program_address([prefix, key], PROGRAM)
        if found == address:
            return bump
    for prefix in (b"compensation", b"emission"):
        found, bump = Pubkey.find_program_address([prefix], PROGRAM)
        if found == address:
            return bump
    raise AssertionError(f"{address} is derived from no seeds that are known here")


def measure() -> Mapping[str, list[Cost]]:
    """Every instruction at least once, the settling ones in several situations."""
    catalog = make_catalog()
    costs: dict[str, list[Cost]] = {}
    for name, case in catalog.cases.items():
        costs[name] = [cost_of(catalog.world, (*case.checks, case.call), case.signers)]
    costs["initialize"] = [_initialization()]
    for name, found in _job().costs.items():
        costs[name].extend(found)
    return costs


def _initialization() -> Cost:
    world = _measured(bare_world())
    initialize(world)
    return world.costs["initialize"][0]


def _measured(world: World) -> MeasuredWorld:
    return MeasuredWorld(world.svm, world.codec, world.build, world.now_ms)


def _job() -> MeasuredWorld:
    """A job that is lost, contested and finished on a second node; one that its node quits with a voucher."""
    world = _measured(new_world())
    renter = world.renter("bench renter", vault=10 * DEPOSIT)
    grant(world, renter, expires_at_ms=world.chain_ms + 2_400 * HOUR)
    first, second = (new_node(world, name) for name in ("bench a", "bench b"))
    escrow = open_escrow(world, renter, market_escrow(world, renter, 1))
    assign(world, escrow, first)
    world.pass_ms(10_000)
    early = voucher(world, escrow, first, 1, 9_000)
    world.pass_ms(PARAMS.lost_after)
    later = voucher(world, escrow, first, 2, 12_000, at_ms=world.chain_ms - 1_000)
    release(world, escrow, first, early)
    assign(world, escrow, second)
    contest(world, escrow, first, later)
    end_contest(world, escrow, first)
    finish(world, escrow, second, 1, 2_000)
    escrow = open_escrow(world, renter, market_escrow(world, renter, 2))
    assign(world, escrow, second)
    world.pass_ms(3_000)
    quit_attempt(world, escrow, second, voucher(world, escrow, second, 1, 3_000))
    return world


@dataclass(frozen=True, slots=True)
class Flow:
    """Transactions of a job under an allowance, and the signatures that those who send them pay for."""

    name: str
    steps: tuple[str, ...]
    signatures: int


def flows() -> Iterator[Flow]:
    """Signatures per job as they are paid: open and assign in one transaction with a free node; apart if queued."""
    world = _measured(new_world())
    renter = world.renter("flow renter", vault=10 * DEPOSIT)
    grant(world, renter, expires_at_ms=world.chain_ms + 2_400 * HOUR)
    first, second = (new_node(world, name) for name in ("flow a", "flow b"))
    yield _flow(world, renter, "free node", (first,), together=True)
    yield _flow(world, renter, "queued", (first,), together=False)
    yield _flow(world, renter, "one failover", (first, second), together=True)


def _flow(world: MeasuredWorld, renter: Keypair, name: str, nodes: tuple[Node, ...], *, together: bool) -> Flow:
    world.costs.clear()
    nonce = {"free node": 1, "queued": 2, "one failover": 3}[name]
    ref, matcher, meter = market_escrow(world, renter, nonce), world.matcher, world.meter
    build, opening = world.build, world.build.open_escrow(ref, world.matcher.pubkey(), terms(nonce))
    steps: list[str] = []
    if together:
        call = build.assign(ref, nodes[0].ref(world), matcher.pubkey(), _first_claim(world, ref, nodes[0], nonce))
        world.send(*call.checks, opening, call.call, signers=[matcher], label="open_escrow+assign")
        steps.append("open_escrow+assign")
    else:
        world.send(opening, signers=[matcher], label="open_escrow")
        assign(world, ref, nodes[0])
        steps += ["open_escrow", "assign"]
    if len(nodes) > 1:
        world.pass_ms(2_000)
        last = voucher(world, ref, nodes[0], 1, 1_000)
        world.pass_ms(PARAMS.lost_after)
        release(world, ref, nodes[0], last)
        assign(world, ref, nodes[1])
        world.pass_ms(PARAMS.contest + 1_000)
        closing = build.close_contest(ref, nodes[0].ref(world), meter.pubkey())
        world.send(closing, signers=[meter], label="close_contest")
        steps += ["release_node", "assign", "close_contest"]
    world.pass_ms(1_000)
    finish(world, ref, nodes[-1], 1, 1_000)
    steps.append("settle")
    return Flow(name, tuple(steps), sum(cost.signatures for costs in world.costs.values() for cost in costs))


def _first_claim(world: World, escrow: EscrowRef, node: Node, nonce: int) -> SignedClaim:
    """The node's consent to an escrow that is opened in the same transaction."""
    opened = terms(nonce)
    message = ClaimMessage(
        program_id=bytes(PROGRAM),
        genesis_hash=GENESIS,
        escrow=bytes(world.build.escrow_address(escrow)),
        attempt=1,
        market=bytes(escrow.market),
        node=bytes(node.address(world)),
        class_id=world.node(node.key).class_id,
        price_per_hour=opened.ceiling_price,
        remaining_max_ms=opened.max_time_ms,
        remaining_deposit=opened.deposit,
        terms_hash=opened.terms_hash,
        fee_bps=FEES,
        at_ms=world.chain_ms,
    )
    return SignedClaim(message, node.key.pubkey(), node.key.sign_message(message.signing_bytes()))
