"""How a wallet's transaction is agreed to, and how a confirmed one is shown."""

import sys
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from marketplace.cli.reaver.output import Output

if TYPE_CHECKING:
    from marketplace.client.payments import Paid, Proposal

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before signing.")]


class Agreement:
    """Says what is about to be signed and asks for leave, on a terminal; then shows that the chain is waited for.

    A context manager. The words are written here from the decoded transaction; the numbers beside them, before and
    after, are what the market expects. Elsewhere than on a terminal giving the command is the leave.
    """

    def __init__(self, output: Output, *, yes: bool) -> None:
        self._output = output
        self._yes = yes
        self._stack = ExitStack()
        self._agreed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, proposal: "Proposal") -> bool:
        """Asked once a run: what one yes covers (`--all` in several transactions) is not asked for again."""
        from marketplace.cli.reaver.commands.stake_views import effect_lines

        self._stack.close()
        self._output.note(proposal.summary)
        for line in effect_lines(proposal.offered):
            self._output.note(f"  {line}")
        if not self._yes and not self._agreed and sys.stdin.isatty() and not typer.confirm("Sign and send?", err=True):
            return False
        self._agreed = True
        self._stack.enter_context(self._output.working("waiting for the chain"))
        return True


def show_paid(output: Output, paid: "Paid") -> None:
    """What the wallet signed, and that the chain has it."""
    if output.as_json:
        output.json({"signature": paid.signature, "summary": paid.summary, "resumed": paid.resumed})
        return
    if paid.resumed:
        output.note("an earlier run of this command was completed; nothing was done twice")
    output.line(f"Confirmed: {paid.summary}")
    output.line(f"Transaction {paid.signature}")
