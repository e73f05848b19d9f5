"""A delegator's whole life on real processes: stake, earn, lose to an over-claim, leave; each amount is the model's."""

import base64
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from solders.pubkey import Pubkey

from marketplace.chain import events as ev
from marketplace.chain.accounts import ConfigAccount, EscrowAccount, NodeAccount, PoolAccount, PositionAccount
from marketplace.chain.addresses import associated_token_address
from marketplace.chain.builders import CallBuilder, Deployment, EscrowRef, NodeRef, SignedVoucher
from marketplace.chain.constants import LOCALNET
from marketplace.chain.ed25519 import verify_instruction
from marketplace.chain.logs import read_events
from marketplace.chain.program import AnchorCodec, transfer_tokens
from marketplace.domain.money import amount_due
from marketplace.domain.quantities import Millis, Shares, Tokens
from marketplace.domain.reasons import Reason
from marketplace.protocol.addresses import address_bytes
from marketplace.protocol.vouchers import VoucherMessage, VoucherState
from scripts.job_money import units
from scripts.local_stack import NodeFolder, Stack, engine
from tests.e2e.conftest import HEARTBEAT_S
from tests.e2e.stake_ledger import Ledger
from tests.e2e.test_jobs import TERMINAL, money_is_conserved, run

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.xdist_group("stack-stake"), pytest.mark.timeout(900)]

TOKEN = 1_000_000
"""Base units: both mints of the localnet have 6 decimals."""
STAKE, FIRST_LEFT, EMISSION = 300 * TOKEN, 100 * TOKEN, 1_000 * TOKEN
COMMISSION_BPS = 500
ABSURD_MS = 1_000 * 3_600_000
"""Signed for a job that is seconds old."""
LONG_S = 45
"""Of the job that is over-claimed: longer than a busy machine needs to prove it; meanwhile the first ticket ripens."""
AccountT = TypeVar("AccountT")


