"""`reaver receipt verify`: a bill checked without trusting the market."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.options import JsonFlag
from marketplace.cli.reaver.output import Output, Style
from marketplace.cli.reaver.session import run

if TYPE_CHECKING:
    from marketplace.protocol.receipts import Check, Receipt, Verification

app = typer.Typer(help="Check receipts.", no_args_is_help=True, rich_markup_mode=None)

_MAX_BYTES = 16 << 20
"""Chosen: a receipt has under 1 KB per payment."""


@app.callback()
def _receipts() -> None:
    pass


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Receipt as `reaver jobs receipt` writes it.")],
    market: Annotated[
        str | None,
        typer.Option("--market", metavar="KEY", help="Meter key of the market (/v1/constants shows it): pins it."),
    ] = None,
    rpc: Annotated[
        str | None,
        typer.Option("--rpc", metavar="URL", help="Solana RPC: fetch the payments and compare them."),
    ] = None,
    program: Annotated[
        str | None,
        typer.Option("--program", envvar="REAVER_PROGRAM_ID", metavar="ADDRESS", help="Accept this program only."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a receipt: signatures of node and meter, price x time, fees, sums.

    \b
    Offline it proves that the node and the meter signed this usage, and that the bill
    follows from it. It prints the keys; --market pins the meter's, --rpc fetches each
    payment from the chain and compares it. Without either, compare the keys yourself.

    \b
      reaver receipt verify receipt.json
      reaver receipt verify receipt.json --market METER_KEY
      reaver receipt verify receipt.json --rpc https://api.mainnet-beta.solana.com
    """
    from marketplace.protocol.receipts import verify_receipt

    output = Output(as_json=as_json)
    receipt = _read(output, file)
    verification = verify_receipt(receipt, meter_key=market)
    checks = list(verification.checks)
    checks += _offline_checks(receipt, program)
    if rpc is not None:
        checks += run(output, lambda: _on_chain(receipt, rpc))
    _show(output, receipt, verification, checks, pinned=market is not None or rpc is not None)
    if not all(check.passed for check in checks):
        raise typer.Exit(int(Exit.INVALID_RECEIPT))


def _read(output: Output, file: Path) -> "Receipt":
    import json

    from pydantic import ValidationError

    from marketplace.protocol.receipts import Receipt

    try:
        with file.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be read: {error.strerror}", param_hint="FILE") from error
    try:
        # Read as JSON by Python first: its numbers must be integers, and a float would be refused.
        return Receipt.model_validate(json.loads(raw[:_MAX_BYTES]))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        output.error("invalid_receipt", f"{file} is not a receipt: {where}: {first['msg']}")
    except (ValueError, RecursionError):
        output.error("invalid_receipt", f"{file} is not JSON")
    raise typer.Exit(int(Exit.INVALID_RECEIPT))


def _offline_checks(receipt: "Receipt", program: str | None) -> "list[Check]":
    from marketplace.client.settlements import key_checks
    from marketplace.protocol.receipts import Check

    checks = list(key_checks(receipt))
    if program is not None:
        checks.append(Check("the program is the pinned one", receipt.program_id == program, receipt.program_id))
    return checks


async def _on_chain(receipt: "Receipt", url: str) -> "tuple[Check, ...]":
    from marketplace.chain.rpc import RpcClient
    from marketplace.client.settlements import compare_with_chain

    async with RpcClient([url]) as rpc:
        return await compare_with_chain(receipt, rpc)


def _show(
    output: Output, receipt: "Receipt", verification: "Verification", checks: "list[Check]", *, pinned: bool
) -> None:
    from marketplace.domain.money import format_amount

    valid = all(check.passed for check in checks)
    if output.as_json:
        output.json(
            {
                "valid": valid,
                "job_id": receipt.job_id,
                "program_id": receipt.program_id,
                "node_keys": verification.node_keys,
                "meter_keys": verification.meter_keys,
                "keys_pinned": pinned,
                "checks": [{"name": c.name, "passed": c.passed, "detail": c.detail} for c in checks],
            }
        )
        return
    for check in checks:
        output.line(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}", _style(check.passed))
    output.line()
    output.fields(
        f"Receipt of {receipt.job_id}",
        [
            ("node key", ", ".join(verification.node_keys) or "none"),
            ("meter key", ", ".join(verification.meter_keys) or "none"),
            ("program", receipt.program_id),
            ("price", _amount(receipt.price, receipt)),
            ("came back", _amount(receipt.refunded, receipt)),
            *(
                ("compensation", f"{format_amount(int(c.amount), c.decimals)} {c.currency} for attempt {c.attempt}")
                for c in receipt.compensations
            ),
            ("reason", receipt.reason),
        ],
    )
    output.line("The receipt verifies." if valid else "The receipt does NOT verify.", _style(valid))
    if valid and not pinned:
        output.note("keys and payments are as the receipt says; --market KEY or --rpc URL proves whose they are")


def _amount(units: str, receipt: "Receipt") -> str:
    from marketplace.domain.money import format_amount

    return f"{format_amount(int(units), receipt.decimals)} {receipt.currency}"


def _style(passed: bool) -> Style:
    return Style.GOOD if passed else Style.BAD
