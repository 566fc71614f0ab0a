"""``bucketfs buck watch``: keeps a folder and a bucket the same, without a mount."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import trio

from bucketfs.cli.buck.group import ACTING, buck
from bucketfs.cli.buck.target import find_target
from bucketfs.cli.buck.transfer import preserve_options, temporaries_folder
from bucketfs.cli.buck.watch_output import WatchOutput
from bucketfs.cli.options import LocalPath, json_option, settings
from bucketfs.client import BucketInfo
from bucketfs.config import EMBEDDED, Config, Paths, make_private
from bucketfs.daemon import MirroredFolder, Session, open_session, raise_descriptor_limit, registered_mirror
from bucketfs.disk import Disk
from bucketfs.errors import Busy, NotFound, Refused, TimedOut, Unavailable, Usage
from bucketfs.keys import thread_from_text, thread_text
from bucketfs.mirror import Mirror, MirrorPace, MirrorRunner, MirrorState, WatchedFolder, forget_state
from bucketfs.mount import Mounted, mounts
from bucketfs.remote import NativeRemote, Watcher
from bucketfs.transfer import Preserve, Temporaries, listed_temporaries, real_path
from bucketfs.types import BucketKey, ThreadId
from bucketfs.vfs import conflict_name

POLL_S = 30.0
"""How often to ask the Hub for changes that it did not announce."""

ONCE_ROUNDS_MAX = 3
"""What was changing in one round is tried again in the next; rounds that carry a large file do not count."""


@buck.command(short_help="Keep a folder and a bucket the same, without a mount.")
@click.argument("local", metavar="DIR", type=LocalPath(path_type=Path))
@click.argument("bucket")
@click.option("--once", is_flag=True, help="Do it once, and end.")
@click.option(
    "--anew", is_flag=True, help="Forget earlier runs: what is in either place goes to both, and nothing is removed."
)
@preserve_options
@json_option
@click.option("--quiet", "quiet_s", type=float, default=2.0, hidden=True)
@settings(*ACTING)
def watch(
    config: Config, local: Path, bucket: str, once: bool, anew: bool, preserve: Preserve, as_json: bool, quiet_s: float
) -> None:
    """Keep the folder DIR and a bucket the same, both ways, without a mount.

    What changed on one side goes to the other; where both changed one file, the Hub's version keeps the name and yours stands
    beside it. Either side may be away for any time. Ends with SIGTERM or Ctrl-C.
    """
    raise_descriptor_limit()
    name = bucket.strip("/")
    if not name or "/" in name:
        raise Usage(f"{bucket!r} names no bucket", hint="a folder is mirrored with a whole bucket")
    folder = checked_folder(local, config.paths)
    with (
        _locked_state(folder, config.paths) as state_folder,
        listed_temporaries(make_private(temporaries_folder(config)), folder) as temporaries,
    ):
        states = _States(config, state_folder, name, anew)
        output = WatchOutput(folder, bucket, as_json)
        pace = MirrorPace(quiet_s=quiet_s)
        trio.run(_Watch(config, folder, name, states, temporaries, preserve, pace, output).run, once)


@dataclass(frozen=True)
class _Watch:
    """One run of the command."""

    config: Config
    folder: Path
    bucket: str
    states: _States
    temporaries: Temporaries
    preserve: Preserve
    pace: MirrorPace
    output: WatchOutput

    async def run(self, once: bool) -> None:
        async with trio.open_nursery() as nursery:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                nursery.start_soon(_cancel_on_signal, signals, nursery.cancel_scope)
                try:
                    async with open_session(self.config, recall=self.states.recall) as session:
                        await self._mirror(session, once)
                finally:
                    self.states.close()
                nursery.cancel_scope.cancel()

    async def _mirror(self, session: Session, once: bool) -> None:
        state = self.states.open(session.place, session.who)
        key = await self._bucket_key(session, state)
        mirror = Mirror(
            NativeRemote(session.blocks, session.buckets, session.thread, key),
            WatchedFolder(real_path(self.folder), state, self.temporaries, self.preserve),
            _conflict_name,
            progress=self.output.progress,
            hub_ahead_ns=lambda: _hub_ahead_ns(session),
        )
        with registered_mirror(self.config.paths, self.states.folder, MirroredFolder(self.folder, key)):
            if once:
                await _once(mirror, self.output)
            else:
                await self._until_cancelled(session, key, mirror)

    async def _until_cancelled(self, session: Session, key: BucketKey, mirror: Mirror) -> None:
        self.output.begun(session.hub_text)
        runner = MirrorRunner(
            mirror,
            self.folder,
            self.states.folder,
            pace=self.pace,
            on_round=self.output.round,
            on_trouble=self.output.trouble,
            on_notice=self.output.note,
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

    async def _bucket_key(self, session: Session, state: MirrorState) -> BucketKey:
        """The bucket's key: from the Hub, or from the state while the Hub is away. Raises Refused when another bucket has the name
        now."""
        known = state.fact("bucket")
        try:
            target = await find_target(session, self.bucket)
            await target.need_native()
        except (Unavailable, TimedOut):
            if known is None:
                raise
            return BucketKey(known)
        if known is not None and known != target.bucket.key:
            raise Refused(
                f"{self.bucket} is another bucket now than the one {self.folder} was mirrored with",
                hint="--anew puts both together and removes nothing",
            )
        state.note_fact("bucket", target.bucket.key)
        state.note_fact("thread", thread_text(target.bucket.thread))
        return target.bucket.key


class _States:
    """Where the state of a folder's mirrors is: in ``folder`` a file for each Hub, account and bucket."""

    def __init__(self, config: Config, folder: Path, bucket: str, anew: bool) -> None:
        self.folder = folder
        self._config = config
        self._bucket = bucket
        self._anew = anew
        self._state: MirrorState | None = None

    def recall(self, place: str, who: str) -> ThreadId | None:
        """The thread of the bucket when it was mirrored before, so that the Hub is not needed to begin."""
        thread = self.open(place, who).fact("thread")
        return None if thread is None else thread_from_text(thread)

    def open(self, place: str, who: str) -> MirrorState:
        """The state, opened once. ``anew`` removes what earlier runs left."""
        if self._state is None:
            file = self._file(place, who)
            if place.startswith(EMBEDDED):
                self._move_old(self._file(f"unix:{self._config.paths.hub_socket(self._config.hub_data)}", who), file)
            if self._anew:
                forget_state(Disk(), file)
            self._state = MirrorState(file)
        return self._state

    def close(self) -> None:
        if self._state is not None:
            self._state.close()

    def _file(self, place: str, who: str) -> Path:
        return self.folder / (_tag("\n".join([place, who, self._bucket])) + ".db")

    def _move_old(self, old: Path, new: Path) -> None:
        """Earlier releases named the embedded Hub by its socket. SQLite's log is moved before its database: a database without its
        log would lack the newest changes."""
        if old.exists() and not new.exists():
            for end in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    os.rename(f"{old}{end}", f"{new}{end}")


