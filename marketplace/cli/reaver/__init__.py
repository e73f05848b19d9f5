"""`reaver`: the renter's command line, a thin wrapper over the market's HTTP API."""

import os
import sys


def main() -> None:
    """Entry point of the console script."""
    from marketplace.cli.reaver.exits import Exit
    from marketplace.cli.reaver.root import app

    try:
        app(prog_name="reaver")
    except OSError as error:
        # Such as a full disk behind `> file`: what is left in the buffer must not fail once more at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"error: {error.strerror or error}", file=sys.stderr)
        sys.exit(Exit.INTERNAL)
