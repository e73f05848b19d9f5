"""`reaver crank`: what anybody may do to keep a deployment going, once or in a loop."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, Program, RpcUrl
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import run

if TYPE_CHECKING:
    from marketplace.chain.rpc import RpcClient
    from marketplace.client.keypairs import Keypair
    from marketplace.services.crank import CrankReport

_FOUND_TRIES = 5
"""Chosen: as the market's own crank; after 1.5 s in all what a transaction cost stays unknown."""
_WORDS = {
    "end": ("ended", "epoch {}: what it did not draw is free again"),
    "close": ("closed", "epoch {}: its emission is fixed"),
    "distribute": ("distributed", "epoch {0} to node {1}"),
    "register": ("registered", "the weight of epoch {0} of node {1}"),
    "contest": ("closed", "the contest of escrow {}"),
    "reap": ("reaped", "escrow {}: nobody ended it in time"),
    "sweep": ("swept", "the protocol's fees of market {}"),
}


def crank(
    loop: Annotated[bool, typer.Option("--loop", help="Go on until interrupted.")] = False,
    every: Annotated[
        int, typer.Option("--every", min=1, max=86_400, metavar="SECONDS", help="Between two rounds of --loop.")
    ] = 15,
    only_market: Annotated[
        str | None,
        typer.Option("--only-market", metavar="ADDRESS", help="Look after this market's nodes and escrows only."),
    ] = None,
    sweep_from: Annotated[
        str, typer.Option("--sweep-from", metavar="AMOUNT", help="Sweep fees of at least so many payment tokens.")
    ] = "1",
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    as_json: JsonFlag = False,
) -> None:
    """Do what is due on chain and anybody may do; your wallet pays the transactions' fees.

    \b
    Epochs: weights registered, emission fixed, distributed, ended. Escrows: contests whose
    window has passed, and escrows that nobody ended in time, are closed. Protocol fees are swept.
    Nothing of it needs anybody's leave, and nothing is lost when two do it at once: what
    somebody else has done is refused and changes nothing.

    \b
      reaver crank --rpc http://127.0.0.1:8899
      reaver crank --rpc http://127.0.0.1:8899 --loop --every 30

    \b
    The program is that of the market at --api, or the one named with --program (then no market
    has to answer). Rent of an epoch's account comes back to whoever paid it when the epoch ends.
    """
    output = Output(as_json=as_json)
    if rpc is None:
        raise typer.BadParameter("a crank reads the chain itself: name an endpoint", param_hint="--rpc")
    endpoint = rpc

    async def work() -> None:
        from marketplace.chain.addresses import parse_address
        from marketplace.chain.rpc import RpcClient
        from marketplace.client.keypairs import DEFAULT_KEYPAIR, load_keypair
        from marketplace.logs import configure_logs

        # Standard output is the answer's.
        configure_logs("console", "warning")
        wallet = load_keypair(keypair or DEFAULT_KEYPAIR)
        address = parse_address(program if program is not None else await _program_of(api))
        market = None if only_market is None else parse_address(only_market)
        async with RpcClient([endpoint]) as client, _Cranking(client, address, wallet, market) as cranking:
            limit = await cranking.units(sweep_from)
            while True:
                await _round(output, cranking, limit, loop=loop)
                if not loop:
                    return
                await asyncio.sleep(every)

    try:
        run(output, work)
    except KeyboardInterrupt:
        # A round that was cut off leaves nothing half done: what was sent lands or doesn't, the next one sees it.
        output.note("stopped")
        raise typer.Exit(0 if loop else 130) from None


