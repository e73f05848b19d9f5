"""What scripts/demo does once the machine is ready: two jobs on a market of this machine, with the money shown.

Every figure comes from the market's API or from the chain; nothing is computed here that they say.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from scripts import demo_folders
from scripts.job_money import Money, attempt_timings, moment, require, units
from scripts.local_stack import BIN, NodeFolder, Stack, StackError, engine, images

if TYPE_CHECKING:
    from pathlib import Path

FLOOR = "0.00002"
TERMINAL = ("completed", "failed", "cancelled", "timed_out", "expired")

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Two jobs on a whole market of this machine.")
    parser.add_argument("--keep", action="store_true", help="leave everything up; end it with --stop")
    parser.add_argument("--stop", action="store_true", help="end what --keep left up")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    # with --json, standard output has the object alone
    console.stderr = arguments.json
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    if arguments.stop:
        return stop()
    for home in demo_folders.abandoned():
        say(f"A demo was killed; ending what it left ({home.name}).")
        demo_folders.remove(home)
    for other in demo_folders.kept():
        say(f"An earlier market is still up ({other.name}); `scripts/demo --stop` ends it.")
    try:
        with demo_folders.new_folder() as home:
            return demo(home, keep=arguments.keep, as_json=arguments.json)
    except KeyboardInterrupt:
        say("Interrupted; everything was ended.")
        return 130


def demo(home: Path, *, keep: bool, as_json: bool) -> int:
    """The whole demo in this folder, which is gone afterwards unless it is kept."""
    stack = Stack(home, docker_host=engine())
    try:
        answer = run(stack)
    except StackError as error:
        console.print("[red]The demo failed:[/]", Text(str(error)), soft_wrap=True)
        end(home)
        return 1
    except BaseException:
        end(home)
        raise
    if keep:
        demo_folders.keep(home)
        say("\nEverything is still up. For the commands in .venv/bin:\n")
        say("\n".join(f"  export {name}={value}" for name, value in stack.environment.items()))
        say("\nEnd it with: scripts/demo --stop")
    else:
        end(home)
    if as_json:
        print(json.dumps(answer))
    return 0


def end(home: Path) -> None:
    """Ends and removes all of it. A second Ctrl-C doesn't cut it short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    demo_folders.remove(home)


def interrupted(*_signal: object) -> NoReturn:
    """Being told to end is cleaned up after, as Ctrl-C is."""
    raise KeyboardInterrupt


def stop() -> int:
    """Ends what --keep left, and what killed demos did; saying so when there is nothing."""
    folders = [*demo_folders.kept(), *demo_folders.abandoned()]
    for home in folders:
        names = demo_folders.remove(home)
        say(f"Ended {home.name}: {', '.join(names) or 'no process was left'}.")
    if not folders:
        say("Nothing is up.")
    return 0


def run(stack: Stack) -> dict[str, Any]:
    """Sets everything up, runs both jobs, and returns what --json prints."""
    say("A market on this machine: local chain, market, two CPU nodes, one renter.")
    say(f"Heartbeats every {stack.heartbeat_s} s and short windows, so that minutes take seconds.")
    with timed("container images built and pushed"):
        names = images()
    with timed("the chain is up"):
        stack.start_chain()
    with timed("the market is set up on it"):
        stack.init_market()
        stack.start_market()
    with timed("a fresh wallet has an open vault"):
        wallet = stack.create_wallet(deposit="5", payment="100")
    with timed("two nodes are bonded and registered"), concurrent.futures.ThreadPoolExecutor(2) as pool:
        # each with its own folder, keys and operator
        list(pool.map(lambda name: stack.add_node(name, floor=FLOOR, check_image=names["busybox"]), ("alpha", "beta")))
    with timed("both nodes take work"):
        for name in stack.nodes:
            stack.start_node(name)
    with timed("the wallet allows the market to spend, within caps"):
        stack.reaver(
            "allow", "grant", "--per-job", "1", "--per-day", "3", "--total", "5", "--max-price-per-hour", "1",
            "--expires", "1d",
        )  # fmt: skip
    say(f"The renter's wallet is {wallet}.\n")
    first = first_job(stack, names["demo"])
    failover = second_job(stack, names["demo"])
    return {"env": stack.environment, "first": first, "failover": failover}


