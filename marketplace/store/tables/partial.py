"""Indexes over some of a table's rows."""

from typing import Any

from sqlalchemy import text


def partial(condition: str) -> dict[str, Any]:
    """Arguments of an `Index` over the rows for which this SQL holds; queries name the same condition."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}