async def _cancel_on_signal(signals: Any, scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


async def _once(mirror: Mirror, output: WatchOutput) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mirror.carry)
        left = ONCE_ROUNDS_MAX
        while True:
            done = await mirror.round()
            output.round(done, always=True)
            if not (mirror.carrying and done.did_something):
                left -= 1
            if not left or not (done.soon or mirror.carrying):
                break
            await mirror.gather()
        nursery.cancel_scope.cancel()
    out = len(done.skipped) + len(done.applied.left) + done.sending + done.applied.arriving
    if out:
        raise Refused(f"{out} left out, the rest is done")


def _hub_ahead_ns(session: Session) -> int:
    behind = session.channel.behind
    return 0 if behind is None else int(behind.total_seconds() * 1e9)


def _conflict_name(name: bytes, taken: Callable[[bytes], bool]) -> bytes:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H%M%S")
    return conflict_name(name, socket.gethostname(), when, taken)


def checked_folder(local: Path, paths: Paths, mounted: Callable[[], list[Mounted]] = mounts) -> Path:
    """The folder without symlinks. Raises NotFound, and Usage for one that must not be mirrored: a mirrored bucket inside of itself
    grows for ever, and our own files change while they are mirrored."""
    folder = Path(os.path.realpath(local.expanduser()))
    if not folder.is_dir():
        raise NotFound(f"no such folder: {local}", hint="make it (or mount its disk) first")
    for ours in (paths.state, paths.data, paths.cache, paths.runtime):
        if ours.resolve().is_relative_to(folder):
            raise Usage(f"{local} holds {ours}, where bucketfs keeps its own files", hint="choose a folder beside them")
    mountpoints = [one.mountpoint for one in mounted() if one.ours]
    if any(folder.is_relative_to(mountpoint) for mountpoint in mountpoints):
        raise Usage(f"{local} is in a bucketfs mount", hint="choose a folder on a disk")
    inner = next((mountpoint for mountpoint in mountpoints if mountpoint.is_relative_to(folder)), None)
    if inner is not None:
        raise Usage(f"{local} holds the bucketfs mount {inner}", hint="choose a folder without one")
    return folder


@contextmanager
def _locked_state(folder: Path, paths: Paths) -> Iterator[Path]:
    """The folder for the state of the mirrors of ``folder``, which no other process has meanwhile. Raises Busy."""
    state_folder = make_private(paths.state / "watch" / _tag(str(folder)))
    disk = Disk()
    try:
        lock = disk.lock_file(state_folder / "lock")
    except Busy as error:
        raise Busy(f"{folder} is being watched already", hint="end that 'bucketfs buck watch' first") from error
    try:
        yield state_folder
    finally:
        disk.close(lock)


def _tag(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
