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
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from marketplace.domain.ids import created_at_ms
from scripts.local_stack import BIN, ROOT, Stack, StackError, clean, engine, images

HOME = ROOT / ".reaver" / "demo"
KEPT = HOME / "kept.json"
DECIMALS = 6
LAMPORTS_PER_SIGNATURE = 5_000
FLOOR = "0.00002"
TERMINAL = ("completed", "failed", "cancelled", "timed_out", "expired")

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Two jobs on a whole market of this machine.")
    parser.add_argument("--keep", action="store_true", help="leave everything up; end it with --stop")
    parser.add_argument("--stop", action="store_true", help="end what --keep left up")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    if arguments.json:
        console.stderr = True
    if arguments.stop:
        return stop_kept()
    if KEPT.exists():
        stop_kept()
    stack = Stack(HOME / time.strftime("%Y%m%d-%H%M%S"), docker_host=engine())
    kept = False
    try:
        answer = run(stack)
        if arguments.keep:
            keep(stack)
            kept = True
        if arguments.json:
            print(json.dumps(answer))
        elif arguments.keep:
            console.print("\nEverything is still up. For the CLI:")
            console.print("\n".join(f"  export {name}={value}" for name, value in stack.environment.items()))
            console.print("End it with: scripts/demo --stop")
    except StackError as error:
        console.print("[red]the demo failed:[/]", str(error), markup=True, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: everything is being ended")
        return 130
    finally:
        if not kept:
            stack.stop(remove=True)
    return 0


def keep(stack: Stack) -> None:
    """Notes what is up, so that `--stop` finds it."""
    groups = {p.name: p.running.pid for p in stack.processes() if p.running is not None and p.alive}
    configs = [str(node.config) for node in stack.nodes.values()]
    note = {"home": str(stack.home), "processes": groups, "nodes": configs, "docker": stack.docker_host}
    KEPT.write_text(json.dumps(note))


def stop_kept() -> int:
    """Ends what --keep left; saying so when there is nothing."""
    if not KEPT.exists():
        console.print("nothing is up")
        return 0
    note = json.loads(KEPT.read_text())
    stack = Stack(Path(note["home"]), docker_host=note["docker"])
    for name, pid in reversed(note["processes"].items()):
        command = Path(f"/proc/{pid}/cmdline")
        # the number may belong to somebody else by now
        if command.exists() and b"reaver-" in command.read_bytes():
            console.print(f"ending {name}")
            os.killpg(pid, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while command.exists() and command.read_bytes() and time.monotonic() < deadline:
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    for config in note["nodes"]:
        clean(Path(config))
    KEPT.unlink()
    stack.stop(remove=True)
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
        wallet = stack.create_wallet(deposit="5")
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
    started = time.monotonic()
    stack.reaver("quote", "--gpu", "cpu-small", "--max-minutes", "5", "--disk-gb", "1")
    quote_ms = round((time.monotonic() - started) * 1000)
    job_id = submit(stack, image, seconds=1)
    follow = [str(BIN / "reaver"), "jobs", "follow", job_id]
    code = subprocess.run(
        follow,
        env={**os.environ, **stack.environment, **stack.folders()},
        stdout=sys.stderr if console.stderr else None,
        check=False,
    ).returncode
    job = stack.wait_settled(job_id)
    require(
        job["status"] == "completed" and code == 0,
        f"the job ended {job['status']} ({job['reason']}), exit {code}",
        stack,
    )
    money = Money(stack, job)
    say("\n[bold]The money[/] of the job, in USDC:")
    money.show()
    timings = {"quote": quote_ms, **attempt_timings(job)}
    say(f"In milliseconds: {', '.join(f'{name} {value}' for name, value in timings.items())}.\n")
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
        "two acknowledged vouchers",
        lambda: (j := stack.try_job(job_id)) and j["attempts"][-1]["billed_ms"] >= 4_000 and j,
    )
    victim = next(node for node in stack.nodes.values() if node.id == job["node_id"])
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
    ready_at = moment(lost["ready_at"])
    unpaid = round((killed_at - ready_at) * 1000) - lost["billed_ms"]
    compensation = units(job["settlement"]["compensation"]["amount"])
    require(lost["end_reason"] == "node_lost", f"the first attempt ended as {lost['end_reason']}", stack)
    require(job["attempts"][-1]["node_id"] != lost["node_id"], "the same node was tried again", stack)
    require(compensation > 0, "no compensation was paid", stack)
    money = Money(stack, job)
    table = Table("attempt", "node", "ended", "billed ms", "paid")
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
    say(f"Compensation out of its operator's bond: {job['settlement']['compensation']['amount']} stake tokens.")
    money.show()
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
        "renter_signatures": money.signed_by(stack.address_of(stack.wallet)),
    }


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
    say(stack.command("reaver", "receipt", "verify", str(file), environment=stack.environment).rstrip())
    say("")


