"""A daemon and its machine: start and readiness, control socket, service manager, limits, and who runs what.

Imports no other sub-room, and nothing that brings gRPC, libfuse or a mount's volumes along: ``bucketfs status`` lives from here.
"""

from bucketfs.daemon.host.allocator import keep_freed_memory, return_free_memory_regularly
from bucketfs.daemon.host.control_socket import Arguments, Command, ControlServer, Document, Progress, answers, ask
from bucketfs.daemon.host.descriptors import descriptor_figures, raise_descriptor_limit
from bucketfs.daemon.host.journald import ERROR, JournalFormatter, LineFormatter, journal_listens, levelled
from bucketfs.daemon.host.mirror_registry import MirroredFolder, mirror_above, mirror_closing_ring, registered_mirror
from bucketfs.daemon.host.mount_registry import MountLocks, RunningMount, running_mount_at, running_mounts
from bucketfs.daemon.host.process import spawn
from bucketfs.daemon.host.ready import await_ready, report_failed, report_ready, report_waiting
from bucketfs.daemon.host.systemd import (
    more_time,
    notify,
    notify_failed,
    notify_ready,
    notify_status,
    notify_stopping,
    watchdog,
)

__all__ = [
    "ERROR",
    "Arguments",
    "Command",
    "ControlServer",
    "Document",
    "JournalFormatter",
    "LineFormatter",
    "MirroredFolder",
    "MountLocks",
    "Progress",
    "RunningMount",
    "answers",
    "ask",
    "await_ready",
    "descriptor_figures",
    "journal_listens",
    "keep_freed_memory",
    "levelled",
    "mirror_above",
    "mirror_closing_ring",
    "more_time",
    "notify",
    "notify_failed",
    "notify_ready",
    "notify_status",
    "notify_stopping",
    "raise_descriptor_limit",
    "registered_mirror",
    "report_failed",
    "report_ready",
    "report_waiting",
    "return_free_memory_regularly",
    "running_mount_at",
    "running_mounts",
    "spawn",
    "watchdog",
]
