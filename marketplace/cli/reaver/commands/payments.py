"""How a confirmed transaction of the wallet is shown."""

from typing import TYPE_CHECKING

from marketplace.cli.reaver.output import Output

if TYPE_CHECKING:
    from marketplace.client.payments import Paid


def show_paid(output: Output, paid: "Paid") -> None:
    """What the wallet signed, and that the chain has it."""
    if output.as_json:
        output.json({"signature": paid.signature, "summary": paid.summary, "resumed": paid.resumed})
        return
    if paid.resumed:
        output.note("an earlier run of this command was completed; nothing was done twice")
    output.line(f"Confirmed: {paid.summary}")
    output.line(f"Transaction {paid.signature}")
