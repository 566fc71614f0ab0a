"""Progress on standard error: a line that is redrawn on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from bucketfs.cli.printing import print_line, size_text
from bucketfs.quoting import visible

if TYPE_CHECKING:
    from rich.console import Console

PERIOD_S = 5.0
"""How often progress is a line where it cannot be redrawn."""


class ProgressLine:
    """How far a piece of work is. ``redrawn`` says whether lines can be (default: on a terminal); ``quiet`` shows nothing."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        redrawn: bool | None = None,
        console: Console | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._clock_s = clock_s
        self._printed_s = clock_s()
        self._bar: _Bar | None = None
        if not quiet and (sys.stderr.isatty() if redrawn is None else redrawn):
            self._bar = _Bar(console)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.end()

    def restart(self) -> None:
        """Another piece of work begins: its first plain line comes when it has taken a while."""
        self._printed_s = self._clock_s()

    def show(self, text: str, done_bytes: int | None = None, total_bytes: int | None = None) -> None:
        """The work stands at ``text``, with so many bytes of ``total_bytes`` done."""
        if self._bar is not None:
            self._bar.show(text, done_bytes, total_bytes)
        elif not self._quiet and self._clock_s() - self._printed_s >= PERIOD_S:
            self.restart()
            print_line(f"{text}{_bytes_text(done_bytes, total_bytes)}", err=True)


def _bytes_text(done_bytes: int | None, total_bytes: int | None) -> str:
    if done_bytes is None:
        return ""
    if not total_bytes:
        return f", {size_text(done_bytes)}"
    done_bytes = min(done_bytes, total_bytes)
    return f", {size_text(done_bytes)} of {size_text(total_bytes)} ({100 * done_bytes // total_bytes} %)"


class _Bar:
    """The redrawn line. It is there from the first `show` to `end`, which removes it."""

    def __init__(self, console: Console | None) -> None:
        from rich.console import Console as NewConsole
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        # Not as markup: the text may hold a name in brackets.
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console or NewConsole(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)

    def show(self, text: str, done_bytes: int | None, total_bytes: int | None) -> None:
        self._progress.update(self._task, completed=done_bytes)
        speed = self._progress.tasks[0].speed
        per_second = f", {size_text(speed)}/s" if speed else ""
        line = f"{text}{_bytes_text(done_bytes, total_bytes)}{per_second}"
        self._progress.update(self._task, description=visible(line))
        self._progress.start()  # only the first time; it draws

    def end(self) -> None:
        self._progress.stop()
