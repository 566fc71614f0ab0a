"""The document that ``status`` answers: plain values about a running mount."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

from bucketfs import __version__
from bucketfs.client import behind_text
from bucketfs.daemon.buckets import OpenVolume, PendingBucket, Removal
from bucketfs.daemon.control.conflicts import conflict_documents
from bucketfs.daemon.control.parts import MountParts
from bucketfs.daemon.host import Document, descriptor_figures
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError, HubFull, NoSpace, OverQuota, TimedOut, Unauthenticated, Unavailable

FULL_BYTES = 1 << 20
"""A disk with less free space counts as full."""


def bucket_status(one: OpenVolume, hub_data: Path | None = None) -> Document:
    """One bucket: its root, what waits, what went wrong. Times are seconds since 1970, ages seconds. ``hub_data`` is the folder of
    the embedded Hub's stores, when that is the Hub."""
    scheduler, volume = one.scheduler, one.volume
    trouble, progress = scheduler.failure, scheduler.progress()
    since_ns = volume.push.since_ns
    return {
        "name": one.info.name,
        "key": str(one.info.key),
        "root": cid_text(volume.base),
        "remote": "native",
        "pending_count": scheduler.pending_count,
        "pending_bytes": scheduler.pending_bytes,
        "oldest_age_s": None if since_ns is None else max(0.0, (volume.now_ns() - since_ns) / 1e9),
        "pushing": None if progress is None else asdict(progress),
        "sent": {"blocks": scheduler.sent.blocks_sent, "bytes": scheduler.sent.bytes_sent},
        "last_push_s": scheduler.last_push_s,
        "paused": None if trouble is None else paused_by(trouble.error, hub_data),
        "error": None if trouble is None else str(trouble.error),
        "hint": None if trouble is None else _hint(trouble.error, hub_data) or None,
        "error_since_s": None if trouble is None else trouble.since_s,
        "next_try_s": None if trouble is None else trouble.next_try_s,
        "conflicts": [conflict.copy for conflict in volume.pending.conflicts],
        "refused": [{"path": path, "reason": reason} for path, reason in scheduler.withheld.refused.items()],
        "damaged": [{"path": path, "reason": reason} for path, reason in scheduler.withheld.damaged.items()],
        "quarantined": [{"path": path, "change": change} for path, change in one.journal.quarantine.by_path().items()],
        "journal": asdict(one.journal.figures()) | {"base_waiting": one.pinner.waiting_count},
    }


def pending_status(one: PendingBucket) -> Document:
    """One bucket that cannot be opened: the name of its folder, what waits for it here, the error, and when the next attempt is due
    (seconds since 1970)."""
    return {
        "name": one.name.decode(),
        "key": str(one.info.key),
        "pending_count": one.changes,
        "error": str(one.error),
        "hint": one.error.hint or None,
        "next_try_s": one.retry.next_try_s,
    }


def removal_status(one: Removal) -> Document:
    """One bucket that was removed here and not at the Hub yet, the error, and when the next attempt is due (seconds since 1970)."""
    return {
        "name": one.info.name,
        "key": str(one.info.key),
        "error": None if one.error is None else str(one.error),
        "next_try_s": one.retry.next_try_s,
    }


def paused_by(error: BucketfsError, hub_data: Path | None = None) -> str:
    """What has to change before pushes go on, in one word."""
    if _lacks_room(error, hub_data):
        return "room"
    if isinstance(error, Unauthenticated):
        return "key"
    if isinstance(error, OverQuota):
        return "limit"
    if isinstance(error, NoSpace):
        return "disk"
    return "hub" if isinstance(error, (Unavailable, TimedOut)) else "other"


def _hint(error: BucketfsError, hub_data: Path | None) -> str:
    if hub_data is None or not isinstance(error, Unavailable):
        return error.hint
    if _lacks_room(error, hub_data):
        return (
            f"make room on the disk of {hub_data}: remove files, then run 'bucketfs hub gc'; the push is retried by itself"
        )
    return "the embedded Hub does not answer and is restarted; its log says why"


def _lacks_room(error: BucketfsError, hub_data: Path | None) -> bool:
    """Whether the Hub's disk is full. An embedded Hub without any room does not even start, and so cannot say so."""
    return isinstance(error, HubFull) or (isinstance(error, Unavailable) and hub_data is not None and _is_full(hub_data))


def _is_full(folder: Path) -> bool:
    try:
        figures = os.statvfs(folder)
    except OSError:
        return False
    return figures.f_bavail * figures.f_frsize < FULL_BYTES


def _state(error: BucketfsError | None) -> str:
    if error is None:
        return "connected"
    return "refused" if isinstance(error, Unauthenticated) else "away"


def mount_status(parts: MountParts, started_s: float) -> Document:
    """The whole mount."""
    options, session, volumes, watcher = parts.options, parts.session, parts.volumes, parts.watcher
    hub_data = options.config.paths.data if session.embedded else None
    buckets = [bucket_status(one, hub_data) for one in volumes.open.values()]
    ages = [bucket["oldest_age_s"] for bucket in buckets if bucket["oldest_age_s"] is not None]
    unopened = [pending_status(one) for one in parts.folders.pending.values()]
    behind = session.channel.behind
    errors = [bucket["error"] for bucket in [*buckets, *unopened] if bucket["error"]]
    return {
        "mountpoint": str(options.mountpoint),
        "bucket": options.bucket + (f"/{options.prefix}" if options.prefix else ""),
        "hub": session.hub_text,
        "version": __version__,
        "pid": os.getpid(),
        "started_s": started_s,
        "read_only": options.config.mount.read_only,
        "connection": {
            "state": _state(watcher.error),
            "error": str(watcher.error) if watcher.error is not None else None,
            "hears": "feed" if watcher.listening else "poll",
            "heard_age_s": None if watcher.looked_s is None else max(0.0, time.time() - watcher.looked_s),
            "clock": None if behind is None else behind_text(behind) or None,
        },
        "pending_count": sum(bucket["pending_count"] for bucket in [*buckets, *unopened]),
        "pending_bytes": sum(bucket["pending_bytes"] for bucket in buckets),
        "oldest_age_s": max(ages, default=None),
        "error": errors[0] if errors else None,
        "conflicts": conflict_documents(volumes, parts.paths),
        "buckets": buckets,
        "unopened": unopened,
        "removing": [removal_status(removal) for removal in parts.folders.removals.pending.values()],
        "cache": asdict(parts.cache.figures()),
        "fetched": {"blocks": parts.source.blocks_fetched, "bytes": parts.source.bytes_fetched},
        "calls": dict(session.channel.counts),
        "mount": parts.mount.figures(),
        "open_files": parts.vfs.open_count,
        "descriptors": descriptor_figures(),
    }