def first_job(stack: Stack, image: str) -> dict[str, Any]:
    """A job of about ten seconds, followed to its end, and its money."""
    say("[bold]A job:[/] hash the repository's lock file for about ten seconds, in a container.")
    stack.token()
    started = time.monotonic()
    quote = stack.post(
        "/v1/quote", {"gpu": "cpu-small", "regions": ["eu"], "maxMinutes": 5, "requirements": {"disk_gb": 1}}
    )
    quote_ms = round((time.monotonic() - started) * 1000)
    say(f"Firm quote: {quote['price_per_hour']} USDC an hour, at most {quote['max_total']} USDC for 5 minutes.")
    job_id = submit(stack, image, seconds=1)
    say(f"{job_id} is submitted; its log:")
    # --json sends the log to standard error, and the finished job, which is shown below, to standard output
    code = subprocess.run(
        [str(BIN / "reaver"), "jobs", "follow", job_id, "--json"],
        env={**os.environ, **stack.environment, **stack.folders()},
        stdout=subprocess.DEVNULL,
        stderr=None if console.stderr else sys.stdout,
        check=False,
    ).returncode
    job = stack.wait_settled(job_id)
    require(
        job["status"] == "completed" and code == 0,
        f"the job ended {job['status']} ({job['reason']}), exit {code}",
        stack,
    )
    money = Money(stack, job)
    say("\n[bold]The money[/] of the job, as the market says it and the chain's transactions have it:")
    show(money)
    timings = {"quote": quote_ms, **attempt_timings(job)}
    say(
        f"The quote took {timings['quote']} ms, submit to claim {timings['submit_to_claimed']} ms, claim to the "
        f"running container {timings['claimed_to_running']} ms, exit to paid {timings['exit_to_paid']} ms.\n"
    )
    say("The receipt, checked offline (`reaver receipt verify`):")
    verify(stack, job_id)
    return {
        "job_id": job_id,
        "status": job["status"],
        "exit_code": job["exit_code"],
        "runtime": job["runtime"],
        "image_digest": job["image_digest"],
        **money.units(),
        "timings_ms": timings,
    }


def second_job(stack: Stack, image: str) -> dict[str, Any]:
    """The same job; its node is killed in the middle, and another one finishes it."""
    say("[bold]A node dies:[/] the same job again, and its node loses power in the middle.")
    job_id = submit(stack, image, seconds=1)
    stack.wait_job(job_id, ["running"])
    job = stack.wait_until(
        "two acknowledged vouchers, and a second of work beyond them",
        lambda: (
            (j := stack.try_job(job_id)) and j["attempts"][-1]["billed_ms"] >= 4_000 and beyond_ms(j) >= 1_000 and j
        ),
    )
    victim = next(node for node in stack.nodes.values() if node.id == job["node_id"])
    bond = bond_of(stack, victim)
    killed_at = time.time()
    victim.process.kill()
    stack.remove_containers(victim)
    say(f"Node {victim.name} is gone: daemon and container killed.")
    job = stack.wait_until(
        "the job to be taken by the other node",
        lambda: (j := stack.try_job(job_id)) and len(j["attempts"]) > 1 and j,
        120,
    )
    say("The market released it, and the other node took over. Nobody signed anything new.")
    job = stack.wait_job(job_id, TERMINAL, 120)
    job = stack.wait_settled(job_id, 120)
    require(job["status"] == "completed", f"the job ended {job['status']} ({job['reason']})", stack)
    lost = job["attempts"][0]
    unpaid = worked_ms(lost, killed_at) - lost["billed_ms"]
    compensation = units(job["settlement"]["compensation"]["amount"])
    require(lost["end_reason"] == "node_lost", f"the first attempt ended as {lost['end_reason']}", stack)
    require(job["attempts"][-1]["node_id"] != lost["node_id"], "the same node was tried again", stack)
    require(compensation > 0, "no compensation was paid", stack)
    money = Money(stack, job)
    table = Table("attempt", "node", "ended", Column("billed ms", justify="right"), "paid, USDC")
    names = {node.id: node.name for node in stack.nodes.values()}
    for attempt in job["attempts"]:
        table.add_row(
            str(attempt["number"]),
            names[attempt["node_id"]],
            attempt["end_reason"],
            str(attempt["billed_ms"]),
            attempt["paid"],
        )
    console.print(table)
    say(f"The dead node was paid to its last acknowledged voucher: {max(unpaid, 0)} ms of its work are unpaid.")
    # a share's value is rounded against the operator by one base unit at most
    stack.wait_until("the bond to be smaller", lambda: abs(bond - bond_of(stack, victim) - compensation) <= 1)
    say(
        f"{job['settlement']['compensation']['amount']} stake tokens of its operator's bond are owed to the renter, "
        "since the contest window ended."
    )
    show(money)
    by_renter = money.signed_by(stack.address_of(stack.wallet))
    require(by_renter == 0, "the renter had to sign again", stack)
    say(f"Transactions of this job that the renter signed: {by_renter}.")
    return {
        "job_id": job_id,
        "status": job["status"],
        "attempts": [
            {
                "node": attempt["node_id"],
                "end_reason": attempt["end_reason"],
                "billed_ms": attempt["billed_ms"],
                "paid": units(attempt["paid"]),
            }
            for attempt in job["attempts"]
        ],
        "lost_ms_unpaid": unpaid,
        "compensation": compensation,
        "rent_left_lamports": money.rent_left,
        "signatures": money.signatures,
        "renter_signatures": by_renter,
    }


