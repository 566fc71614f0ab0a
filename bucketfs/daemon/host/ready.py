"""How a daemon tells whoever started it that it is ready, or why not.

A pipe, one JSON line on it: ``{"ready": {…}}`` or ``{"error": {…}}``; the end of the file without a line means that the
daemon died. Before it there may be lines ``{"waiting": "why"}``, each of which gives the daemon its time once more. The
starter waits for exactly that, so a command that has returned has succeeded.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bucketfs import errors
from bucketfs.errors import BucketfsError, TimedOut, Unavailable

_told: set[int] = set()
"""Descriptors that had their word and are closed: their numbers may belong to other files by now."""


def tell_ready(descriptor: int | None, document: dict[str, Any]) -> None:
    """Say that all is well, once; ``descriptor`` is closed by it. Without a descriptor nobody waits."""
    _tell(descriptor, {"ready": document})


def tell_failed(descriptor: int | None, error: BucketfsError) -> None:
    """Say why it did not work."""
    _tell(descriptor, {"error": {"type": type(error).__name__, "message": str(error), "hint": error.hint}})


def tell_waiting(descriptor: int | None, text: str) -> None:
    """Say what is waited for; the word about how it went is still to come."""
    if descriptor is not None and descriptor not in _told:
        _write(descriptor, {"waiting": text})


def await_ready(descriptor: int, timeout_s: float, on_waiting: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Wait for the line; returns what ``tell_ready`` sent. Blocks. Raises what ``tell_failed`` sent, TimedOut, or
    Unavailable when the other side died without a word. ``on_waiting`` is told what ``tell_waiting`` says."""
    deadline = time.monotonic() + timeout_s
    data = b""
    while True:
        line, newline, rest = data.partition(b"\n")
        if newline:
            answer = json.loads(line)
            if "waiting" not in answer:
                break
            deadline, data = time.monotonic() + timeout_s, rest
            on_waiting(answer["waiting"])
            continue
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise TimedOut(f"it was not ready after {timeout_s:.0f} s")
        chunk = os.read(descriptor, 65536)
        if not chunk:
            raise Unavailable("it ended before it was ready")
        data += chunk
    if "ready" in answer:
        return dict(answer["ready"])
    kind = getattr(errors, answer["error"]["type"], BucketfsError)
    raise kind(answer["error"]["message"], hint=answer["error"]["hint"])


def _tell(descriptor: int | None, document: dict[str, Any]) -> None:
    if descriptor is None or descriptor in _told:
        return
    _told.add(descriptor)
    _write(descriptor, document)
    os.close(descriptor)


def _write(descriptor: int, document: dict[str, Any]) -> None:
    # Whoever started us may have given up waiting.
    with suppress(OSError):
        os.write(descriptor, json.dumps(document).encode() + b"\n")
