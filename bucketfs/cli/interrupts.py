"""Ctrl-C: always exit code 130, and no traceback, whenever it comes.

While a command runs, an interrupt is a ``KeyboardInterrupt`` as ever, so that what it began is cleaned up (trio takes it from
there). Before that, while modules are imported, and afterwards, while Python ends, there is nothing to clean up, and an exception
would surface in places that cannot take one: there the process ends at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

INTERRUPTED = 130

TERMINATIONS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a program that does not say otherwise."""

_ours = False


def take_over() -> None:
    """From now on this process is ours. An interrupt that is ignored (``nohup``, ``&`` in a script) stays so."""
    global _ours
    _ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if _ours:
        sys.unraisablehook = _unraisable
    at_once()


def at_once() -> None:
    """An interrupt ends the process."""
    if _ours:
        signal.signal(signal.SIGINT, _end)


def by_exception() -> None:
    """An interrupt is raised in the main thread."""
    if _ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def importing() -> Iterator[None]:
    """While modules of a command are imported."""
    at_once()
    try:
        yield
    finally:
        by_exception()


def heeded() -> list[signal.Signals]:
    """Of the `TERMINATIONS` those that are to end this process: one that is ignored (``nohup``) stays so."""
    return [number for number in TERMINATIONS if signal.getsignal(number) is not signal.SIG_IGN]


def end_by(number: int) -> NoReturn:
    """End as if the signal had not been caught: whoever waits for this process sees what ended it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # Only a signal that this process has blocked comes here.
    os._exit(128 + number)


def _end(*_: object) -> None:
    try:
        os.write(2, b"bucketfs: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    """Raised where nothing can be raised (a destructor): Python would print it and go on as if nothing had been."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(found)
