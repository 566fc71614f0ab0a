"""Showing things to people: documents as lines, and how long work goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
PLAIN_PERIOD_S = 5.0


def lines_of(document: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A document as indented lines. What is empty or unknown is left out; a name's unit (``_bytes``, ``_s``) is used and
    dropped."""
    for name, value in document.items():
        if value is None or value == "" or value == [] or value == {}:
            continue
        title, shown = _shown(name, value)
        if isinstance(value, Mapping):
            yield f"{indent}{title}:"
            yield from lines_of(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{title}:"
            for item in value:
                if isinstance(item, Mapping):
                    first, *rest = lines_of(item, indent + "    ") if any(item.values()) else ("",)
                    yield f"{indent}  - {first.strip()}"
                    yield from rest
                else:
                    yield f"{indent}  - {item}"
        else:
            yield f"{indent}{title}: {shown}"


def size_text(size_bytes: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    for unit in _UNITS:
        if size_bytes < 1024 or unit == _UNITS[-1]:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError("the last unit has no upper end")


def time_text(seconds: float) -> str:
    """``90`` as ``1 min 30 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


class Ticker:
    """Shows the progress that a daemon reports: one line that is written over on a terminal, a line now and then elsewhere.

    A progress document has ``text``, and may have ``done_bytes`` and ``total_bytes``.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._terminal = sys.stderr.isatty()
        self._width = 0
        self._shown_at = time.monotonic()

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()

    def show(self, document: Mapping[str, Any]) -> None:
        """Show one report."""
        now = time.monotonic()
        if not self._terminal and now - self._shown_at < PLAIN_PERIOD_S:
            return
        self._shown_at = now
        line = f"{self._title}: {self._text(document)}"
        if self._terminal:
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _text(self, document: Mapping[str, Any]) -> str:
        text = str(document.get("text", "at work"))
        total = document.get("total_bytes")
        if not total:
            return text
        done = document.get("done_bytes", 0)
        return f"{text} {size_text(done)} of {size_text(total)} ({100 * done // total} %)"


def _shown(name: str, value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return _title(name), "yes" if value else "no"
    if isinstance(value, (int, float)):
        if name.endswith("_bytes"):
            return _title(name.removesuffix("_bytes")), size_text(value)
        if name.endswith("_s"):
            return _title(name.removesuffix("_s")), time_text(value)
    return _title(name), str(value)


def _title(name: str) -> str:
    return name.replace("_", " ")