@dataclass
class Chain:
    """The stack's chain, read without the market."""

    stack: Stack
    codec: AnchorCodec
    calls: CallBuilder
    known: dict[str, list[tuple[ev.ProgramEvent, int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: Stack) -> "Chain":
        chain = stack.get("/v1/constants")["chain"]
        program = Pubkey.from_string(chain["program_id"])
        deployment = Deployment(
            program,
            address_bytes(chain["genesis_hash"]),
            Pubkey.from_string(chain["payment_mint"]),
            Pubkey.from_string(chain["stake_mint"]),
            chain["decimals"],
            chain["stake_decimals"],
        )
        return cls(stack, AnchorCodec(program), CallBuilder(deployment))

    def find(self, kind: type[AccountT], address: Pubkey) -> AccountT | None:
        data = self._data(address)
        return None if data is None else self.codec.account_data(kind, data)

    def _data(self, address: Pubkey) -> bytes | None:
        options = {"encoding": "base64", "commitment": "confirmed"}
        account = self.stack.rpc("getAccountInfo", str(address), options)["value"]
        return None if account is None else base64.b64decode(account["data"][0])

    def get(self, kind: type[AccountT], address: Pubkey) -> AccountT:
        found = self.find(kind, address)
        assert found is not None, f"no {kind.__name__} at {address}"
        return found

    def config(self) -> ConfigAccount:
        return self.get(ConfigAccount, self.calls.addresses.config())

    def tokens(self, account: Pubkey) -> int:
        """Balance of a token account; 0 where there is none."""
        data = self._data(account)
        return 0 if data is None else int.from_bytes(data[64:72], "little")

    def wallet(self, owner: Pubkey) -> tuple[int, int]:
        """What a wallet holds: payment, stake."""
        mints = (self.calls.deployment.payment_mint, self.calls.deployment.stake_mint)
        payment, stake = (self.tokens(associated_token_address(owner, mint)) for mint in mints)
        return payment, stake

    def signatures(self) -> list[str]:
        """All transactions with the program, oldest first."""
        options = {"limit": 1_000, "commitment": "confirmed"}
        found = self.stack.rpc("getSignaturesForAddress", str(self.codec.program), options)
        assert len(found) < 1_000, "more than one page"
        return [entry["signature"] for entry in reversed(found) if entry["err"] is None]

    def events(self) -> list[tuple[ev.ProgramEvent, int]]:
        """Every event of the program in order, each with its chain time in milliseconds."""
        signatures = self.signatures()
        for signature in signatures:
            if signature not in self.known:
                options = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
                found = self.stack.rpc("getTransaction", signature, options)
                log = read_events(found["meta"]["logMessages"], self.codec)
                assert (log.truncated, log.unknown) == (False, 0)
                self.known[signature] = [(event, found["blockTime"] * 1_000) for event in log.events]
        return [entry for signature in signatures for entry in self.known[signature]]

    def ledger(self) -> Ledger:
        """The model of everything that has happened. Raises LedgerDiffers where an event says something else."""
        scheduled = LOCALNET.first_emission * TOKEN
        ledger = Ledger(self.config(), scheduled=scheduled, vault=EMISSION)
        for event, at in self.events():
            ledger.take(event, at)
        return ledger

    def checked(self) -> Ledger:
        """The model, after the chain's accounts were held against it: config, emission vault, all pools and positions."""
        at = self.calls.addresses
        while True:
            before = self.signatures()
            ledger, config = self.ledger(), self.config()
            pools = {
                address: (
                    self.get(PoolAccount, address),
                    self.tokens(at.pool_stake(address)),
                    self.tokens(at.pool_fees(address)),
                    [self.find(PositionAccount, at.position(address, owner)) for owner in pool.positions],
                )
                for address, pool in ledger.pools.items()
            }
            vault = self.tokens(at.emission())
            if self.signatures() == before:
                break
            # something landed while we read: the parts are of different moments
        ledger.check_config(config)
        assert vault == ledger.vault
        for address, (pool, stake_vault, fee_vault, positions) in pools.items():
            ledger.check_pool(address, pool)
            assert stake_vault == pool.active_stake + pool.unbonding_stake + pool.emission_unclaimed
            assert fee_vault == pool.fees_unclaimed
            for position in positions:
                if position is not None:
                    ledger.check_position(address, position)
        return ledger


@dataclass
class Delegator:
    """A wallet that stakes by the command line."""

    chain: Chain
    file: Path
    pool: Pubkey

    @property
    def key(self) -> Pubkey:
        return Stack.keypair_of(self.file).pubkey()

    def do(self, *words: str) -> tuple[int, int]:
        """A command of `reaver stake`; by how much the wallet's payment and stake tokens grew."""
        before = self.chain.wallet(self.key)
        self.chain.stack.reaver("stake", *words, "--yes", wallet=self.file)
        after = self.chain.wallet(self.key)
        return after[0] - before[0], after[1] - before[1]

    def position(self) -> dict[str, Any] | None:
        """As `reaver stake positions` shows it."""
        found = self.chain.stack.reaver("stake", "positions", wallet=self.file)["positions"]
        return found[0] if found else None

    def last(self, kind: type[AccountT]) -> AccountT:
        """The last event of a kind in the chain's history."""
        return next(event for event, _ in reversed(self.chain.events()) if isinstance(event, kind))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, image_names: dict[str, str]) -> Iterator[Stack]:
    """A market of its own, for its nodes are slashed."""
    running = Stack(tmp_path_factory.mktemp("stake-stack"), docker_host=engine(), heartbeat_s=HEARTBEAT_S)
    try:
        running.start_chain()
        running.init_market()
        running.start_market()
        running.create_wallet(deposit="200", payment="200")
        for name in ("alpha", "beta"):
            # a price of which whole units of fees are left for a second's work
            running.add_node(name, floor="0.05", check_image=image_names["busybox"])
            running.start_node(name)
        running.reaver(
            "allow", "grant", "--per-job", "50", "--per-day", "200", "--total", "200", "--max-price-per-hour", "300",
            "--expires", "1d",
        )  # fmt: skip
        yield running
    finally:
        if "REAVER_KEEP_LOGS" in os.environ:
            print(running.last_words())
        running.stop()


@pytest.fixture
def chain(stack: Stack) -> Chain:
    return Chain.of(stack)


def test_a_delegators_whole_life(stack: Stack, chain: Chain, image_names: dict[str, str]) -> None:
    alpha, beta = stack.nodes["alpha"], stack.nodes["beta"]
    pool = chain.calls.addresses.pool(node_address(chain, alpha))
    takes_work(stack, beta, yes=False)
    commission_in_force(stack, alpha)
    fund_emission(stack, chain)

    # stake
    ann = Delegator(chain, stack.create_delegator("ann", stake="1000"), pool)
    assert ann.do("delegate", "--node", alpha.id, "--amount", str(STAKE // TOKEN)) == (0, -STAKE)
    ledger = chain.checked()
    assert ledger.pools[pool].positions[ann.key].shares == STAKE, "a fresh pool's share costs one unit"

    # earn: jobs until an epoch has given its emission
    jobs = 0
    while not ledger.pools[pool].settled(ann.key).earned["emission"]:
        job = paid_job(stack, image_names["busybox"])
        assert job["node_id"] == alpha.id
        jobs += 1
        ledger = drawn_or_over(stack, chain, pool)
    due = ledger.pools[pool].settled(ann.key).earned
    assert due["fees"] > 0
    commission = ledger.pools[pool].rewards["fees"].commission
    assert commission > 0
    # claim: what the position shows is what the model computes is what arrives
    shown = stack.wait_until("the market to show the rewards", lambda: shows(ann, due))
    assert shown["commission_bps"] == COMMISSION_BPS
    assert ann.do("claim", "--all") == (due["fees"], due["emission"])
    assert chain.checked().pools[pool].settled(ann.key).earned == {"fees": 0, "emission": 0}

    # a part leaves; the node over-claims, and both who stay and who leave are slashed
    assert ann.do("unbond", "--node", alpha.id, "--amount", str(FIRST_LEFT // TOKEN)) == (0, 0)
    job_id = run(stack, image_names["busybox"], "sleep", str(LONG_S))
    job = stack.wait_job(job_id, ["running"])
    assert job["node_id"] == alpha.id
    takes_work(stack, beta, yes=True)
    before = chain.checked().pools[pool]
    overclaim(stack, chain, alpha, job)
    ledger = chain.checked()
    after = ledger.pools[pool]
    assert before.active.stake - after.active.stake == before.active.stake // 5 > 0
    assert before.unbonding.stake - after.unbonding.stake == before.unbonding.stake // 5 == FIRST_LEFT // 5
    position = stack.wait_until("the market to show the slash", lambda: slashed(ann, ledger, pool))
    assert units(position["tickets"][0]["value_now"]) == FIRST_LEFT * 4 // 5

    # everything leaves; the renter's job goes on elsewhere and is paid there alone
    assert ann.do("unbond", "--node", alpha.id, "--all") == (0, 0)
    tickets = dict(chain.checked().pools[pool].tickets)
    assert len(tickets) == 2
    stack.wait_until("alpha to end the work that it over-claimed", lambda: not stack.containers(alpha.deployment))
    stack.wait_job(job_id, TERMINAL, 150)
    job = stack.wait_settled(job_id)
    assert (job["status"], job["reason"], job["exit_code"]) == ("completed", "completed", 0), job
    first, second = job["attempts"]
    assert (first["end_reason"], units(first["paid"])) == ("overclaim", 0)
    assert (second["end_reason"], second["node_id"]) == ("completed", beta.id)
    assert units(second["paid"]) == units(job["settlement"]["paid"]) > 0
    assert units(job["settlement"]["compensation"]["amount"]) == 0, "an over-claim compensates nobody"
    money_is_conserved(stack, job)

    # wait for the unlock, withdraw
    stack.wait_until("both tickets to unlock", lambda: ripe(ann), 150)
    worth = chain.checked().pools[pool]
    paid = ann.do("withdraw")
    withdrawn = [event for event, _ in chain.events() if isinstance(event, ev.TicketWithdrawnEvent)]
    assert len(withdrawn) == 2
    assert paid == (0, sum(event.amount for event in withdrawn))
    assert paid[1] == worth.unbonding.stake, "nobody else was leaving"

    # the last rewards, and the account is gone
    due = chain.checked().pools[pool].settled(ann.key).earned
    if any(due.values()):
        assert ann.do("claim", "--all") == (due["fees"], due["emission"])
    assert chain.find(PositionAccount, chain.calls.addresses.position(pool, ann.key)) is None
    claims = [event for event, _ in chain.events() if isinstance(event, ev.RewardsClaimedEvent)]
    earned = sum(event.fees for event in claims), sum(event.emission for event in claims)
    assert chain.wallet(ann.key) == (earned[0], 1_000 * TOKEN - STAKE + paid[1] + earned[1])
    told = stack.wait_until("the history", lambda: history(stack, ann, 7 + len(claims)))
    assert {entry["type"] for entry in told} == {
        "delegated", "claimed", "unbonded", "slashed", "slashed_unbonding", "withdrawn",
    }  # fmt: skip

    # the slashed node goes on; nothing went wrong that nobody saw
    takes_work(stack, beta, yes=False)
    job = paid_job(stack, image_names["busybox"])
    assert job["node_id"] == alpha.id
    chain.checked()
    for process in stack.processes():
        assert process.alive
        assert "Traceback" not in process.log.read_text(), process.name


def takes_work(stack: Stack, node: NodeFolder, *, yes: bool) -> None:
    stack.command("reaver-node", "undrain" if yes else "drain", "--config", str(node.config))
    stack.wait_until(f"{node.name} to take {'' if yes else 'no '}work", lambda: stack.node_is_available(node.id) is yes)


def commission_in_force(stack: Stack, node: NodeFolder) -> None:
    stack.command(
        "reaver-node", "commission", "--bps", str(COMMISSION_BPS), "--yes", "--config", str(node.config),
    )  # fmt: skip
    stack.wait_until(
        "the commission to hold",
        lambda: stack.get(f"/v1/nodes/{node.id}/pool", wallet=True)["commission_bps"] == COMMISSION_BPS,
    )


def fund_emission(stack: Stack, chain: Chain) -> None:
    """Emission comes from a plain transfer of anybody's."""
    funder = Stack.keypair_of(stack.create_delegator("funder", stake=str(EMISSION // TOKEN)))
    mint, vault = chain.calls.deployment.stake_mint, chain.calls.addresses.emission()
    source = associated_token_address(funder.pubkey(), mint)
    before = chain.tokens(vault)
    assert before == 0
    stack.send([transfer_tokens(source, mint, vault, funder.pubkey(), EMISSION, 6)], funder)


def node_address(chain: Chain, node: NodeFolder) -> Pubkey:
    return chain.calls.addresses.node(Stack.keypair_of(node.home / "node.json").pubkey())


def paid_job(stack: Stack, image: str) -> dict[str, Any]:
    job_id = run(stack, image, "sleep", "1")
    stack.wait_job(job_id, TERMINAL)
    job = stack.wait_settled(job_id)
    assert job["status"] == "completed"
    money_is_conserved(stack, job)
    return job


def drawn_or_over(stack: Stack, chain: Chain, pool: Pubkey) -> Ledger:
    """The checked ledger once a pool drew an emission, or once no epoch of the work until now can be drawn any more.

    The crank has half an epoch to register: a machine too busy for that gets another job's chance.
    """
    config, (_, began) = chain.config(), chain.events()[-1]
    last = (began - config.epoch_start) // config.epoch_length

    def drawn() -> bool:
        return any(isinstance(event, ev.DistributedEvent) and event.pool == pool for event, _ in chain.events())

    stack.wait_until("an emission", lambda: drawn() or chain.config().next_epoch > last, 150)
    # a closed epoch is distributed in the crank's same round
    stack.wait_until("its distribution", lambda: drawn() or chain.config().next_epoch > last + 2, 150)
    return chain.checked()


def shows(ann: Delegator, due: dict[str, int]) -> dict[str, Any] | None:
    position = ann.position()
    if position is None:
        return None
    pending = position["pending"]
    return position if (units(pending["payment"]), units(pending["stake"])) == (due["fees"], due["emission"]) else None


def slashed(ann: Delegator, ledger: Ledger, pool: Pubkey) -> dict[str, Any] | None:
    """The position, once its stake is what the model says it is worth."""
    position, model = ann.position(), ledger.pools[pool]
    worth = model.active.stake_for_floor(Shares(model.positions[ann.key].shares))
    return position if position is not None and units(position["stake"]) == worth else None


def ripe(ann: Delegator) -> bool:
    position = ann.position()
    return position is not None and all(ticket["ready"] for ticket in position["tickets"])


def history(stack: Stack, ann: Delegator, count: int) -> list[dict[str, Any]] | None:
    told = stack.reaver("stake", "history", "--limit", "100", wallet=ann.file)["history"]
    return told if len(told) == count else None


def overclaim(stack: Stack, chain: Chain, node: NodeFolder, job: dict[str, Any]) -> None:
    """The node's key signs for a thousand hours of a job that is seconds old; somebody shows that to the chain."""
    address = Pubkey.from_string(job["settlement"]["escrow"])
    escrow = chain.get(EscrowAccount, address)
    key, prover = Stack.keypair_of(node.home / "node.json"), Stack.keypair_of(stack.home / "funder.json")
    attempt, deployment = escrow.attempt, chain.calls.deployment
    now = chain.stack.rpc("getBlockTime", chain.stack.rpc("getSlot", {"commitment": "confirmed"})) * 1_000
    message = VoucherMessage(
        program_id=bytes(deployment.program),
        genesis_hash=deployment.genesis_hash,
        escrow=bytes(address),
        attempt=attempt.number,
        wallet=bytes(escrow.wallet),
        node=bytes(attempt.node),
        sequence=1_000,
        started_at_ms=attempt.started_at or attempt.assigned_at,
        at_ms=now,
        billed_ms=ABSURD_MS,
        amount=int(amount_due(Tokens(attempt.price), Millis(ABSURD_MS))),
        state=VoucherState.RUNNING,
        reason=int(Reason.RUNNING),
        digest=bytes(32),
    )
    lie = SignedVoucher(message, key.pubkey(), attempt.meter, node_signature=key.sign_message(message.signing_bytes()))
    ref = NodeRef.of(chain.get(NodeAccount, attempt.node))
    proof = chain.calls.prove_overclaim(EscrowRef.of(escrow), ref, prover.pubkey(), lie)
    checks = [verify_instruction(check) for check in proof.checks]
    stack.send([*checks, chain.codec.instruction(proof.call)], prover)
