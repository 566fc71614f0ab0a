"""Lines and tables for people, plain lines for pipes."""

from __future__ import annotations

import io
import sys

import pytest

from bucketfs.cli.printing import duration_text, moment_text, print_table, size_text

ROWS = [("a\x1b[1m", "5", "日本"), ("b", "1234", "x", "private")]


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read these lines: separator and widths stay, and a name cannot add a line or a column."""
    print_table(ROWS, separator="\t")
    assert capsys.readouterr().out == "a\\033[1m\t5\t日本\nb\t1234\tx\tprivate\n"
    print_table(ROWS, separator=" ", formats={1: ">6"})
    assert capsys.readouterr().out == "a\\033[1m      5 日本\nb   1234 x private\n"


def test_a_terminal_gets_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are aligned by what a terminal shows, not cut off, and hold no control characters."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    long = "k" * 500
    print_table([*ROWS, ("c", "1", "y", long)], formats={1: ">6"})
    assert terminal.getvalue().splitlines() == [
        "a\\033[1m     5  日本",
        "b         1234  x     private",
        f"c            1  y     {long}",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB"), (1 << 52, "4096.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    """Binary units, as README writes them."""
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (12.3, "12 s"), (60, "1 min"), (3661, "1 h 1 min 1 s"), (90000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    """Units that are zero are left out."""
    assert duration_text(seconds) == text


def test_a_time_outside_of_the_calendar() -> None:
    """An mtime that a bucket's owner chose must not end ``ls -l``."""
    assert moment_text(10**30) == f"@{10**21}"
