"""reaver-node: the operator's command."""

from node.cli.root import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    app()
