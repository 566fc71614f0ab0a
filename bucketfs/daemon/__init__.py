"""The processes that live on: sessions, and the wiring of a mount.

``open_session`` makes a Hub ready for use out of settings and secrets, and starts the embedded one when no other is named.
A running mount is asked by ``ask`` over its control socket. Processes that live on are started by ``spawn`` and report through
``tell_ready`` and ``tell_failed``. ``daemon.py`` alone knows every room.
"""

from typing import TYPE_CHECKING

from bucketfs.daemon.control.socket import Command, ControlServer, Progress, answers, ask
from bucketfs.daemon.host.descriptors import descriptor_figures, raise_descriptor_limit
from bucketfs.daemon.host.journald import ERROR, JournalFormatter, LineFormatter, journal_listens, levelled
from bucketfs.daemon.host.mirror_registry import Watched, announced, into_itself, watched_above
from bucketfs.daemon.host.mount_registry import Running, running_at, running_mounts
from bucketfs.daemon.host.ready import await_ready, tell_failed, tell_ready
from bucketfs.daemon.host.systemd import notify_failed, notify_ready, notify_status, notify_stopping, watchdog

if TYPE_CHECKING:
    from bucketfs.daemon.daemon import run_daemon
    from bucketfs.daemon.embedded_hub import serve_embedded
    from bucketfs.daemon.host.allocator import give_back_now_and_then, keep_freed_memory
    from bucketfs.daemon.host.process import spawn
    from bucketfs.daemon.session import Session, open_session

__all__ = [
    "ERROR",
    "Command",
    "ControlServer",
    "JournalFormatter",
    "LineFormatter",
    "Progress",
    "Running",
    "Session",
    "Watched",
    "announced",
    "answers",
    "ask",
    "await_ready",
    "descriptor_figures",
    "give_back_now_and_then",
    "into_itself",
    "journal_listens",
    "keep_freed_memory",
    "levelled",
    "notify_failed",
    "notify_ready",
    "notify_status",
    "notify_stopping",
    "open_session",
    "raise_descriptor_limit",
    "run_daemon",
    "running_at",
    "running_mounts",
    "serve_embedded",
    "spawn",
    "tell_failed",
    "tell_ready",
    "watchdog",
    "watched_above",
]

_LATE = {
    "give_back_now_and_then": "host.allocator",
    "keep_freed_memory": "host.allocator",
    "run_daemon": "daemon",
    "serve_embedded": "embedded_hub",
    "Session": "session",
    "open_session": "session",
    "spawn": "host.process",
}
"""What is loaded when it is first asked for: ``bucketfs status`` must not wait for gRPC, nor a Hub's machine have
libfuse."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"bucketfs.daemon.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