class Money:
    """Where the money of one job went: the market's account of it, held against the chain's own transactions."""

    def __init__(self, stack: Stack, job: dict[str, Any]) -> None:
        self.job = job
        self.settlement = job["settlement"]
        self.transactions = [self._transaction(stack, entry) for entry in self.settlement["transactions"]]
        self.signatures = sum(t["fee"] for t in self.transactions) // LAMPORTS_PER_SIGNATURE
        asked = {"encoding": "base64", "commitment": "confirmed"}  # as the market closed its books
        account = stack.rpc("getAccountInfo", self.settlement["escrow"], asked)
        self.rent_left = account["value"]["lamports"] if account["value"] else 0
        require(self.rent_left == 0, f"rent is left in {self.settlement['escrow']}", stack)
        require(
            self.signatures == self.settlement["signatures"], "market and chain count signatures differently", stack
        )
        parts = [self.settlement["operator_received"], *self.settlement["fees"].values()]
        require(sum(map(units, parts)) == units(self.settlement["paid"]), "the parts do not make the payment", stack)
        whole = units(self.settlement["paid"]) + units(self.settlement["refunded"])
        require(whole == units(self.settlement["deposit"]), "deposit is not paid plus refunded", stack)

    @staticmethod
    def _transaction(stack: Stack, entry: Any) -> dict[str, Any]:
        signature = entry["signature"] if isinstance(entry, dict) else entry
        # confirmed: the finalized one follows some slots later
        found = stack.wait_until(
            f"transaction {signature}",
            lambda: stack.rpc(
                "getTransaction", signature, {"commitment": "confirmed", "maxSupportedTransactionVersion": 1}
            ),
        )
        message = found["transaction"]["message"]
        signers = message["accountKeys"][: message["header"]["numRequiredSignatures"]]
        kind = entry.get("kind", "") if isinstance(entry, dict) else ""
        return {"signature": signature, "kind": kind, "fee": found["meta"]["fee"], "signers": signers}

    def signed_by(self, wallet: str) -> int:
        """How many of the job's transactions the wallet signed."""
        return sum(wallet in t["signers"] for t in self.transactions)

    def show(self) -> None:
        s = self.settlement
        table = Table(show_header=False)
        for name, value in (
            ("deposit", s["deposit"]),
            ("price per hour", s["price_per_hour"]),
            ("billed", f"{s['billed_ms']} ms"),
            ("paid", s["paid"]),
            ("  to the operator", s["operator_received"]),
            ("  to the node's stakers", s["fees"]["stakers"]),
            ("  to the market", s["fees"]["market"]),
            ("  to the protocol", s["fees"]["protocol"]),
            ("refunded", s["refunded"]),
            ("rent left on chain", f"{self.rent_left} lamports"),
        ):
            table.add_row(name, value)
        for t in self.transactions:
            table.add_row(
                f"transaction {t['kind']}",
                f"{t['signature'][:20]}…  {t['fee'] // LAMPORTS_PER_SIGNATURE} signatures, {t['fee']} lamports",
            )
        console.print(table)

    def units(self) -> dict[str, Any]:
        s = self.settlement
        return {
            "escrow": s["escrow"],
            "deposit": units(s["deposit"]),
            "billed_ms": s["billed_ms"],
            "price_per_hour": units(s["price_per_hour"]),
            "paid": units(s["paid"]),
            "operator_received": units(s["operator_received"]),
            "fees": {name: units(value) for name, value in s["fees"].items()},
            "refunded": units(s["refunded"]),
            "rent_left_lamports": self.rent_left,
            "signatures": self.signatures,
            "transactions": [t["signature"] for t in self.transactions],
        }


def attempt_timings(job: dict[str, Any]) -> dict[str, int]:
    """Milliseconds between the moments that the market noted for the last attempt."""
    attempt = job["attempts"][-1]
    # the id holds the milliseconds that the seed's `created_at` leaves out
    created = created_at_ms(job["job_id"]) / 1000
    claimed, ready, ended = moment(attempt["claimed_at"]), moment(attempt["ready_at"]), moment(job["completed_at"])
    settled = moment(job["settlement"]["settled_at"])
    return {
        "submit_to_claimed": round((claimed - created) * 1000),
        "claimed_to_running": round((ready - claimed) * 1000),
        "exit_to_paid": round((settled - ended) * 1000),
    }


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def units(amount: str) -> int:
    """Base units of a decimal amount."""
    return int(Decimal(amount) * 10**DECIMALS)


def require(holds: bool, message: str, stack: Stack) -> None:  # noqa: FBT001 - a check reads best so
    if not holds:
        raise StackError(f"{message}\n{stack.last_words()}")


def say(text: str) -> None:
    console.print(text)


@contextlib.contextmanager
def timed(what: str) -> Any:
    """Shows what took how long."""
    started = time.monotonic()
    with console.status(f"{what} …") if console.is_terminal else contextlib.nullcontext():
        yield
    console.print(f"[green]✓[/] {what} [dim]({time.monotonic() - started:.1f} s)[/]")


if __name__ == "__main__":
    sys.exit(main())
