"""`reaver-market`: the market operator's command line, and the program's administration."""

from marketplace.cli.market.root import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    app()
