"""The commands of a running mount, which come over its control socket, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from bucketfs.daemon.buckets import check_all_open, drain_all, report_while
from bucketfs.daemon.control.conflicts import conflict_documents, resolve_conflicts
from bucketfs.daemon.control.events import stream_events
from bucketfs.daemon.control.parts import MountParts
from bucketfs.daemon.control.quarantine import export_quarantine, quarantine_documents
from bucketfs.daemon.host import Arguments, Command, Document, Progress
from bucketfs.errors import InvalidArgument, TimedOut
from bucketfs.vfs import Keep


def commands_of(
    parts: MountParts, *, status: Callable[[], Document], stop: Callable[[Progress], Awaitable[Document]]
) -> dict[str, Command]:
    """The commands of one mount. ``stop`` ends it, and returns what was left."""
    volumes, paths = parts.volumes, parts.paths

    async def show_status(arguments: Arguments, progress: Progress) -> Document:
        return status()

    async def sync(arguments: Arguments, progress: Progress) -> Document:
        parts.watcher.look()
        limit_s = arguments.get("timeout_s")
        chosen = list(volumes.open.values())
        with trio.move_on_after(float("inf") if limit_s is None else float(limit_s)):
            await report_while(chosen, progress, lambda: drain_all(chosen))
            check_all_open(parts.folders)
            await parts.folders.removals.drain()
            await parts.mount.drained()
            return {"buckets": [str(one.info.key) for one in chosen]}
        count = sum(one.scheduler.pending_count for one in chosen)
        raise TimedOut(f"{count} changes still wait after {limit_s} s", hint="'bucketfs status' says why")

    async def stop_mount(arguments: Arguments, progress: Progress) -> Document:
        return await stop(progress)

    async def conflicts(arguments: Arguments, progress: Progress) -> Document:
        return {"conflicts": conflict_documents(volumes, paths, _path(arguments))}

    async def resolve(arguments: Arguments, progress: Progress) -> Document:
        try:
            keep = Keep(arguments.get("keep"))
        except ValueError:
            raise InvalidArgument(f"{arguments.get('keep')!r} is not a way to resolve a conflict") from None
        everything = bool(arguments.get("all"))
        done = await resolve_conflicts(volumes, parts.vfs, paths, _path(arguments), keep, everything=everything)
        # The user's next look must show the outcome.
        await parts.mount.drained()
        return done

    async def quarantined(arguments: Arguments, progress: Progress) -> Document:
        return {"quarantined": quarantine_documents(volumes, paths, _path(arguments))}

    async def recover(arguments: Arguments, progress: Progress) -> Document:
        return await export_quarantine(volumes, paths, _path(arguments), str(arguments.get("to", "")))

    async def events(arguments: Arguments, progress: Progress) -> Document:
        await stream_events(volumes, paths, parts.cache, _path(arguments), progress)
        return {}

    return {
        "status": show_status,
        "sync": sync,
        "stop": stop_mount,
        "conflicts": conflicts,
        "resolve": resolve,
        "quarantined": quarantined,
        "recover": recover,
        "events": events,
    }


def _path(arguments: Arguments) -> str:
    return str(arguments.get("path", ""))
