"""One bucket of an open Hub."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import trio

from bucketfs.api.values import (
    BucketEntry,
    BucketRecord,
    BucketUpdate,
    TransferReport,
    change_of,
    entry_of,
    record_of,
    report_of,
)
from bucketfs.cache import run_steps
from bucketfs.client import BucketInfo, PathItem
from bucketfs.config import make_private
from bucketfs.daemon import Session
from bucketfs.dag import RAW, cid_from_text, cid_text, codec_of, diff, list_directory, node_info, resolve
from bucketfs.errors import (
    BucketfsError,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotFound,
    TimedOut,
    Unavailable,
)
from bucketfs.names import SEED, SEED_NAME
from bucketfs.remote import NodeSource, Watcher, read_content
from bucketfs.sync import events_of
from bucketfs.transfer import (
    Figures,
    PullOptions,
    PushOptions,
    listed_temporaries,
    move_by_path,
    move_path,
    pull_folder,
    push_folder,
    remove_path,
)
from bucketfs.types import Cid, Link

POLL_S = 30.0
"""How often `AsyncBucket.watch` asks for a change that the Hub did not tell of."""

NODES_AT_ONCE = 32
"""Root blocks of entries that are fetched together: that of a small file is all of it."""

DEFAULT_MODE = 0o644


class AsyncBucket:
    """A bucket of an `AsyncHub`. Methods await; each sees the bucket as it is at the Hub when it is called."""

    def __init__(self, session: Session, info: BucketInfo) -> None:
        self._session = session
        self._info = info
        self._remote = session.remote(info)
        self._source = NodeSource(self._remote)

    @property
    def key(self) -> str:
        """The name that never changes."""
        return str(self._info.key)

    @property
    def name(self) -> str:
        """The name when the bucket was opened."""
        return self._info.name

    async def record(self) -> BucketRecord:
        """What the Hub says of the bucket now. Raises NotFound when it was destroyed."""
        return record_of(await self._session.buckets.root(self._info.key))

    async def entry(self, path: str) -> BucketEntry:
        """What stands at a path; symlinks are not followed. Raises NotFound."""
        names = names_of(path)
        if not await self._session.is_native(self._info):
            return _plain_entry("/".join(_texts(names)), await self._item(names))
        return await self._entry(names, await self._link(names))

    async def list(self, path: str = "") -> list[BucketEntry]:
        """The entries of a directory, in the order of their names. Raises NotFound, NotADirectory."""
        names = names_of(path)
        if not await self._session.is_native(self._info):
            item = await self._item(names)
            if not item.is_directory:
                raise NotADirectory(f"{path!r} is no directory")
            found = [child for child in item.items if names or child.name != SEED_NAME]
            return [_plain_entry("/".join([*_texts(names), child.name]), child) for child in found]
        directory = await run_steps(list_directory((await self._link(names)).cid), self._source)
        links = [(name, link) for name, link in sorted(directory.entries.items()) if names or name != SEED]
        entries: list[BucketEntry] = []
        for start in range(0, len(links), NODES_AT_ONCE):
            window = links[start : start + NODES_AT_ONCE]
            await self._source.get_many([link.cid for _, link in window if codec_of(link.cid) != RAW])
            entries += [await self._entry((*names, name), link) for name, link in window]
        return entries

    async def read(self, path: str) -> bytes:
        """All bytes of a file, each block checked against its CID. Raises NotFound, IsADirectory, InvalidArgument for a
        symlink, Corrupt."""
        async with aclosing(self.read_chunks(path)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def read_chunks(self, path: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a file in order, at most some megabytes in memory at a time. Raises as `read` does. Close it
        (``aclosing``) when you leave before the end."""
        names = names_of(path)
        if await self._session.is_native(self._info):
            content = read_content(self._source, await self._link(names))
        elif (await self._item(names)).is_directory:
            raise IsADirectory(f"{path!r} is a directory")
        else:
            content = self._session.buckets.pull_path(self._info.key, "/".join(_texts(names)))
        async with aclosing(content) as chunks:
            async for chunk in chunks:
                yield chunk

    async def write(
        self, path: str, data: bytes, *, mode: int = DEFAULT_MODE, mtime_ns: int | None = None
    ) -> TransferReport:
        """Make ``data`` the content of a file; missing directories are made. ``mode`` has 12 bits; ``mtime_ns`` is
        nanoseconds since 1970, None for now. It is at the Hub when this returns. Raises IsADirectory, OverQuota, Denied."""
        if not names_of(path):
            raise InvalidArgument("a file needs a path in the bucket")
        with tempfile.TemporaryDirectory(prefix="bucketfs-") as folder:
            file = Path(folder, "file")
            await trio.to_thread.run_sync(_spool, file, data, mode, mtime_ns)
            return await self._push(file, path, PushOptions(exact=True))

    async def remove(self, path: str) -> None:
        """Remove a file, a symlink, or a directory with all that is in it. Raises NotFound, Denied."""
        names = names_of(path)
        if not names:
            raise InvalidArgument("the top of a bucket cannot be removed", hint="destroy the bucket")
        await self._item(names)
        if await self._session.is_native(self._info):
            await remove_path(self._remote, names)
        else:
            await self._session.buckets.remove_path(self._info.key, "/".join(_texts(names)))

    async def move(self, old: str, new: str) -> None:
        """Rename within the bucket. A file is replaced by a file, and nothing else by anything. Raises NotFound, Exists."""
        source, goal = names_of(old), names_of(new)
        if not source or not goal:
            raise InvalidArgument("the top of a bucket cannot be moved, nor replaced", hint="name something in it")
        await self._item(source)
        if await self._session.is_native(self._info):
            await move_path(self._remote, source, goal, into=False)
        else:
            by_names = await self._session.blocks.offered()
            await move_by_path(self._session.buckets, self._info.key, source, goal, into=False, by_names=by_names)

    async def push(
        self,
        local: str | os.PathLike[str],
        path: str = "",
        *,
        delete: bool = False,
        reread: bool = False,
        attributes: bool = True,
    ) -> TransferReport:
        """Make a local directory or file appear at ``path``, all of it at one moment, and send only what the Hub lacks.

        ``delete`` removes from the bucket what is not in ``local``; ``reread`` compares large files by content even if size
        and time agree; ``attributes`` False leaves modes and times out. What cannot be carried is in ``skipped`` of the
        report. Raises NotFound, IsADirectory or NotADirectory for what would replace something of another kind without
        ``delete``, OverQuota, Denied.
        """
        return await self._push(Path(local), path, PushOptions(attributes=attributes, delete=delete, reread=reread))

    async def pull(
        self, path: str, local: str | os.PathLike[str], *, delete: bool = False, reread: bool = False
    ) -> TransferReport:
        """Make ``local`` what stands at ``path``: a directory is laid over a local one, a file goes to ``local`` or into it
        when that is a directory. Each file is written aside and renamed.

        ``delete`` removes from ``local`` what is not in the bucket; ``reread`` as in `push`. What cannot be written, and a
        file whose bytes are damaged at the Hub, is in ``skipped`` of the report. Raises NotFound, NoSpace.
        """
        await self._session.need_native(self._info)
        top, options = Path(local), PullOptions(delete=delete, reread=reread)
        with listed_temporaries(make_private(self._session.config.paths.state / "aside"), top) as temporaries:
            return report_of(await pull_folder(self._remote, top, names_of(path), options, temporaries=temporaries))

    @asynccontextmanager
    async def watch(self, since: str = "") -> AsyncGenerator[BucketUpdates, None]:
        """Changes of the bucket as they come, whoever makes them: `BucketUpdates` to iterate over.

        ``since`` is the CID of a root that was seen before, to go on from; without it the first update is the next change. A
        Hub that is away is waited for. Iterating raises NotFound when the bucket is destroyed, and Corrupt when ``since``
        was collected.
        """
        await self._session.need_native(self._info)
        known = cid_from_text(since) if since else await self._remote.root()
        updates = BucketUpdates()
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, known, updates)
            try:
                yield updates
            except Exception as error:  # kept out of the nursery, which would wrap it in a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _follow(self, known: Cid, updates: BucketUpdates) -> None:
        try:
            async with trio.open_nursery() as nursery:
                moved = _Bell()
                await nursery.start(self._watcher(moved.ring).run)
                failure = await self._tell(known, moved, updates)
                nursery.cancel_scope.cancel()
            # Closed behind the error: who asks again must not wait for news that will not come.
            async with updates.send:
                await updates.send.send(failure)
        except trio.BrokenResourceError:
            return  # nobody iterates any more

    def _watcher(self, moved: Callable[[], None]) -> Watcher:
        async def look() -> list[BucketInfo]:
            return (await self._session.look(self._info.key)).buckets

        session, key = self._session, self._info.key
        return Watcher(
            look,
            session.threads,
            session.thread,
            poll_s=POLL_S,
            moved=lambda found: moved() if found == key else None,
            listed=lambda found: None if any(info.key == key for info in found) else moved(),
            back=moved,
        )

    async def _tell(self, known: Cid, moved: _Bell, updates: BucketUpdates) -> BucketfsError:
        """Send updates until an error that does not pass."""
        while True:
            try:
                root = await self._remote.root()
                if root != known:
                    events = events_of(await run_steps(diff(known, root), self._source))
                    changes = tuple(change_of(event) for event in events)
                    await updates.send.send(BucketUpdate(cid_text(known), cid_text(root), changes))
                    known = root
            except (Unavailable, TimedOut):
                pass  # the watcher rings when the Hub is back
            except BucketfsError as error:
                return error
            await moved.heard()

    async def _push(self, local: Path, path: str, options: PushOptions) -> TransferReport:
        await self._session.need_native(self._info)
        figures: Figures = await push_folder(self._remote, local, names_of(path), options)
        return report_of(figures)

    async def _item(self, names: tuple[bytes, ...]) -> PathItem:
        item, _ = await self._session.buckets.list_path(self._info.key, "/".join(_texts(names)))
        return item

    async def _link(self, names: tuple[bytes, ...]) -> Link:
        link = await run_steps(resolve(await self._remote.root(), names), self._source)
        if link is None:
            raise NotFound(f"no such file or directory: {'/'.join(_texts(names))!r}")
        return link

    async def _entry(self, names: tuple[bytes, ...], link: Link) -> BucketEntry:
        path = "/".join(_texts(names))
        if codec_of(link.cid) == RAW:
            return BucketEntry(path, "file", cid_text(link.cid), link.tsize)
        return entry_of(path, link, node_info(link.cid, await self._source.get(link.cid)))


