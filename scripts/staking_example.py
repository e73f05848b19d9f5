"""The worked example of docs/staking.md: a pool's life on the real program in LiteSVM, with the published defaults.

usage: scripts/staking-example [--write]
  --write   put the output between the markers of docs/staking.md

The program is REAVER_PROGRAM, or the committed one. The keys and the clock are fixed, so the output is too. Whatever is
printed was read from the chain's accounts; each payment is compared with what domain/staking.py said before it.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from marketplace.chain.accounts import PoolAccount, PositionAccount
from marketplace.chain.builders import EscrowRef
from marketplace.chain.constants import DEFAULT
from marketplace.domain.quantities import Shares, Stake
from marketplace.domain.staking import Bucket, pending_reward
from tests.program.flows import (
    Node,
    assign,
    close_contest,
    finish,
    open_escrow,
    own_escrow,
    release,
    send,
    settle,
    voucher,
)
from tests.program.stake_flows import claim, delegate, delegator, set_commission, unbond, withdraw_ticket
from tests.program.world import ADMIN, CPU, Refused, World, bare_world, initialize

PAGE = Path(__file__).resolve().parent.parent / "docs/staking.md"
BEGIN, END = "<!-- scripts/staking-example: begin -->", "<!-- scripts/staking-example: end -->"
TOKEN = 1_000_000
"""Base units of a token: both mints have 6 decimals here."""
MINUTE = 60_000
HOUR = 60 * MINUTE
PRICE = 10 * TOKEN
"""Per hour."""
PARAMS = DEFAULT.params(6, 6)
EPOCH = DEFAULT.windows.epoch_length
FIRST_EMISSION = 3 * TOKEN
BOND, OTHER_BOND, ANNS, BOBS = 100 * TOKEN, 500 * TOKEN, 300 * TOKEN, 100 * TOKEN
OVERCLAIM_HOURS = 1_000


class ExampleDiffers(Exception):
    """The chain did something else than domain/staking.py computes."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one owner: active stake, tickets, rewards that wait; base units."""

    stake: int = 0
    tickets: int = 0
    fees: int = 0
    emission: int = 0


@dataclass(slots=True)
class Purse:
    """What a person put in and got out; base units."""

    put_in: int = 0
    stake: int = 0
    fees: int = 0
    emission: int = 0


