"""A disk in memory that forgets what was not synced and stops when it is told to.

It claims to be no kinder than a POSIX file system: bytes are durable after ``fsync`` of their file, names after
``fsync_folder`` of their folder, and of what was done since, a power loss keeps any part: each write, whole, torn or not
at all, and of the names in each folder some first few changes. A kill keeps everything, synced or not. ``tests/disk``
runs one contract on this disk and on the real one.
"""

from __future__ import annotations

import copy
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bucketfs.disk import Disk, DiskFile, PathLike
from bucketfs.errors import BucketfsError, Busy, Exists, IsADirectory, NoSpace, NotADirectory, NotFound

_Kind = TypeVar("_Kind", "_File", "_Folder")


class Stopped(BaseException):
    """The process was killed in the middle of a disk call. No code under test may catch it."""


@dataclass(eq=False)
class _File:
    live: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, data), or (size, None) for a cut

    def apply(self, offset: int, data: bytes | None) -> None:
        _apply(self.live, offset, data)
        self.pending.append((offset, data))

    def after_power_loss(self, chance: random.Random | None) -> _File:
        kept = bytearray(self.durable)
        for offset, data in self.pending:
            if chance is None or chance.random() < 0.4:
                continue
            if data is not None and chance.random() < 0.3:
                data = data[: chance.randrange(len(data) + 1)]
            _apply(kept, offset, data)
        return _File(kept, bytearray(kept))


@dataclass(eq=False)
class _Change:
    """One change of names: in ``folder`` the entry ``name`` becomes ``node`` (None: goes); a rename has two of these."""

    parts: tuple[tuple[_Folder, str, _File | _Folder | None], ...]


