"""`reaver doctor`: whether everything is there to run a job, and what to do where it isn't."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import typer

from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, MarketAddress, Program, RpcUrl
from marketplace.cli.reaver.output import Output, Style
from marketplace.cli.reaver.session import Connection, explain, given_api_key, run

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient

_SKEW_S: Final = 30
"""Specified: api.md section 4.3, leeway of a token; beyond it logins begin to fail."""


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "look"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. step: what to do next, None where nothing is to do. code: what the command ends with for it."""

    name: str
    verdict: Verdict
    found: str
    step: str | None = None
    code: Exit = Exit.DONE


def doctor(
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Check wallet, market, clock, chain, login, money and allowance; say what to do next. Nothing is spent.

    \b
    Ends with 0 where a job can be run, else with the exit code of the first thing that is missing.

    \b
      reaver doctor
      reaver doctor --rpc https://api.mainnet-beta.solana.com
      reaver doctor --json
    """
    from importlib.metadata import version

    from marketplace.client.keypairs import DEFAULT_KEYPAIR, load_keypair

    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    checks = [Check("version", Verdict.OK, f"reaver {version('reaver-market')}")]
    try:
        if given_api_key() is not None and keypair is None:
            said = "none: an API key speaks for the account; what the wallet has to sign needs --keypair"
            checks.append(Check("wallet", Verdict.OK, said))
        else:
            wallet = load_keypair(keypair or DEFAULT_KEYPAIR)
            checks.append(Check("wallet", Verdict.OK, str(wallet.address)))
    except Exception as error:  # noqa: BLE001 - every error is a finding here
        checks.append(_broken("wallet", error, "make one with solana-keygen new, or name its file by --keypair"))
    if checks[-1].verdict is Verdict.OK:
        checks += run(output, lambda: _at_the_market(connection))
    worst = next((check.code for check in checks if check.verdict is Verdict.BAD), Exit.DONE)
    _show(output, checks, worst)
    raise typer.Exit(int(worst))


async def _at_the_market(connection: Connection) -> list[Check]:
    """In the order in which one needs the other; what can't be asked any more is left out."""
    checks: list[Check] = []
    steps: tuple[tuple[str, Callable[[ReaverClient], Awaitable[list[Check]]], str], ...] = (
        ("market", _market, "check REAVER_API (or --api), and whether the market is up"),
        ("login", _login, "log in anew: reaver login"),
        ("money", _money, "look again: reaver vault balance"),
        ("allowance", _allowance, "look again: reaver allow show"),
        ("nodes", _nodes, "look again: reaver nodes"),
    )
    async with connection.client() as client:
        for name, step, advice in steps:
            try:
                checks += await step(client)
            except Exception as error:  # noqa: BLE001 - every error is a finding here
                checks.append(_broken(name, error, advice))
                break
    return checks


async def _market(client: "ReaverClient") -> list[Check]:
    constants, skew_s = await client.visit()
    chain = constants.chain
    found = [Check("market", Verdict.OK, f"{client.api_url}, market {chain.market}")]
    if client.sends_by_rpc:
        found.append(Check("chain", Verdict.OK, f"the RPC is on the market's cluster, {chain.genesis_hash}"))
    else:
        found.append(Check("chain", Verdict.OK, f"as the market says, cluster {chain.genesis_hash}"))
    if skew_s is None:
        found.append(Check("clock", Verdict.WARN, "the market doesn't tell its time"))
    elif abs(skew_s) > _SKEW_S:
        which = "behind" if skew_s > 0 else "ahead of"
        found.append(
            Check("clock", Verdict.BAD, f"{abs(skew_s):.0f} s {which} the market's", "set the clock (NTP)", Exit.LOGIN)
        )
    else:
        found.append(Check("clock", Verdict.OK, f"within {_SKEW_S} s of the market's"))
    return found


async def _login(client: "ReaverClient") -> list[Check]:
    account = await client.me()
    return [Check("login", Verdict.OK, f"account {account.id}")]


async def _money(client: "ReaverClient") -> list[Check]:
    vault = await client.vault()
    said = f"{vault.available} {vault.currency} in the vault, {vault.wallet_balance} in the wallet"
    if Decimal(vault.available) > 0:
        return [Check("money", Verdict.OK, said)]
    if Decimal(vault.wallet_balance) > 0:
        return [Check("money", Verdict.WARN, said, "jobs can take it from the wallet; or: reaver vault deposit 20")]
    step = f"send {vault.currency} to {vault.wallet}, then: reaver vault deposit AMOUNT"
    return [Check("money", Verdict.BAD, said, step, Exit.FUNDS)]


async def _allowance(client: "ReaverClient") -> list[Check]:
    active = [allowance for allowance in (await client.allowances()).allowances if allowance.state == "active"]
    if not active:
        step = "jobs ask for a signature each; `reaver allow grant --help` spares that"
        return [Check("allowance", Verdict.WARN, "none", step)]
    one = active[0]
    return [Check("allowance", Verdict.OK, f"{one.per_job} a job, {one.per_day} a day, until {one.expires_at}")]


async def _nodes(client: "ReaverClient") -> list[Check]:
    total = (await client.list_nodes(limit=1)).total
    if total == 0:
        return [
            Check("nodes", Verdict.WARN, "none has room now", "jobs wait in the queue; busy ones: reaver nodes list")
        ]
    return [Check("nodes", Verdict.OK, f"{total} with room now")]


def _broken(name: str, error: Exception, step: str) -> Check:
    code, message = explain(error)
    return Check(name, Verdict.BAD, message, step, code)


def _show(output: Output, checks: list[Check], worst: Exit) -> None:
    if output.as_json:
        rows = [
            {"name": check.name, "verdict": check.verdict.value, "found": check.found, "next": check.step}
            for check in checks
        ]
        output.json({"ready": worst is Exit.DONE, "checks": rows})
        return
    styles = {Verdict.OK: Style.GOOD, Verdict.WARN: Style.BUSY, Verdict.BAD: Style.BAD}
    for check in checks:
        output.line(f"{check.verdict.value:4}  {check.name:9}  {check.found}", styles[check.verdict])
        if check.step is not None:
            output.line(f"                 -> {check.step}")
    output.line()
    output.line("Ready to run jobs." if worst is Exit.DONE else "Not ready yet: see the steps above.", Style.TITLE)