@dataclass
class Example:
    """One pool: Olga's node, Ann and Bob who stake on it."""

    world: World
    node: Node
    ann: Keypair
    bob: Keypair
    renter: Keypair
    began_ms: int
    lines: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    purses: dict[str, Purse] = field(default_factory=dict)
    nonce: int = 0

    # telling

    def tell(self, *text: str) -> None:
        """Adds a step, and the state after it."""
        number = len(self.rows) + 1
        passed = self.world.chain_ms - self.began_ms
        day, rest = divmod(passed, 24 * HOUR)
        when = f"day {day:2} {rest // HOUR:02}:{rest % HOUR // MINUTE:02}"
        self.lines.append(f"{number:2}  {when}  {text[0]}")
        self.lines.extend(f"{'':19}{line}" for line in text[1:])
        olga, ann, bob = (self.worth(who) for who in (self.node.operator, self.ann, self.bob))
        numbers = (
            *(ann.stake, bob.stake, olga.stake, ann.tickets + bob.tickets + olga.tickets),
            *(ann.fees, bob.fees, olga.fees, ann.emission, bob.emission, olga.emission),
        )
        self.rows.append(f"{number:2}" + "".join(f"{shown(n):>12}" for n in numbers))

    # reading

    @property
    def pool(self) -> PoolAccount:
        return self.world.pool(self.node.key)

    def worth(self, who: Keypair) -> Worth:
        """What the owner's part is worth at this moment."""
        pool = self.pool
        address = self.world.build.addresses.position(self.pool_address, who.pubkey())
        if not self.world.exists(address):
            return Worth()
        position = self.world.read(PositionAccount, address)
        active = Bucket(Stake(pool.active_stake), Shares(pool.active_shares))
        unbonding = Bucket(Stake(pool.unbonding_stake), Shares(pool.unbonding_shares))
        shares = Shares(position.shares)
        fees = pending_reward(shares, pool.fees, position.fees_paid, position.fees_earned)
        emission = pending_reward(shares, pool.emission, position.emission_paid, position.emission_earned)
        if position.is_operator:
            fees, emission = fees + pool.commission_fees, emission + pool.commission_emission
        tickets = 0
        for index in range(position.next_ticket):
            if self.world.exists(self.world.build.addresses.ticket(address, index)):
                ticket = self.world.ticket(self.node.key, who, index)
                tickets += unbonding.stake_for_floor(Shares(ticket.shares))
        return Worth(active.stake_for_floor(shares), tickets, fees, emission)

    @property
    def pool_address(self) -> Pubkey:
        return self.world.build.addresses.pool(self.node.address(self.world))

    def balances(self, who: Keypair) -> tuple[int, int]:
        """(payment, stake) tokens of a wallet."""
        world = self.world
        return world.tokens(world.payment_account(who.pubkey())), world.tokens(world.stake_account(who.pubkey()))

    # acting

    def put_in(self, name: str, who: Keypair, amount: int) -> None:
        delegate(self.world, self.node, who, amount)
        self.purses[name] = Purse(put_in=amount)

    def take_rewards(self, name: str, who: Keypair) -> tuple[int, int]:
        """Claims; (payment, stake) tokens that arrived. Raises ExampleDiffers unless they are what waited."""
        waiting, before = self.worth(who), self.balances(who)
        claim(self.world, self.node, who)
        fees, emission = (now - then for now, then in zip(self.balances(who), before, strict=True))
        require((fees, emission) == (waiting.fees, waiting.emission), f"{name}'s claim")
        purse = self.purses[name]
        purse.fees += fees
        purse.emission += emission
        return fees, emission

    def take_ticket(self, name: str, who: Keypair) -> int:
        """Withdraws the first ticket; what arrived."""
        waiting, before = self.worth(who), self.balances(who)
        withdraw_ticket(self.world, self.node, who)
        paid = self.balances(who)[1] - before[1]
        require(paid == waiting.tickets, f"{name}'s ticket")
        self.purses[name].stake += paid
        return paid

    def begin(self, node: Node, hours: int) -> EscrowRef:
        """A job of that many hours at most, assigned."""
        self.nonce += 1
        escrow = own_escrow(self.world, self.renter, self.nonce)
        open_escrow(
            self.world,
            self.renter,
            escrow,
            deposit=PRICE * hours,
            ceiling_price=PRICE,
            max_time_ms=hours * HOUR,
        )
        assign(self.world, escrow, node)
        return escrow

    def finish(self, escrow: EscrowRef, node: Node, hours: int) -> None:
        finish(self.world, escrow, node, 1, hours * HOUR)

    def pass_until(self, day: int, hour: int = 0) -> None:
        self.world.pass_ms(self.began_ms + (24 * day + hour) * HOUR - self.world.chain_ms)


