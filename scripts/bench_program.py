"""What the program costs: compute units, bytes, signatures, fees, rents and sizes, as one table.

usage: scripts/bench program [--json | --write]
  --json    print JSON instead of Markdown
  --write   put the table between the markers of docs/benchmarks.md

The program under test is REAVER_PROGRAM, or the committed one.
"""

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median_low

from solders.litesvm import LiteSVM

from tests.program.measure import ACCOUNTS, PROGRAM_DATA_HEADER, TOKEN_ACCOUNT, Cost, Flow, flows, measure
from tests.program.test_ceilings import CEILINGS
from tests.program.world import program_path

PAGE = Path(__file__).resolve().parent.parent / "docs/benchmarks.md"
BEGIN, END = "<!-- scripts/bench program: begin -->", "<!-- scripts/bench program: end -->"
LAMPORTS_PER_SOL = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One instruction: units in the median case and in the worst that was seen, the rest of the worst."""

    instruction: str
    typical_units: int
    most_units: int
    ceiling: int
    transaction_bytes: int
    signatures: int
    fee: int
    rent: int


@dataclass(frozen=True, slots=True)
class Binary:
    """The program's file and what its deployment locks."""

    sha256: str
    size: int
    rent: int


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that is measured."""

    rows: tuple[Row, ...]
    flows: tuple[Flow, ...]
    rents: dict[str, tuple[int, int]]
    binary: Binary


def measured() -> Table:
    """Runs everything, in a few seconds."""
    svm = LiteSVM()
    program = program_path().read_bytes()
    rents = {
        name: (size, svm.minimum_balance_for_rent_exemption(size))
        for name, size in {**ACCOUNTS, "token account": TOKEN_ACCOUNT}.items()
    }
    return Table(
        rows=tuple(_row(name, found) for name, found in sorted(measure().items())),
        flows=tuple(flows()),
        rents=rents,
        binary=Binary(
            hashlib.sha256(program).hexdigest(),
            len(program),
            svm.minimum_balance_for_rent_exemption(PROGRAM_DATA_HEADER + len(program)),
        ),
    )


def _row(name: str, found: list[Cost]) -> Row:
    return Row(
        instruction=name,
        typical_units=median_low(cost.units for cost in found),
        most_units=max(cost.units for cost in found),
        ceiling=CEILINGS[name],
        transaction_bytes=max(cost.transaction_bytes for cost in found),
        signatures=max(cost.signatures for cost in found),
        fee=max(cost.fee for cost in found),
        rent=max(cost.rent for cost in found),
    )


def markdown(table: Table) -> str:
    """The table as docs/benchmarks.md shows it."""
    binary = table.binary
    lines = [
        f"The binary: {binary.size:,} bytes (sha256 `{binary.sha256[:16]}…`).",
        f"Its deployment locks {binary.rent:,} lamports of rent ({binary.rent / LAMPORTS_PER_SOL:.3f} SOL).",
        "",
        "| instruction | units | units, most | ceiling | bytes | signatures | fee, lamports | rent, lamports |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.instruction} | {row.typical_units:,} | {row.most_units:,} | {row.ceiling:,} "
            f"| {row.transaction_bytes:,} | {row.signatures} | {row.fee:,} | {row.rent:,} |"
            for row in table.rows
        ),
        "",
        "| account | bytes | rent, lamports |",
        "| --- | --- | --- |",
        *(f"| {name} | {size:,} | {rent:,} |" for name, (size, rent) in table.rents.items()),
        "",
        "| a job under an allowance | transactions | signatures |",
        "| --- | --- | --- |",
        *(f"| {flow.name} | {', '.join(flow.steps)} | {flow.signatures} |" for flow in table.flows),
    ]
    return "\n".join(lines)


def write(text: str) -> None:
    """Replaces what stands between the markers."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        message = f"{PAGE} has no '{BEGIN}' and '{END}'"
        raise SystemExit(message)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main() -> None:
    """See the module's own words."""
    parser = argparse.ArgumentParser(prog="scripts/bench program", description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    choice.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    table = measured()
    if options.json:
        print(json.dumps(asdict(table), indent=2))
    elif options.write:
        write(markdown(table))
    else:
        print(markdown(table))


if __name__ == "__main__":
    main()
