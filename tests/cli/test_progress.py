"""Progress on standard error."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bucketfs.cli.buck.watch_output import WatchOutput
from bucketfs.cli.progress import PERIOD_S, ProgressLine
from bucketfs.transfer import Figures


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_off_a_terminal_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """A log of a script must not fill with progress, nor stay silent for an hour."""
    clock = Clock()
    with ProgressLine(redrawn=False, clock_s=clock) as progress:
        for _ in range(20):
            clock.now_s += 1
            progress.show("/m: pushing", 1 << 20, 4 << 20)
        clock.now_s += PERIOD_S
        progress.show("/m: 3 files", 5)
    lines = ["/m: pushing, 1.0 MiB of 4.0 MiB (25 %)"] * int(20 / PERIOD_S) + ["/m: 3 files, 5 B"]
    assert capsys.readouterr().err.splitlines() == lines


def test_on_a_terminal_progress_is_redrawn_and_goes(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, whatever the names in it are, and nothing left of it at the end."""
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80, legacy_windows=False)
    with ProgressLine(redrawn=True, console=console) as progress:
        progress.show("a [red]long\x1b[2J\ntext")
        progress.show("short")
    assert "a [red]long\\033[2J\\ntext" in terminal.getvalue() and "short" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K"), "the line is erased"
    assert capsys.readouterr().err == ""


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a program reads the output."""
    clock = Clock()
    with ProgressLine(quiet=True, redrawn=True, clock_s=clock) as progress:
        clock.now_s += 1000
        progress.show("text")
    assert capsys.readouterr().err == ""


def test_a_long_round_of_a_watch_shows_its_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """A line comes when this round has taken a while, not when nothing had happened before it for long."""
    clock = Clock()
    output = WatchOutput(Path("/d"), "b", False, ProgressLine(redrawn=False, clock_s=clock))
    clock.now_s += 1000
    figures = Figures()
    output.progress(figures)
    assert capsys.readouterr().err == ""
    clock.now_s += PERIOD_S
    output.progress(figures)
    assert "0 files" in capsys.readouterr().err
