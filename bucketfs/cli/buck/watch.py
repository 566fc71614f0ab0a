"""``bucketfs buck watch``: a folder without a mount that is kept the same as a bucket."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import trio

from bucketfs.cli.buck.target import acting, asides_place, bucket_of, need_native, preserve_of, rights_options
from bucketfs.cli.buck.watch_output import WatchShown
from bucketfs.cli.options import LocalPath, configured
from bucketfs.client import BucketInfo
from bucketfs.config import EMBEDDED, Config, Paths, make_private
from bucketfs.daemon import Session, Watched, announced, open_session, raise_descriptor_limit
from bucketfs.disk import Disk
from bucketfs.errors import Busy, NotFound, Refused, TimedOut, Unavailable, Usage
from bucketfs.keys import thread_from_text, thread_text
from bucketfs.mirror import Mirror, MirrorPace, MirrorRunner, MirrorState, forget_state
from bucketfs.mount import mount_above, mounts
from bucketfs.remote import NativeRemote, Watcher
from bucketfs.transfer import Asides, Preserve, listed_asides
from bucketfs.types import BucketKey, ThreadId
from bucketfs.vfs import conflict_name

POLL_S = 30.0
"""How often the Hub is asked for what it did not tell of by itself."""

ONCE_ROUNDS_MAX = 3
"""What was changing in one round is tried again in the next; those that carry a large file do not count."""


@click.command(short_help="Keep a folder and a bucket the same, without a mount.")
@click.argument("local", metavar="DIR", type=LocalPath(path_type=Path))
@click.argument("bucket")
@click.option("--once", is_flag=True, help="Do it once, and end.")
@click.option("--anew", is_flag=True, help="Forget what was agreed before: both sides are put together, nothing is removed.")
@rights_options
@click.option("--json", "as_json", is_flag=True, help="Print lines of JSON.")
@click.option("--quiet", "quiet_s", type=float, default=2.0, hidden=True)
@acting
def watch(
    local: Path,
    bucket: str,
    once: bool,
    anew: bool,
    owner: bool,
    special_modes: bool,
    as_json: bool,
    quiet_s: float,
    **options: Any,
) -> None:
    """Keep the folder DIR and a bucket the same, both ways, without a mount.

    What changed on one side goes to the other; where both changed one file, the Hub's version keeps the name and yours stands
    beside it. Either side may be away for any time. Ends with SIGTERM or Ctrl-C.
    """
    raise_descriptor_limit()
    preserve = preserve_of(owner, special_modes)
    config = configured("", options)
    top = _folder(local, config.paths)
    with _alone(top, config.paths) as place, listed_asides(make_private(asides_place(options)), top) as asides:
        wanted = _Wanted(config, top, bucket, place, asides, preserve, anew, MirrorPace(quiet_s=quiet_s))
        trio.run(_watch, wanted, once, WatchShown(top, bucket, as_json))


class _Wanted:
    """What is to be mirrored, and where its state is: a file for each Hub, account and bucket in the folder of ``top``."""

    def __init__(
        self,
        config: Config,
        top: Path,
        bucket: str,
        place: Path,
        asides: Asides,
        preserve: Preserve,
        anew: bool,
        pace: MirrorPace,
    ) -> None:
        self.asides = asides
        self.preserve = preserve
        self.config = config
        self.top = top
        self.bucket = bucket.strip("/")
        self.place = place
        self.anew = anew
        self.pace = pace
        self._state: MirrorState | None = None
        if not self.bucket or "/" in self.bucket:
            raise Usage(f"{bucket!r} names no bucket", hint="a folder is mirrored with a whole bucket")

    def recall(self, place: str, who: str) -> ThreadId | None:
        """The thread of the bucket, when it was mirrored before: then the Hub need not be there to begin."""
        state = self.open(place, who)
        said = state.fact("thread")
        return None if said is None else thread_from_text(said)

    def open(self, place: str, who: str) -> MirrorState:
        """The state, opened once. ``anew`` throws it away before."""
        if self._state is None:
            name = _tag("\n".join([place, who, self.bucket]))
            file = self.place / f"{name}.db"
            if place.startswith(EMBEDDED):
                self._bring_along(file, who)
            if self.anew:
                forget_state(Disk(), file)
            self._state = MirrorState(file)
        return self._state

    def _bring_along(self, file: Path, who: str) -> None:
        """The embedded Hub was known by its socket once, which stood in the runtime folder. The log goes before its database, which
        without it would be one of some time ago."""
        socket = self.config.paths.hub_socket(self.config.hub_data)
        name = _tag("\n".join([f"unix:{socket}", who, self.bucket]))
        before = self.place / f"{name}.db"
        if before.exists() and not file.exists():
            for end in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    os.rename(f"{before}{end}", f"{file}{end}")

    def close(self) -> None:
        if self._state is not None:
            self._state.close()


async def _watch(wanted: _Wanted, once: bool, shown: WatchShown) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_until_signal, signals, nursery.cancel_scope)
            try:
                async with open_session(wanted.config, recall=wanted.recall) as session:
                    state = wanted.open(session.place, session.who)
                    key = await _bucket_key(session, wanted, state)
                    mirror = Mirror(
                        NativeRemote(session.blocks, session.buckets, session.thread, key),
                        wanted.top,
                        state,
                        _conflict_name,
                        asides=wanted.asides,
                        preserve=wanted.preserve,
                        progress=shown.progress,
                        hub_ahead_ns=lambda: _hub_ahead_ns(session),
                    )
                    with announced(wanted.config.paths, wanted.place, Watched(wanted.top, key)):
                        if once:
                            await _once(mirror, shown)
                        else:
                            await _run(session, wanted, key, mirror, shown)
            finally:
                wanted.close()
            nursery.cancel_scope.cancel()


async def _until_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


async def _once(mirror: Mirror, shown: WatchShown) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.carry)
        left = ONCE_ROUNDS_MAX
        while True:
            done = await mirror.round()
            shown.round(done, always=True)
            if not (mirror.carrying and done.did_something):
                left -= 1
            if not left or not (done.soon or mirror.carrying):
                break
            await mirror.gather()
        nursery.cancel_scope.cancel()
    out = len(done.skipped) + len(done.applied.left) + done.sending + done.applied.arriving
    if out:
        raise Refused(f"{out} left out, the rest is done")


async def _run(session: Session, wanted: _Wanted, key: BucketKey, mirror: Mirror, shown: WatchShown) -> None:
    shown.begun(session.hub_text)
    runner = MirrorRunner(
        mirror,
        wanted.top,
        wanted.place,
        pace=wanted.pace,
        told=shown.round,
        troubled=shown.trouble,
        say=shown.say,
    )

    async def look() -> list[BucketInfo]:
        return (await session.look(key)).buckets

    watcher = Watcher(
        look,
        session.threads,
        session.thread,
        poll_s=POLL_S,
        moved=lambda moved: runner.changed() if moved == key else None,
        # When the bucket is gone, the next round finds that out.
        listed=lambda found: None if any(info.key == key for info in found) else runner.changed(),
        back=runner.hurry,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(watcher.run)
        await runner.run()


async def _bucket_key(session: Session, wanted: _Wanted, state: MirrorState) -> BucketKey:
    """The bucket's key, from the Hub, or from the state when the Hub is away. Raises Refused when the name is another bucket's
    now."""
    known = state.fact("bucket")
    try:
        info = await bucket_of(session, wanted.bucket)
        await need_native(session, info)
    except (Unavailable, TimedOut):
        if known is None:
            raise
        return BucketKey(known)
    if known is not None and known != info.key:
        raise Refused(
            f"{wanted.bucket} is another bucket now than the one {wanted.top} was mirrored with",
            hint="--anew puts both together and removes nothing",
        )
    state.note_fact("bucket", info.key)
    state.note_fact("thread", thread_text(info.thread))
    return info.key


def _hub_ahead_ns(session: Session) -> int:
    behind = session.channel.behind
    return 0 if behind is None else int(behind.total_seconds() * 1e9)


def _conflict_name(name: bytes, taken: Callable[[bytes], bool]) -> bytes:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H%M%S")
    return conflict_name(name, socket.gethostname(), when, taken)


def _folder(local: Path, paths: Paths) -> Path:
    top = Path(os.path.realpath(local.expanduser()))
    if not top.is_dir():
        raise NotFound(f"no such folder: {local}", hint="make it (or mount its disk) first")
    for ours in (paths.state, paths.data, paths.cache, paths.runtime):
        if ours.resolve().is_relative_to(top):
            raise Usage(f"{local} holds {ours}, where bucketfs keeps its own files", hint="choose a folder beside them")
    # A bucket that is put into itself grows for ever.
    if mount_above(top) is not None:
        raise Usage(f"{local} is in a bucketfs mount", hint="choose a folder on a disk")
    inner = next((one.mountpoint for one in mounts() if one.ours and one.mountpoint.is_relative_to(top)), None)
    if inner is not None:
        raise Usage(f"{local} holds the bucketfs mount {inner}", hint="choose a folder without one")
    return top


@contextmanager
def _alone(top: Path, paths: Paths) -> Iterator[Path]:
    """The place for what is remembered of a folder; no other process has it. Raises Busy."""
    place = make_private(paths.state / "watch" / _tag(str(top)))
    disk = Disk()
    try:
        lock = disk.lock_file(place / "lock")
    except Busy as error:
        raise Busy(f"{top} is being watched already", hint="end that 'bucketfs buck watch' first") from error
    try:
        yield place
    finally:
        disk.close(lock)


def _tag(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
