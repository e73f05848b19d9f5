"""A market for the benches, in a process of its own: a store with a past, wallets that are logged in, raised limits.

With `--stand-in` the chain is asked nothing and sent nothing: every wallet has an allowance, every opening lands at
once. Everything else is the market's own, over HTTP: credentials, limits, validation, keys, intent, queue, events.
Prints one line of JSON when it serves, and ends with its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pickle
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from solders.keypair import Keypair

from marketplace.app import Market
from marketplace.collector import spare_the_collector
from marketplace.domain.allocations import Allocation, Attempt, AttemptPhase, Opener, allocation_of
from marketplace.domain.ids import AccountId, AllocationId, JobId, NodeId
from marketplace.domain.lifecycle import AllocationState
from marketplace.domain.nonces import WINDOW, NonceWindow
from marketplace.domain.pricing import Priority
from marketplace.domain.quantities import Millis, Tokens
from marketplace.domain.reasons import Reason
from marketplace.logs import configure_logs
from marketplace.services.chain_acts import SolanaChain
from marketplace.services.chain_port import AllowanceView, FundsView, Landed, OpenEscrow, VaultView
from marketplace.services.clock import Ids, SystemClock, SystemRandom
from marketplace.services.live import Change
from marketplace.services.principals import Scope
from marketplace.settings import load_settings
from marketplace.store.allocations import Allocations, Attempts
from marketplace.store.engine import Store
from marketplace.store.log_lines import LogLines, StoredLine
from marketplace.store.logins import Accounts, Login, Logins
from marketplace.store.records import changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marketplace.services.chain_port import Act
    from marketplace.services.live import Live
    from marketplace.store.engine import Transaction

PAST_MS: Final = 30 * 24 * 3600 * 1000
BATCH: Final = 2_000
_RAISED: Final = 1_000_000_000
_SPEC: Final = '{"image":"docker.io/library/busybox:latest","class_id":"cpu-small","limit_ms":300000}'
_RICH: Final = Tokens(10**15)


class StandInChain(SolanaChain):
    """The sender's stand-in: money is always there, and what is to land has landed."""

    live: Live
    opened_before = 0
    """Nonces that each wallet's past has used."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._windows: dict[str, NonceWindow] = {}

    async def find_funds(self, wallet: str) -> FundsView:
        nonces = self._window(wallet)
        allowance = AllowanceView(
            address="stand-in",
            per_escrow=_RICH,
            per_day=_RICH,
            used_today=Tokens(0),
            total=_RICH,
            used_total=Tokens(0),
            max_price_per_hour=_RICH,
            expires_at=Millis(2**60),
            nonces=nonces,
        )
        return FundsView(VaultView("stand-in", _RICH, Tokens(0), nonces), allowance, Tokens(0))

    async def under_way(self, operation: str) -> bool:  # noqa: ARG002
        return False

    async def perform(self, operation: str, acts: Sequence[Act], *, timeout_ms: int = 20_000) -> Landed:  # noqa: ARG002
        for act in acts:
            if isinstance(act, OpenEscrow):
                self._windows[act.wallet] = _with_used(self._window(act.wallet), act.nonce)
                allocation = self.live.find_by_escrow(act.escrow)
                if allocation is not None:
                    await self.live.change(allocation.id, _funded)
        return Landed("stand-in", 0)

    async def absorb(self, signature: str) -> bool:  # noqa: ARG002
        """Everything was taken in by `perform`."""
        return True

    def _window(self, wallet: str) -> NonceWindow:
        return self._windows.get(wallet) or NonceWindow(highest=self.opened_before)


def _with_used(window: NonceWindow, nonce: int) -> NonceWindow:
    used = bytearray(window.used)
    used[nonce % WINDOW // 8] |= 1 << nonce % 8
    return NonceWindow(max(window.highest, nonce), bytes(used))


def _funded(present: Allocation, attempt: Attempt | None) -> Change | None:
    if present.state is not AllocationState.REQUESTED:
        return None
    funded = changed(
        present, state=AllocationState.RESERVING, opening=False, funded_at_ms=int(time.time() * 1000),
        open_signature="stand-in",
    )  # fmt: skip
    return Change(funded, attempt, ("job.queued",))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=100_000, help="finished jobs in the store")
    parser.add_argument("--wallets", type=int, default=2_000, help="wallets that are logged in, and share those jobs")
    parser.add_argument("--running", type=int, default=0, help="jobs that run on one node, each of another wallet")
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--file", type=Path, help="SQLite file instead of the settings' own")
    parser.add_argument("--database", default="", help="URL of a PostgreSQL database instead of a file")
    parser.add_argument("--past", type=Path, help="folder in which the past is kept for the bench's next market")
    parser.add_argument("--profile", type=Path, help="where to write a profile of the event loop, from SIGUSR1 on")
    options = parser.parse_args()
    flags: dict[str, dict[str, Any]] = {"limits": {"wallet": _RAISED, "address": _RAISED, "node": _RAISED}}
    if options.database:
        flags["store"] = {"url": options.database}
    elif options.file:
        flags["store"] = {"path": options.file}
    configure_logs("console", "error", sys.stderr)
    settings = load_settings(options.config, flags)
    past = await kept_past(settings.database, options)
    market = Market.build(settings, chain_kind=StandInChain if options.stand_in else SolanaChain)
    chain = market.jobs.chain
    if isinstance(chain, StandInChain):
        chain.live = market.jobs.live
        chain.opened_before = -(-options.jobs // options.wallets)
        market.jobs.settlement._absorber = chain  # noqa: SLF001 - the other half of the stand-in
    await market.start()
    while not market.readiness.ready:  # noqa: ASYNC110 - what a probe does
        await asyncio.sleep(0.05)
    tokens = [market.tokens.issue(login) for login in past.logins]
    spare_the_collector()
    served = {"process": os.getpid(), "port": market.port, "tokens": tokens, "jobs": past.jobs}
    if past.node is not None:
        served["node"] = {"id": past.node.subject, "token": market.tokens.issue(past.node)}
        served["running"] = [(attempt.allocation_id, attempt.lease_token) for attempt in past.running]
    print(json.dumps(served), flush=True)
    profile = cProfile.Profile(time.thread_time) if options.profile else None
    if profile is not None:
        # Whoever measures has warmed it up by then.
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, profile.enable)
    await asyncio.to_thread(sys.stdin.read)
    if profile is not None:
        profile.disable()
        profile.dump_stats(options.profile)
    await market.stop()


class Past:
    """What was written: a login for each wallet, and for each the id of one finished job.

    running: attempts on `node`, the first one of the first wallet, and so on. node: its login, None where none runs.
    """

    def __init__(self) -> None:
        self.logins: list[Login] = []
        self.jobs: list[JobId] = []
        self.running: list[Attempt] = []
        self.node: Login | None = None


async def kept_past(location: Path | str, options: argparse.Namespace) -> Past:
    """`write_past`, or a copy of what it wrote for an earlier market of this run: a minute less of waiting."""
    if options.past is None or isinstance(location, str):
        return await write_past(location, options.jobs, options.wallets, options.running)
    rows, rest = options.past / "past.sqlite3", options.past / "past.pickle"
    if not rest.exists():
        rest.write_bytes(pickle.dumps(await write_past(rows, options.jobs, options.wallets, options.running)))
    location.parent.mkdir(parents=True, exist_ok=True)
    for rest_of_another in ("-wal", "-shm"):
        location.with_name(location.name + rest_of_another).unlink(missing_ok=True)
    shutil.copyfile(rows, location)
    past: Past = pickle.loads(rest.read_bytes())  # noqa: S301 - written above, in this run
    return past


async def write_past(location: Path | str, jobs: int, wallets: int, running: int = 0) -> Past:
    """Accounts with logins and finished jobs, spread evenly, each with an attempt; the first one with a log.

    running: jobs that run now, one of each of the first wallets.
    """
    past = Past()
    store = Store(location)
    await store.open()
    clock = SystemClock()
    ids = Ids(clock, SystemRandom())
    now = clock.now()
    until = Millis(now + PAST_MS)
    for _ in range(wallets):
        account = AccountId(ids.new("acct"))
        scopes = " ".join(scope.value for scope in Scope)
        past.logins.append(Login(ids.new("login"), account, str(Keypair().pubkey()), scopes, now, until, revoked=False))

    def accounts(tx: Transaction) -> None:
        for login in past.logins:
            Accounts(tx).create(AccountId(login.subject), login.wallet, now)
            Logins(tx).create(login)

    await store.write(accounts)
    for first in range(0, jobs, BATCH):
        rows = [
            _finished(n, n // wallets + 1, past.logins[n % wallets], ids, now - PAST_MS + n * PAST_MS // jobs)
            for n in range(first, min(first + BATCH, jobs))
        ]
        past.jobs += [allocation.job_id for allocation, _ in rows][: max(0, wallets - len(past.jobs))]

        def finished(tx: Transaction, rows: list[tuple[Allocation, Attempt]] = rows) -> None:
            for allocation, attempt in rows:
                Allocations(tx).create(allocation)
                Attempts(tx).create(attempt)

        await store.write(finished)
    if past.jobs:
        lines = [StoredLine(1, n, now, 1, f"line {n}") for n in range(1, 101)]
        await store.write(lambda tx: LogLines(tx).append(allocation_of(past.jobs[0]), lines, 1_000, now))
    if running:
        await _write_running(store, past, running, jobs, ids, now)
    await store.close()
    return past


def _finished(number: int, nonce: int, login: Login, ids: Ids, at_ms: int) -> tuple[Allocation, Attempt]:
    allocation_id = AllocationId(ids.new("alloc"))
    money = {"ceiling_per_hour": Tokens(72_000), "deposit": Tokens(6_000)}
    allocation = Allocation(
        id=allocation_id, account_id=AccountId(login.subject), wallet=login.wallet, key=f"past-{number}",
        body_hash=bytes(32), opener=Opener.MARKET, nonce=nonce, escrow=f"BenchEscrow{number:033}",
        terms_hash=number.to_bytes(32, "big"), spec=_SPEC, submitted="{}",
        class_id="cpu-small", regions=("eu",), gpu_count=1, image="docker.io/library/busybox:latest", egress=False,
        disk_gb=2, priority=Priority.NORMAL, max_ms=Millis(300_000), max_attempts=3, stop_grace_ms=Millis(10_000),
        queue_ms=Millis(600_000), queue_until_ms=at_ms + 600_000, created_at_ms=at_ms, state=AllocationState.RELEASED,
        reason=Reason.COMPLETED, attempt=1, progress=100, funded_at_ms=at_ms, open_signature=f"past{number}",
        completed_at_ms=at_ms + 60_000, **money,
    )  # fmt: skip
    attempt = Attempt(
        allocation_id=allocation_id, number=1, node_id=NodeId("node_past"), node_key="past", node_address="past",
        lease_token=str(number), phase=AttemptPhase.ENDED, price_per_hour=Tokens(72_000), fee_bps=500, protocol_bps=100,
        max_ms=Millis(300_000), deposit=Tokens(6_000), slots=1, claim_at_chain_ms=at_ms, claim_signature=bytes(64),
        claimed_at_ms=at_ms, ended_at_ms=at_ms + 60_000, reason=Reason.COMPLETED, exit_code=0,
        billed_ms=Millis(60_000), amount=Tokens(1_200),
    )  # fmt: skip
    return allocation, attempt


async def _write_running(store: Store, past: Past, running: int, jobs: int, ids: Ids, now: Millis) -> None:
    until = Millis(now + PAST_MS)
    key = str(Keypair().pubkey())
    node = past.node = Login(ids.new("login"), NodeId(ids.new("node")), key, "node", now, until, revoked=False)
    begun = [_running(n, jobs + n, past.logins[n], node, ids, now) for n in range(running)]
    past.running = [attempt for _, attempt in begun]

    def write(tx: Transaction) -> None:
        Logins(tx).create(node)
        for allocation, attempt in begun:
            Allocations(tx).create(allocation)
            Attempts(tx).create(attempt)

    await store.write(write)


def _running(place: int, number: int, login: Login, node: Login, ids: Ids, at_ms: int) -> tuple[Allocation, Attempt]:
    allocation, attempt = _finished(number, 1_000_000 + place, login, ids, at_ms)
    allocation = replace(
        allocation, state=AllocationState.ACTIVE, reason=Reason.RUNNING, progress=0, completed_at_ms=None
    )
    attempt = replace(
        attempt, node_id=NodeId(node.subject), phase=AttemptPhase.READY, meter_at_ms=at_ms, assigned_at_ms=at_ms,
        ended_at_ms=None, reason=Reason.RUNNING, exit_code=None,
    )  # fmt: skip
    return allocation, attempt


if __name__ == "__main__":
    uvloop.run(main())
