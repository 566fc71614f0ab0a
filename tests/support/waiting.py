"""Waiting for what another process does: asked again and again, with a limit that only a fault reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
_PAUSE_S = 0.05


def eventually(what: Callable[[], bool], why: str, patience_s: float = PATIENCE_S) -> None:
    """Returns when ``what()`` is true. AssertionError with ``why`` when it takes too long."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(_PAUSE_S)
