"""How a daemon reports to the process that started it: ready, or why not.

A pipe with one JSON line: ``{"ready": {…}}`` or ``{"error": {…}}``. The end of the file without a line means that the daemon
died. Lines ``{"waiting": "why"}`` may come before; each of them gives the daemon its time once more. The starter waits for
exactly this, so a command that has returned has succeeded.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bucketfs.daemon.host.error_document import error_document, error_from_document
from bucketfs.errors import BucketfsError, TimedOut, Unavailable

_closed: set[int] = set()
"""Descriptors that were reported to and closed: their numbers may belong to other files by now."""


def report_ready(descriptor: int | None, document: dict[str, Any]) -> None:
    """Report that the daemon is ready, and close ``descriptor``. Without a descriptor no process waits."""
    _report(descriptor, {"ready": document})


def report_failed(descriptor: int | None, error: BucketfsError) -> None:
    """Report why the daemon did not start, and close ``descriptor``."""
    _report(descriptor, {"error": error_document(error)})


def report_waiting(descriptor: int | None, text: str) -> None:
    """Report what the daemon waits for; the outcome is still to come."""
    if descriptor is not None and descriptor not in _closed:
        _write(descriptor, {"waiting": text})


def await_ready(descriptor: int, timeout_s: float, on_waiting: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Wait for the outcome; returns the document of ``report_ready``. Blocks. ``on_waiting`` gets each text of ``report_waiting``.
    Raises the error of ``report_failed``, TimedOut, or Unavailable when the daemon died."""
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
    raise error_from_document(answer["error"])


def _report(descriptor: int | None, document: dict[str, Any]) -> None:
    if descriptor is None or descriptor in _closed:
        return
    _closed.add(descriptor)
    _write(descriptor, document)
    os.close(descriptor)


def _write(descriptor: int, document: dict[str, Any]) -> None:
    # The starter may have given up waiting.
    with suppress(OSError):
        os.write(descriptor, json.dumps(document).encode() + b"\n")
