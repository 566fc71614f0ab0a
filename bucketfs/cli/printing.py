"""Printing for people and for programs.

For people: lines and tables. A name that another user chose stays a part of its line: it cannot end the line, move the cursor, or
pass for something else. A pipe gets plain lines that stay as they are from release to release. For programs: JSON, which is exact.
"""

from __future__ import annotations

import codecs
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TextIO

import click

from bucketfs.quoting import in_list, quoted, visible

TABLE_ROWS_MAX = 1000
"""Longer tables are printed as plain lines on a terminal, too: columns that fit all rows would take seconds to find."""

_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"]


def print_line(*columns: str, err: bool = False) -> None:
    """Print a line; tabs separate the ``columns``."""
    encoding = _encoding(sys.stderr if err else sys.stdout)
    click.echo("\t".join(visible(column, encoding) for column in columns), err=err)


def print_json(document: object, *, indent: int | None = 2) -> None:
    """Print a document for programs."""
    click.echo(json.dumps(document, indent=indent))


def print_table(rows: Sequence[Sequence[str]], *, separator: str = "  ", formats: Mapping[int, str] | None = None) -> None:
    """Print rows in columns on a terminal; elsewhere as lines with this ``separator``, each column in its format of ``formats`` (by
    number, as ``>14``). Rows may have fewer columns than others."""
    formats = formats or {}
    encoding = _encoding(sys.stdout)
    cells = [[visible(cell, encoding) for cell in row] for row in rows]
    if not sys.stdout.isatty() or len(rows) > TABLE_ROWS_MAX:
        for row in cells:
            click.echo(separator.join(format(cell, formats.get(column, "")) for column, cell in enumerate(row)))
        return
    # Imported late: rich takes longer to load than many commands take to run.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for column in range(max(map(len, cells), default=0)):
        table.add_column(justify="right" if formats.get(column, "").startswith(">") else "left", no_wrap=True)
    for row in cells:
        table.add_row(*map(Text, row))
    # Wider than any line: a terminal folds a long line, while rich would cut it off.
    console = Console(file=io.StringIO(), width=1 << 20)
    with console.capture() as lines:
        console.print(table)
    for line in lines.get().splitlines():
        click.echo(line.rstrip(" "))


def quoted_name(text: str) -> str:
    """A name or path as a part of a line."""
    return quoted(text, _encoding(sys.stdout))


def listed_name(text: str) -> str:
    """A name in a list of names: on a terminal as ``ls`` prints it; for a program as it is, as far as that is one line."""
    return quoted_name(text) if sys.stdout.isatty() else in_list(text)


def size_text(size_bytes: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    from rich.filesize import pick_unit_and_suffix

    unit, suffix = pick_unit_and_suffix(int(size_bytes), _UNITS, 1024)
    return f"{size_bytes:.0f} B" if unit == 1 else f"{size_bytes / unit:.1f} {suffix}"


def duration_text(seconds: float) -> str:
    """``90`` as ``1 min 30 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def moment_text(time_ns: int) -> str:
    """Local time with its distance to UTC: ``2026-11-30 08:00:00+01:00``."""
    seconds = time_ns // 1_000_000_000
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ")
    except (ValueError, OverflowError, OSError):
        return f"@{seconds}"  # outside the calendar, in the notation of GNU date


def clock_text(time_s: float | None = None) -> str:
    """Local time, now or at ``time_s``, as the first part of a line about an event: ``2026-11-30 08:00:00``."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _encoding(stream: TextIO) -> str:
    """What can be shown. A pipe or file takes everything."""
    return codecs.lookup(stream.encoding).name if stream.isatty() and stream.encoding else "utf-8"
