"""`reaver`: the renter's command line, a thin wrapper over the market's HTTP API."""


def main() -> None:
    """Entry point of the console script."""
    from marketplace.cli.reaver.root import app

    app(prog_name="reaver")