@dataclass(eq=False)
class _Folder:
    live: dict[str, _File | _Folder] = field(default_factory=dict)
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        if offset < len(content):
            del content[offset:]
        else:
            content.extend(bytes(offset - len(content)))
        return
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _set(names: dict[str, _File | _Folder], name: str, node: _File | _Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


class FaultyDisk(Disk):
    """``stop_at`` counts the calls that change something, from 1; the call that meets it takes effect in part
    (``write``), or wholly when ``stop_after``, or not at all, and then everything raises Stopped. ``fail_at`` makes
    single calls fail instead. ``capacity_bytes`` bounds all files together."""

    def __init__(
        self,
        *,
        stop_at: int = 0,
        stop_after: bool = False,
        fail_at: dict[int, BucketfsError] | None = None,
        capacity_bytes: int | None = None,
    ) -> None:
        self.stop_at = stop_at
        self.stop_after = stop_after
        self.fail_at = dict(fail_at or {})
        self.capacity_bytes = capacity_bytes
        self.calls: list[str] = []
        self.stopped = False
        self._root = _Folder()
        self._opened: dict[int, tuple[_File, bool]] = {}
        self._locks: dict[_File, int] = {}
        self._next = 3
        self._mutex = threading.RLock()

    def make_durable_folder(self, path: str) -> None:
        """A folder that was there all along: no call is counted."""
        folder, name = self._parent(path)
        folder.live[name] = folder.durable[name] = _Folder()

    # What a crash leaves

    def after_kill(self, *, continued: bool = False) -> FaultyDisk:
        """The disk as the next process finds it: all is there, and what was not synced still is not. When ``continued`` it
        goes on counting calls and stops, fails and fills up as this one would have."""
        # A copy, so that one crash can be looked at in several ways.
        return self._successor(copy.deepcopy(self._root), continued)

    def after_power_loss(self, seed: int | None = None, *, continued: bool = False) -> FaultyDisk:
        """The disk after the power came back. Without a ``seed`` nothing unsynced is left, else any part of it."""
        chance = None if seed is None else random.Random(seed)
        return self._successor(_restored(self._root, chance), continued)

    def _successor(self, root: _Folder, continued: bool) -> FaultyDisk:
        disk = FaultyDisk()
        disk._root = root
        if continued:
            disk.stop_at, disk.stop_after = self.stop_at, self.stop_after
            disk.fail_at, disk.capacity_bytes, disk.calls = self.fail_at, self.capacity_bytes, self.calls
        return disk

    def used_bytes(self) -> int:
        return sum(len(file.live) for file in _files_below(self._root))

    def everything(self) -> dict[str, bytes]:
        """Every file by path, for tests that look at the whole."""
        return dict(_walk(self._root, ""))

    def open_files(self) -> int:
        return len(self._opened)

    # Disk

    def _open_at(self, path: PathLike, create: bool, exclusive: bool, append: bool) -> DiskFile:
        with self._mutex:
            self._alive()
            folder, name = self._parent(path)
            node = folder.live.get(name)
            if node is None:
                if not (create or exclusive):
                    raise NotFound(f"cannot open {path}")
                with self._call("create"):
                    node = _File()
                    self._change((folder, name, node))
            elif exclusive:
                raise Exists(f"cannot open {path}")
            if isinstance(node, _Folder):
                raise IsADirectory(f"cannot open {path}")
            descriptor = self._next
            self._next += 1
            self._opened[descriptor] = (node, append)
            return DiskFile(descriptor, os.fspath(path))

    def open(self, path: PathLike, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        return self._open_at(path, create, exclusive, False)

    def open_append(self, path: PathLike, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        return self._open_at(path, create, exclusive, True)

    def close(self, file: DiskFile) -> None:
        with self._mutex:
            node, _ = self._opened.pop(file.descriptor)
            if self._locks.get(node) == file.descriptor:
                del self._locks[node]

    def write(self, file: DiskFile, data: bytes | memoryview) -> None:
        with self._mutex:
            node, append = self._file(file)
            assert append, "write to a file opened for offsets"
            self._put("write", node, len(node.live), bytes(data))

    def pwrite(self, file: DiskFile, offset: int, data: bytes | memoryview) -> None:
        with self._mutex:
            node, append = self._file(file)
            assert not append, "pwrite to a file opened for appending"
            self._put("pwrite", node, offset, bytes(data))

    def _put(self, verb: str, node: _File, offset: int, data: bytes) -> None:
        if self._next_call_is_last() and not self.stop_after:
            node.apply(offset, data[: len(data) // 2])
        elif (len(self.calls) + 1) in self.fail_at:
            node.apply(offset, data[: len(data) // 3])
        with self._call(verb):
            if self.capacity_bytes is not None:
                room = self.capacity_bytes - self.used_bytes()
                grows = offset + len(data) - len(node.live)
                if grows > max(room, 0):
                    fits = len(data) - (grows - max(room, 0))
                    if fits > 0:
                        node.apply(offset, data[:fits])
                    raise NoSpace("cannot write: no space left")
            node.apply(offset, data)

    def pread(self, file: DiskFile, offset: int, size: int) -> bytes:
        with self._mutex:
            return bytes(self._file(file)[0].live[offset : offset + size])

    def size(self, file: DiskFile) -> int:
        with self._mutex:
            return len(self._file(file)[0].live)

    def fsync(self, file: DiskFile) -> None:
        with self._mutex:
            node, _ = self._file(file)
            if (len(self.calls) + 1) in self.fail_at:
                # As Linux does: the pages that could not be written are dropped from the list and never tried again.
                node.pending.clear()
            with self._call("fsync"):
                # Only what is still pending: after a failed fsync the kernel believes that the rest was written.
                for offset, data in node.pending:
                    _apply(node.durable, offset, data)
                node.pending.clear()

    def truncate(self, file: DiskFile, size: int) -> None:
        with self._mutex:
            node, _ = self._file(file)
            with self._call("truncate"):
                node.apply(size, None)

    def allocate(self, file: DiskFile, size: int) -> None:
        with self._mutex:
            node, _ = self._file(file)
            with self._call("allocate"):
                grows = size - len(node.live)
                if self.capacity_bytes is not None and grows > self.capacity_bytes - self.used_bytes():
                    raise NoSpace("cannot reserve room: no space left")
                if grows > 0:
                    node.apply(size, None)

    def read_file(self, path: PathLike) -> bytes:
        with self._mutex:
            return bytes(self._at(path, _File).live)

    def file_size(self, path: PathLike) -> int:
        with self._mutex:
            return len(self._at(path, _File).live)

    def rename(self, old: PathLike, new: PathLike) -> None:
        with self._mutex:
            source, name = self._parent(old)
            target, new_name = self._parent(new)
            if name not in source.live:
                raise NotFound(f"cannot rename {old}")
            with self._call("rename"):
                self._change((source, name, None), (target, new_name, source.live[name]))

    def unlink(self, path: PathLike) -> None:
        with self._mutex:
            folder, name = self._parent(path)
            node = folder.live.get(name)
            if node is None:
                raise NotFound(f"cannot remove {path}")
            if isinstance(node, _Folder):
                raise IsADirectory(f"cannot remove {path}")
            with self._call("unlink"):
                self._change((folder, name, None))

    def list_folder(self, path: PathLike) -> list[str]:
        with self._mutex:
            return list(self._at(path, _Folder).live)

    def make_folder(self, path: PathLike) -> bool:
        with self._mutex:
            folder, name = self._parent(path)
            if name in folder.live:
                return False
            with self._call("mkdir"):
                self._change((folder, name, _Folder()))
            return True

    def fsync_folder(self, path: PathLike) -> None:
        with self._mutex:
            folder = self._at(path, _Folder)
            with self._call("fsync_folder"):
                for change in list(folder.pending):
                    for other, name, node in change.parts:
                        _set(other.durable, name, node)
                        if change in other.pending:
                            other.pending.remove(change)

    def free_bytes(self, path: PathLike) -> int:
        with self._mutex:
            self._alive()
            return 1 << 40 if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes())

    def lock_file(self, path: PathLike) -> DiskFile:
        with self._mutex:
            file = self.open(path, create=True)
            node = self._opened[file.descriptor][0]
            if node in self._locks:
                self.close(file)
                raise Busy(f"{path} is locked by another process")
            self._locks[node] = file.descriptor
            return file

    def is_locked(self, path: PathLike) -> bool:
        with self._mutex:
            file = self.open(path)
            try:
                return self._opened[file.descriptor][0] in self._locks
            finally:
                self.close(file)

    # Inside

    def _alive(self) -> None:
        if self.stopped:
            raise Stopped

    def _next_call_is_last(self) -> bool:
        return len(self.calls) + 1 == self.stop_at

    @contextmanager
    def _call(self, verb: str) -> Iterator[None]:
        self._alive()
        self.calls.append(verb)
        number = len(self.calls)
        last = number == self.stop_at
        if last and not self.stop_after:
            self.stopped = True
            raise Stopped
        if number in self.fail_at:
            raise self.fail_at[number]
        yield
        if last:
            self.stopped = True
            raise Stopped

    def _file(self, file: DiskFile) -> tuple[_File, bool]:
        self._alive()
        return self._opened[file.descriptor]

    def _change(self, *parts: tuple[_Folder, str, _File | _Folder | None]) -> None:
        change = _Change(parts)
        for folder, name, node in parts:
            _set(folder.live, name, node)
            if change not in folder.pending:
                folder.pending.append(change)

    def _parent(self, path: PathLike) -> tuple[_Folder, str]:
        folder, _, name = os.fspath(path).rpartition("/")
        return self._at(folder, _Folder), name

    def _at(self, path: PathLike, kind: type[_Kind]) -> _Kind:
        self._alive()
        node: _File | _Folder = self._root
        for name in os.fspath(path).split("/"):
            if not name:
                continue
            if not isinstance(node, _Folder):
                raise NotADirectory(f"{path} is below a file")
            if name not in node.live:
                raise NotFound(f"{path} is not there")
            node = node.live[name]
        if not isinstance(node, kind):
            raise (NotADirectory if kind is _Folder else IsADirectory)(f"{path} is something else")
        return node


def _restored(root: _Folder, chance: random.Random | None) -> _Folder:
    folders = _all_folders(root, [])
    kept: dict[_Folder, list[_Change]] = {}
    for folder in folders:
        count = 0 if chance is None else chance.randint(0, len(folder.pending))
        kept[folder] = folder.pending[:count]
    # A change that touches two folders happens in both or in neither.
    settled = False
    while not settled:
        settled = True
        for folder, changes in kept.items():
            for at, change in enumerate(changes):
                if any(
                    change not in kept[other] for other, _, _ in change.parts if other in kept and change in other.pending
                ):
                    kept[folder] = changes[:at]
                    settled = False
                    break
    files: dict[_File, _File] = {}

    def rebuild(folder: _Folder) -> _Folder:
        names = dict(folder.durable)
        for change in kept[folder]:
            for other, name, node in change.parts:
                if other is folder:
                    _set(names, name, node)
        found: dict[str, _File | _Folder] = {}
        for name, node in names.items():
            if isinstance(node, _Folder):
                found[name] = rebuild(node)
            else:
                if node not in files:
                    files[node] = node.after_power_loss(chance)
                found[name] = files[node]
        return _Folder(found, dict(found))

    return rebuild(root)


def _all_folders(folder: _Folder, found: list[_Folder]) -> list[_Folder]:
    found.append(folder)
    nodes = list(folder.live.values()) + list(folder.durable.values())
    nodes += [node for change in folder.pending for other, _, node in change.parts if other is folder and node is not None]
    for node in nodes:
        if isinstance(node, _Folder) and node not in found:
            _all_folders(node, found)
    return found


def _files_below(folder: _Folder) -> Iterator[_File]:
    for node in folder.live.values():
        if isinstance(node, _Folder):
            yield from _files_below(node)
        else:
            yield node


def _walk(folder: _Folder, path: str) -> Iterator[tuple[str, bytes]]:
    for name, node in folder.live.items():
        if isinstance(node, _Folder):
            yield from _walk(node, f"{path}/{name}")
        else:
            yield f"{path}/{name}", bytes(node.live)
