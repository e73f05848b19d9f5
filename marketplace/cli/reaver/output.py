"""All that `reaver` prints: tables and colour on a terminal, plain text in pipes, one object with --json.

Results go to standard output; progress, notes and errors go to standard error. rich is imported only where
something is drawn on a terminal.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


class Style(Enum):
    """What a text means; the terminal's colours follow from it."""

    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    BUSY = "yellow"
    QUIET = "dim"
    TITLE = "bold"


_STATUS_STYLES = {
    "completed": Style.GOOD,
    "active": Style.GOOD,
    "running": Style.BUSY,
    "assigned": Style.BUSY,
    "uploading": Style.BUSY,
    "cancelling": Style.BUSY,
    "queued": Style.QUIET,
    "failed": Style.BAD,
    "timed_out": Style.BAD,
    "expired": Style.BAD,
    "suspended": Style.BAD,
    "revoked": Style.BAD,
}


class Output:
    """Where one command writes. as_json: exactly one object goes to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.terminal = sys.stdout.isatty() and not as_json
        self.error_terminal = sys.stderr.isatty()

    def json(self, value: object) -> None:
        """The one object of --json."""
        sys.stdout.write(exact_json(value) + "\n")
        sys.stdout.flush()

    def json_line(self, value: object) -> None:
        """One object of many, on a line of its own: of what has no end."""
        sys.stdout.write(" ".join(line.strip() for line in exact_json(value).splitlines()) + "\n")
        sys.stdout.flush()

    def line(self, text: str = "", style: Style = Style.PLAIN) -> None:
        """A line of the result."""
        if self.terminal and style is not Style.PLAIN:
            self._draw(text, style)
        else:
            sys.stdout.write(printable(text) + "\n")
            sys.stdout.flush()

    def raw(self, text: str) -> None:
        """A log line as the job wrote it, without control characters that steer a terminal."""
        stream = sys.stderr if self.as_json else sys.stdout
        stream.write(printable(text) + "\n")
        stream.flush()

    def fields(self, title: str, rows: Sequence[tuple[str, str | None]]) -> None:
        """A titled list of names and values; those without a value are left out."""
        shown = [(name, value) for name, value in rows if value is not None]
        if title:
            self.line(title, Style.TITLE)
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            if self.terminal:
                self._draw_field(name.ljust(width), value)
            else:
                self.line(f"{name.ljust(width)}  {value}")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str | None]], empty: str) -> None:
        """Rows under headings. empty: what to say when there are none."""
        if not rows:
            self.note(empty)
            return
        if self.terminal:
            self._draw_table(columns, rows)
            return
        cells = [list(columns), *([printable(cell or "-") for cell in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
        for row in cells:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def deleted(self, id_: str) -> None:
        """That something is gone."""
        if self.as_json:
            self.json({"id": id_, "deleted": True})
        else:
            self.line(f"Deleted {id_}")

    def note(self, text: str) -> None:
        """A remark on standard error."""
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()

    def error(
        self, code: str, message: str, hints: Sequence[str] = (), extra: Mapping[str, object] | None = None
    ) -> None:
        """An error on standard error: what happened, and what to do next."""
        if self.as_json:
            body: dict[str, object] = {"error": code, "message": message, "hints": list(hints)} | dict(extra or {})
            sys.stderr.write(exact_json(body) + "\n")
        else:
            head = "\x1b[31merror:\x1b[0m" if self.error_terminal else "error:"
            sys.stderr.write(f"{head} {printable(message)}\n")
            for hint in hints:
                sys.stderr.write(f"  {printable(hint)}\n")
        sys.stderr.flush()

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """A spinner on a terminal while something takes long; nothing elsewhere."""
        if not self.error_terminal or self.as_json:
            yield
            return
        from rich.console import Console

        with Console(stderr=True).status(text):
            yield

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """A bar on a terminal, told how many bytes of how many are done; nothing elsewhere."""
        if not self.error_terminal or self.as_json:
            yield lambda _done, _size: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(printable(text).replace("[", "\\["), total=None)
            yield lambda done, size: bar.update(task, completed=done, total=size)

    @contextmanager
    def live(self) -> Iterator[Callable[[Sequence[str], Sequence[Sequence[str | None]], Sequence[str]], None]]:
        """A table that is drawn anew in its place; called with columns, rows, and what is new as lines.

        On a terminal the table is drawn, elsewhere the lines are written: to standard error with --json.
        """
        if not self.terminal:
            yield self._write_news
            return
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            yield lambda columns, rows, _news: live.update(_table(columns, rows), refresh=True)

    def _write_news(self, _columns: Sequence[str], _rows: Sequence[Sequence[str | None]], news: Sequence[str]) -> None:
        for line in news:
            self.raw(line)

    def _draw(self, text: str, style: Style) -> None:
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(printable(text), style=style.value), soft_wrap=True)

    def _draw_field(self, name: str, value: str) -> None:
        from rich.console import Console
        from rich.text import Text

        style = _STATUS_STYLES.get(value, Style.PLAIN)
        Console().print(Text.assemble((name, "dim"), "  ", (printable(value), style.value)), soft_wrap=True)

    def _draw_table(self, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
        from rich.console import Console

        Console().print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        cells = [printable(cell or "-") for cell in row]
        table.add_row(*(Text(cell, style=_STATUS_STYLES.get(cell, Style.PLAIN).value) for cell in cells))
    # What the first column has is typed into the next command: a narrow terminal shortens the others.
    table.columns[0].min_width = max((len(row[0] or "-") for row in rows), default=0)
    return table


def printable(text: str) -> str:
    """Text of a stranger (a node's name, a log line) without what could steer the terminal; tabs stay."""
    return "".join(c if c == "\t" or c.isprintable() else "�" for c in text)


def exact_json(value: object, indent: int = 0) -> str:
    """JSON, indented, with Decimal written digit for digit: no amount passes through a binary float."""
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        entries = (f"{inner}{json.dumps(str(k))}: {exact_json(v, indent + 2)}" for k, v in value.items())
        return "{\n" + ",\n".join(entries) + f"\n{outer}}}"
    if isinstance(value, list | tuple):
        if not value:
            return "[]"
        return "[\n" + ",\n".join(inner + exact_json(v, indent + 2) for v in value) + f"\n{outer}]"
    return json.dumps(value)