def require(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion that no flag turns off
    if not holds:
        raise ExampleDiffers(what)


def shown(amount: int) -> str:
    """Base units as tokens with all 6 decimals."""
    return f"{amount // TOKEN}.{amount % TOKEN:06}"


def started() -> tuple[Example, Node]:
    """A deployment with the published defaults at the first moment of epoch 0, Olga's node, and another one."""
    world = bare_world()
    initialize(world, params=PARAMS, epoch_ms=EPOCH, first_emission=FIRST_EMISSION)
    world.send(
        world.build.set_class(
            world.payer.pubkey(), ADMIN.pubkey(), CPU, DEFAULT.class_bonds["cpu-small"] * TOKEN, enabled=True
        ),
        signers=[world.payer, ADMIN],
    )
    world.send(
        world.build.register_market(
            world.payer.pubkey(),
            world.authority.pubkey(),
            world.matcher.pubkey(),
            world.meter.pubkey(),
            DEFAULT.market_fee_bps,
        ),
        signers=[world.payer, world.authority],
    )
    addresses, deployment = world.build.addresses, world.build.deployment
    world.put_token(addresses.emission(), deployment.stake_mint, addresses.config(), 1_000 * TOKEN)
    began = world.config().epoch_start
    world.pass_ms(max(0, began - world.chain_ms))
    node = Node(*world.operator("Olga", bond=BOND, commission_bps=1_000))
    other = Node(*world.operator("somebody", bond=OTHER_BOND))
    ann = delegator(world, "Ann", stake=ANNS)
    bob = delegator(world, "Bob", stake=BOBS)
    renter = world.renter("renter", payment=20_000 * TOKEN, vault=20_000 * TOKEN)
    return Example(world, node, ann, bob, renter, began), other


def staking_and_earning(example: Example, other: Node) -> None:
    """Stake, a paid job, an epoch's emission, a claim, another commission."""
    world, node = example.world, example.node
    example.purses["Olga"] = Purse(put_in=BOND)
    example.tell("Olga registers a node: bond 100, commission 10 %.")
    example.put_in("Ann", example.ann, ANNS)
    example.tell("Ann stakes 300.")
    example.put_in("Bob", example.bob, BOBS)
    example.tell("Bob stakes 100. The pool holds 500.")

    long, short = example.begin(node, 20), example.begin(other, 5)
    world.pass_ms(5 * HOUR)
    example.finish(short, other, 5)
    world.pass_ms(15 * HOUR)
    before = example.pool.fees_unclaimed
    example.finish(long, node, 20)
    pool = example.pool
    example.tell(
        "A job of 20 h at 10 an hour has paid 200. Fees 10: protocol 2, market 4,",
        f"stakers {shown(pool.fees_unclaimed - before)}; of these {shown(pool.commission_fees)} are Olga's commission.",
    )

    example.pass_until(1)
    for each in (node, other):
        call = world.build.register_weight(world.payer.pubkey(), each.address(world), 0)
        world.send(call, signers=[world.payer])
    weights = [world.node(each.key).epochs[0].weight for each in (node, other)]
    example.tell(
        f"Epoch 0 is over. Weights are registered: {shown(weights[0])} here,",
        f"{shown(weights[1])} of a pool elsewhere, whose job paid 50.",
    )

    example.pass_until(1, 12)
    world.send(world.build.close_epoch(world.payer.pubkey(), 0, world.payer.pubkey()), signers=[world.payer])
    emission = world.config().committed_emission
    parts = []
    for each in (node, other):
        draw = world.build.distribute(world.payer.pubkey(), each.address(world), 0, world.payer.pubkey())
        world.send(draw, signers=[world.payer])
        parts.append(world.pool(each.key).emission_unclaimed)
    example.tell(
        f"The epoch gives {shown(emission)}, half to each by weight. Here {shown(parts[0])},",
        f"commission {shown(example.pool.commission_emission)}. Elsewhere {shown(parts[1])}: "
        "no more than its protocol fees.",
    )

    fees, drawn = example.take_rewards("Ann", example.ann)
    example.tell(f"Ann claims: {shown(fees)} payment tokens, {shown(drawn)} stake tokens.")

    set_commission(world, node, 1_500)
    example.tell("Olga announces a commission of 15 %. It holds a day later.")
    example.pass_until(2, 12)
    job = example.begin(node, 5)
    world.pass_ms(5 * HOUR)
    before, commission = example.pool.fees_unclaimed, example.pool.commission_fees
    example.finish(job, node, 5)
    pool = example.pool
    example.tell(
        f"A job has paid 50, stakers {shown(pool.fees_unclaimed - before)}. Olga's commission of it is 15 %:",
        f"{shown(pool.commission_fees - commission)}.",
    )


def losing_and_leaving(example: Example) -> int:
    """A lost attempt, unbonding, an over-claim, the way out. Returns what the slash took, in base units."""
    world, node = example.world, example.node
    lost = example.begin(node, 10)
    world.pass_ms(6 * HOUR)
    settle(world, lost, node, voucher(world, lost, node, 1, 6 * HOUR))
    world.pass_ms(PARAMS.lost_after)
    release(world, lost, node)
    world.pass_ms(PARAMS.contest + 1_000)
    close_contest(world, lost, node)
    owed = world.vault(example.renter).compensation_owed
    example.tell(
        "The node dies after 6 h of a job, for which 60 were paid. The renter is owed",
        f"{shown(owed)} stake tokens, a fifth of 60: out of Olga's bond. Ann and Bob lose nothing.",
    )

    unbond(world, node, example.bob)
    example.tell("Bob unbonds everything: a ticket that opens in 14 days.")

    lie = example.begin(node, 2)
    world.pass_ms(HOUR)
    before = world.tokens(world.build.addresses.emission())
    signed = voucher(world, lie, node, 1, OVERCLAIM_HOURS * HOUR)
    proof = world.build.prove_overclaim(lie, node.ref(world), world.payer.pubkey(), signed)
    send(world, proof, world.payer)
    slashed = world.tokens(world.build.addresses.emission()) - before
    example.tell(
        f"The node signs for {OVERCLAIM_HOURS:,} h in a job that is an hour old. Somebody proves it: a fifth",
        f"of all stake and of all tickets is gone, {shown(slashed)}, into the emission vault.",
    )

    try:
        withdraw_ticket(world, node, example.bob)
    except Refused as refusal:
        example.tell(f"Bob wants his ticket paid. Refused: {refusal.name}.")
    else:
        raise ExampleDiffers("a locked ticket was paid")
    unbond(world, node, example.ann)
    example.tell("Ann unbonds everything.")
    world.pass_ms(PARAMS.contest + 1_000)
    close_contest(world, lie, node)

    world.pass_ms(PARAMS.unbonding)
    paid = example.take_ticket("Bob", example.bob)
    fees, drawn = example.take_rewards("Bob", example.bob)
    example.tell(
        f"Bob withdraws {shown(paid)} and claims {shown(fees)} payment tokens",
        f"and {shown(drawn)} stake tokens. His account is closed, its rent is back.",
    )
    paid = example.take_ticket("Ann", example.ann)
    fees, drawn = example.take_rewards("Ann", example.ann)
    example.tell(
        f"Ann withdraws {shown(paid)} and claims {shown(fees)} payment tokens",
        f"and {shown(drawn)} stake tokens. Her account is closed, its rent is back.",
    )
    fees, drawn = example.take_rewards("Olga", node.operator)
    example.tell(f"Olga claims {shown(fees)} payment tokens and {shown(drawn)} stake tokens, commission included.")
    return slashed


def told() -> str:
    """The whole output. Raises ExampleDiffers."""
    example, other = started()
    staking_and_earning(example, other)
    slashed = losing_and_leaving(example)
    world, pool = example.world, example.pool
    example.purses["Olga"].stake = example.worth(example.node.operator).stake
    owed = world.vault(example.renter).compensation_owed
    drawn = sum(purse.emission for purse in example.purses.values())
    left = world.tokens(pool.stake_vault) - example.purses["Olga"].stake
    staked, returned = (
        sum(purse.put_in for purse in example.purses.values()),
        sum(purse.stake for purse in example.purses.values()),
    )
    emission = world.config().distributed_emission - world.pool(other.key).emission_unclaimed
    require(staked + emission == returned + drawn + owed + slashed + left, "conservation of stake tokens")
    kinds = (
        ("    worth now (stake tokens)", 48),
        ("    fees that wait (payment)", 36),
        ("    emission that waits (stake)", 36),
    )
    heads = ("Ann", "Bob", "Olga", "tickets", *("Ann", "Bob", "Olga") * 2)
    totals = [
        f"{name:<6}" + "".join(f"{shown(n):>14}" for n in (purse.put_in, purse.stake, purse.emission, purse.fees))
        for name, purse in example.purses.items()
    ]
    return "\n".join(
        [
            *example.lines,
            "",
            "  " + "".join(f"{head:<{width}}" for head, width in kinds).rstrip(),
            "  " + "".join(f"{head:>12}" for head in heads),
            *example.rows,
            "",
            f"{'end':<6}" + "".join(f"{head:>14}" for head in ("put in", "got back", "emission", "fees")),
            *totals,
            "Olga's 'got back' is what her bond is worth; it is still in the pool.",
            f"To the renter {shown(owed)}, to the emission vault {shown(slashed)}.",
            f"Left by rounding: {left} base units. Together exactly what came in.",
        ]
    )


def write(text: str) -> None:
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n```\n{text}\n```\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/staking-example", description="The worked example of staking.md.")
    parser.add_argument("--write", action="store_true", help="put it into docs/staking.md")
    arguments = parser.parse_args()
    text = told()
    if arguments.write:
        write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