class BucketUpdates:
    """`BucketUpdate` values in their order, for ``async for``. One that is not taken out holds the next ones back; the
    roots between are then told as one step."""

    def __init__(self) -> None:
        self.send, self._receive = trio.open_memory_channel[BucketUpdate | BucketfsError](0)

    def __aiter__(self) -> BucketUpdates:
        return self

    async def __anext__(self) -> BucketUpdate:
        try:
            found = await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None  # after the error that ended it
        if isinstance(found, BucketfsError):
            raise found
        return found


class _Bell:
    """Rung any number of times, heard once."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def heard(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


def names_of(path: str) -> tuple[bytes, ...]:
    """The names of a path. Raises InvalidArgument for ``.`` and ``..``."""
    parts = [part for part in path.split("/") if part]
    if {".", ".."} & set(parts):
        raise InvalidArgument(f"{path!r} is no path of a bucket", hint="leave out '.' and '..'")
    return tuple(part.encode(errors="surrogateescape") for part in parts)


def _texts(names: tuple[bytes, ...]) -> list[str]:
    return [name.decode(errors="surrogateescape") for name in names]


def _plain_entry(path: str, item: PathItem) -> BucketEntry:
    return BucketEntry(
        path, "directory" if item.is_directory else "file", cid_text(item.cid), 0 if item.is_directory else None
    )


def _spool(file: Path, data: bytes, mode: int, mtime_ns: int | None) -> None:
    file.write_bytes(data)
    file.chmod(mode & 0o7777)
    if mtime_ns is not None:
        os.utime(file, ns=(mtime_ns, mtime_ns))
