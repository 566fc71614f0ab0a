"""The processes that live on: settings, secrets, sessions, and the wiring of a mount.

``load_config`` reads settings, ``CredentialsFile`` secrets; ``open_session`` makes a Hub ready for use out of both, and
starts the embedded one when no other is named. A running mount is talked to by ``ask`` over its control socket. Processes
that live on are started by ``spawn`` and report through ``tell_ready`` and ``tell_failed``; a service manager hears of them
by ``systemd``. ``daemon.py`` alone knows every room.
"""

from typing import TYPE_CHECKING

from bucketfs.daemon.config import DEFAULT_PROFILE, EMBEDDED, SETTINGS, Config, MountOptions, Setting, load_config
from bucketfs.daemon.control import Command, ControlServer, Progress, answers, ask
from bucketfs.daemon.descriptors import descriptor_figures, raise_descriptor_limit
from bucketfs.daemon.journald import ERROR, JournalFormatter, LineFormatter, journal_listens, levelled
from bucketfs.daemon.places import OWNER_ONLY, Places, find_places, make_private
from bucketfs.daemon.ready import await_ready, tell_failed, tell_ready
from bucketfs.daemon.running import Running, running_at, running_mounts
from bucketfs.daemon.systemd import notify_failed, notify_ready, notify_status, notify_stopping, watchdog
from bucketfs.daemon.values import seconds as parse_seconds
from bucketfs.daemon.watched import Watched, announced, into_itself, watched_above

if TYPE_CHECKING:
    from bucketfs.daemon.allocator import give_back_now_and_then, keep_freed_memory
    from bucketfs.daemon.credentials import CredentialsFile, Profile
    from bucketfs.daemon.daemon import run_daemon
    from bucketfs.daemon.embedded import serve_embedded
    from bucketfs.daemon.process import spawn
    from bucketfs.daemon.session import Session, open_session

__all__ = [
    "DEFAULT_PROFILE",
    "EMBEDDED",
    "ERROR",
    "OWNER_ONLY",
    "SETTINGS",
    "Command",
    "Config",
    "ControlServer",
    "CredentialsFile",
    "JournalFormatter",
    "LineFormatter",
    "MountOptions",
    "Places",
    "Profile",
    "Progress",
    "Running",
    "Session",
    "Setting",
    "Watched",
    "announced",
    "answers",
    "ask",
    "await_ready",
    "descriptor_figures",
    "find_places",
    "give_back_now_and_then",
    "into_itself",
    "journal_listens",
    "keep_freed_memory",
    "levelled",
    "load_config",
    "make_private",
    "notify_failed",
    "notify_ready",
    "notify_status",
    "notify_stopping",
    "open_session",
    "parse_seconds",
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
    "give_back_now_and_then": "allocator",
    "keep_freed_memory": "allocator",
    "run_daemon": "daemon",
    "serve_embedded": "embedded",
    "Session": "session",
    "open_session": "session",
    "spawn": "process",
    "CredentialsFile": "credentials",
    "Profile": "credentials",
}
"""What is loaded when it is first asked for: ``bucketfs status`` must not wait for gRPC, nor a Hub's machine have
libfuse."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"bucketfs.daemon.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
