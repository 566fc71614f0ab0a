"""Daemons: a mount, the embedded Hub, and sessions at a Hub.

``open_session`` makes a Hub ready for use out of settings and secrets, and starts the embedded one when no other is named.
``run_daemon`` serves a mount; it alone knows every room. ``spawn`` starts a daemon and ``ask`` talks to one.

Sub-rooms, each of which may import those before it: ``host`` (a daemon and its machine), ``session`` (a Hub made ready for use),
``buckets`` (the buckets of one mount), ``control`` (what a mount answers).
"""

from typing import TYPE_CHECKING

from bucketfs.daemon.host import (
    ERROR,
    JournalFormatter,
    LineFormatter,
    MirroredFolder,
    answers,
    ask,
    journal_listens,
    keep_freed_memory,
    levelled,
    mirror_above,
    notify_failed,
    notify_ready,
    notify_stopping,
    raise_descriptor_limit,
    registered_mirror,
    report_failed,
    return_free_memory_regularly,
    running_mount_at,
    running_mounts,
    spawn,
)

if TYPE_CHECKING:
    from bucketfs.daemon.daemon import run_daemon
    from bucketfs.daemon.session import Session, open_session, serve_embedded

__all__ = [
    "ERROR",
    "JournalFormatter",
    "LineFormatter",
    "MirroredFolder",
    "Session",
    "answers",
    "ask",
    "journal_listens",
    "keep_freed_memory",
    "levelled",
    "mirror_above",
    "notify_failed",
    "notify_ready",
    "notify_stopping",
    "open_session",
    "raise_descriptor_limit",
    "registered_mirror",
    "report_failed",
    "return_free_memory_regularly",
    "run_daemon",
    "running_mount_at",
    "running_mounts",
    "serve_embedded",
    "spawn",
]

_LATE = {"run_daemon": "daemon", "serve_embedded": "session", "Session": "session", "open_session": "session"}
"""Loaded on first use: ``bucketfs status`` must not wait for gRPC, nor a Hub's machine have libfuse."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"bucketfs.daemon.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