def beyond_ms(job: dict[str, Any]) -> int:
    """How long the running attempt has worked since its last acknowledged voucher."""
    attempt = job["attempts"][-1]
    return worked_ms(attempt, time.time()) - int(attempt["billed_ms"])


def worked_ms(attempt: dict[str, Any], until: float) -> int:
    """Milliseconds from ready to then; negative when the clocks of market and demo differ by more."""
    return round((until - moment(attempt["ready_at"])) * 1000)


def bond_of(stack: Stack, node: NodeFolder) -> int:
    """Base units of the stake token in the operator's bond, as the market reads it from the chain."""
    found = stack.get(f"/v1/nodes/{node.id}", wallet=True)
    if found is None:
        raise StackError(f"the market does not answer for {node.id}")
    return units(found["bond"])


def submit(stack: Stack, image: str, *, seconds: int) -> str:
    answer = stack.reaver(
        "run", "--image", image, "--gpu", "cpu-small", "--region", "eu", "--max-minutes", "5", "--disk-gb", "1",
        "--", "demo-job", "/work/data", str(seconds),
    )  # fmt: skip
    return str(answer["job_id"])


def verify(stack: Stack, job_id: str) -> None:
    """The receipt is checked offline, by the command a renter would use."""
    file = stack.home / "receipt.json"
    file.write_text(json.dumps(stack.reaver("jobs", "receipt", job_id)))
    console.print(
        Text(stack.command("reaver", "receipt", "verify", str(file), environment=stack.environment)), soft_wrap=True
    )


def show(money: Money) -> None:
    """Two tables of at most 80 columns: who got what, and the transactions that moved it."""
    s = money.settlement
    amounts = Table(Column(""), Column("", justify="right"), "", show_header=False)
    for name, value, unit in (
        ("locked at the start", s["deposit"], "USDC"),
        ("price per hour", s["price_per_hour"], "USDC"),
        ("time billed", f"{s['billed_ms'] / 1000:.3f}", "s"),
        ("paid", s["paid"], "USDC"),
        ("  to the operator", s["operator_received"], "USDC"),
        ("  to the node's stakers", s["fees"]["stakers"], "USDC"),
        ("  to the market", s["fees"]["market"], "USDC"),
        ("  to the protocol", s["fees"]["protocol"], "USDC"),
        ("back in the renter's vault", s["refunded"], "USDC"),
        ("rent left on chain", str(money.rent_left), "lamports"),
    ):
        amounts.add_row(name, value, unit)
    console.print(amounts)
    sent = Table("transaction", "does", Column("signatures", justify="right"), Column("fee, lamports", justify="right"))
    for t in money.transactions:
        sent.add_row(f"{t.signature[:16]}…", t.kind, str(t.signatures), str(t.fee_lamports))
    sent.add_row("all", "", str(money.signatures), str(sum(t.fee_lamports for t in money.transactions)))
    console.print(sent)


def say(text: str) -> None:
    # in a pipe a line stays a line; a terminal wraps between words
    console.print(text, soft_wrap=not console.is_terminal)


@contextlib.contextmanager
def timed(what: str) -> Any:
    """Shows what took how long."""
    started = time.monotonic()
    with console.status(f"{what} …") if console.is_terminal else contextlib.nullcontext():
        yield
    say(f"[green]✓[/] {what} [dim]({time.monotonic() - started:.1f} s)[/]")


if __name__ == "__main__":
    sys.exit(main())
