"""What a running mount does when it is asked over its control socket, by the names of the commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from bucketfs.cache import Source
from bucketfs.daemon.buckets.draining import check_opened, reporting, settle_all
from bucketfs.daemon.buckets.volumes import Volumes
from bucketfs.daemon.control.conflicts import conflict_documents, settle_conflicts
from bucketfs.daemon.control.events import stream
from bucketfs.daemon.control.quarantine import export_quarantine, quarantine_documents
from bucketfs.daemon.control.socket import Arguments, Command, Document, Progress
from bucketfs.daemon.mount_paths import Where
from bucketfs.errors import InvalidArgument, TimedOut
from bucketfs.mount import Mount
from bucketfs.remote import Watcher
from bucketfs.vfs import Keep


def commands_of(
    volumes: Volumes,
    where: Where,
    source: Source,
    mount: Mount,
    watcher: Watcher,
    *,
    describe: Callable[[], Document],
    stop: Callable[[Progress], Awaitable[Document]],
) -> dict[str, Command]:
    """The commands of one mount. ``describe`` is what ``status`` answers, ``stop`` ends the mount and says what was left."""

    async def status(arguments: Arguments, progress: Progress) -> Document:
        return describe()

    async def sync(arguments: Arguments, progress: Progress) -> Document:
        watcher.look()
        limit_s = arguments.get("timeout_s")
        chosen = list(volumes.open.values())
        with trio.move_on_after(float("inf") if limit_s is None else float(limit_s)):
            await reporting(chosen, progress, lambda: settle_all(chosen))
            check_opened(volumes)
            await volumes.removals.settle()
            await mount.drained()
            return {"buckets": [str(one.info.key) for one in chosen]}
        waiting = sum(one.scheduler.pending_count for one in chosen)
        raise TimedOut(f"{waiting} changes still wait after {limit_s} s", hint="'bucketfs status' says why")

    async def end(arguments: Arguments, progress: Progress) -> Document:
        return await stop(progress)

    async def conflicts(arguments: Arguments, progress: Progress) -> Document:
        return {"conflicts": conflict_documents(volumes, where, _path(arguments))}

    async def resolve(arguments: Arguments, progress: Progress) -> Document:
        try:
            keep = Keep(arguments.get("keep"))
        except ValueError:
            raise InvalidArgument(f"{arguments.get('keep')!r} is no way to settle a conflict") from None
        found = await settle_conflicts(volumes, where, _path(arguments), keep, everything=bool(arguments.get("all")))
        # What the user looks at next must be what was chosen.
        await mount.drained()
        return found

    async def quarantined(arguments: Arguments, progress: Progress) -> Document:
        return {"quarantined": quarantine_documents(volumes, where, _path(arguments))}

    async def recover(arguments: Arguments, progress: Progress) -> Document:
        return await export_quarantine(volumes, where, _path(arguments), str(arguments.get("to", "")))

    async def events(arguments: Arguments, progress: Progress) -> Document:
        await stream(volumes, where, source, _path(arguments), progress)
        return {}

    return {
        "status": status,
        "sync": sync,
        "stop": end,
        "conflicts": conflicts,
        "resolve": resolve,
        "quarantined": quarantined,
        "recover": recover,
        "events": events,
    }


def _path(arguments: Arguments) -> str:
    return str(arguments.get("path", ""))