class _Cranking:
    """A crank on one endpoint, with its sender's loop running beside it."""

    def __init__(self, rpc: "RpcClient", program: Any, wallet: "Keypair", market: Any) -> None:
        self._rpc = rpc
        self._program = program
        self._wallet = wallet
        self._market = market

    async def __aenter__(self) -> Self:
        from solders.signature import Signature
        from solders.transaction import VersionedTransaction

        from marketplace.chain.builders import CallBuilder
        from marketplace.chain.outbox import MemoryOutbox
        from marketplace.chain.program import AnchorCodec
        from marketplace.chain.reader import ChainReader
        from marketplace.chain.sender import Sender
        from marketplace.chain.transactions import Assembler, SignedTransaction, UnsignedTransaction
        from marketplace.services.crank_chain import SolanaCrank

        codec = AnchorCodec(self._program)
        reader = ChainReader(self._rpc, codec)
        self.deployment = await reader.get_deployment()
        sender = Sender(self._rpc, MemoryOutbox(), error_name=codec.error_name)

        def sign(unsigned: UnsignedTransaction) -> SignedTransaction:
            signature = Signature.from_bytes(self._wallet.sign(unsigned.message_bytes))
            raw = bytes(VersionedTransaction.populate(unsigned.message, [signature]))
            return SignedTransaction(raw, signature, unsigned.last_valid_block_height)

        self.chain = SolanaCrank(
            reader,
            CallBuilder(self.deployment),
            Assembler(self._rpc, codec),
            sender,
            self._wallet.address,
            sign,
            self._market,
        )
        self._loop = asyncio.create_task(sender.run())
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)

    async def units(self, amount: str) -> int:
        from marketplace.domain.money import parse_amount

        return parse_amount(amount, self.deployment.payment_decimals)

    async def balance(self) -> int:
        """Lamports of the wallet."""
        return await self._rpc.get_balance(self._wallet.address)

    async def fees(self, report: "CrankReport") -> int:
        """Lamports that the round's transactions cost."""
        from marketplace.chain.addresses import parse_signature

        paid = 0
        for signature in {done.signature for done in report.done}:
            # A validator writes its history a little after it has said that a transaction landed.
            for attempt in range(_FOUND_TRIES):
                landed = await self._rpc.find_transaction(parse_signature(signature))
                if landed is not None:
                    paid += landed.fee_lamports
                    break
                await asyncio.sleep(0.1 * (attempt + 1))
        return paid


async def _program_of(api: str) -> str:
    from marketplace.client.client import ReaverClient

    async with ReaverClient(api) as client:
        return (await client.constants()).chain.program_id


async def _round(output: Output, cranking: _Cranking, sweep_from: int, *, loop: bool) -> None:
    from marketplace.errors import ChainError, InsufficientFunds, TransactionExpired
    from marketplace.services.crank import CrankRules, crank_once

    try:
        before = await cranking.balance()
        if before == 0:
            raise InsufficientFunds(
                f"wallet {cranking.chain.submitter} has no SOL, and a crank pays fees: send it some"
            )
        report = await crank_once(cranking.chain, CrankRules(sweep_from=sweep_from))
        fees, after = await cranking.fees(report), await cranking.balance()
    except (ChainError, TransactionExpired) as error:
        if not loop:
            raise
        # Nothing is known, so nothing is concluded: the next round looks again.
        output.note(f"{error.message}; going on")
        return
    _show(output, report, fees, before - after - fees, loop=loop)


def _show(output: Output, report: "CrankReport", fees: int, rent: int, *, loop: bool) -> None:
    """rent: lamports of new accounts, less what came back from closed ones."""
    from marketplace.domain.instants import instant_text

    if output.as_json:
        facts = {
            "chain_time": instant_text(report.now),
            "done": [{"duty": d.duty.value, "subject": d.subject, "signature": d.signature} for d in report.done],
            "refused": [{"duty": r.duty.value, "subject": r.subject, "because": r.because} for r in report.refused],
            "left": report.left,
            "wake_at": instant_text(report.wake_at),
            "fee_lamports": fees,
            "rent_lamports": rent,
        }
        if loop:
            # One line a round, so that a reader of the stream knows where an object ends.
            print(json.dumps(facts), flush=True)
        else:
            output.json(facts)
        return
    for done in report.done:
        verb, about = _WORDS[done.duty.value]
        output.line(f"{verb} {about.format(*done.subject.split())}  {done.signature}")
    for refused in report.refused:
        output.note(f"not done: {refused.duty.value} {refused.subject} ({refused.because}); somebody else may have")
    if report.done:
        moved = f", {rent} lamports of rent locked" if rent > 0 else f", {-rent} lamports of rent back" if rent else ""
        output.line(f"{len(report.done)} acts for {fees} lamports of fees{moved}")
    elif not loop:
        output.line("nothing is due")
    if report.left:
        output.note(f"{report.left} more are due: run it again")
    if not loop:
        output.note(f"epochs may have more at {instant_text(report.wake_at)}")
