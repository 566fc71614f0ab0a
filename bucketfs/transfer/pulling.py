"""Pulling a folder of a bucket into a local one: walk the DAG, write each file aside, rename it, restore its attributes.

Every block was checked against its CID. A file that is the same already is not fetched: by size and mtime, else (the size being
equal) by the CID that its content has here. The walk goes depth first with a stack of its own; the nodes of a folder's entries are
fetched together in windows, and so are the leaves of large files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import LEAF_SIZE, RAW, Directory, Unfolding, check_small_tree, cid_text, codec_of, list_directory, resolve
from bucketfs.errors import BucketfsError, Corrupt, Denied, IsADirectory, NotFound
from bucketfs.names import SEED
from bucketfs.remote import NodeSource, Remote, blocks_there
from bucketfs.transfer.local_fs import (
    KIND_TEXTS,
    MAY_REPLACE,
    ONE_FILE,
    ONE_PATH,
    LocalEntry,
    LocalFs,
    current_umask,
    real_path,
    shown,
)
from bucketfs.transfer.options import (
    PULL_DEFAULTS,
    Figures,
    Names,
    Progress,
    PullOptions,
    left_out,
    path_text,
    unwatched,
)
from bucketfs.transfer.temporaries import Temporaries
from bucketfs.transfer.write import BucketFile, LocalWriter, bucket_file, entry_windows
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes


async def pull_folder(
    remote: Remote,
    local: Path,
    path: Names = (),
    options: PullOptions = PULL_DEFAULTS,
    progress: Progress = unwatched,
    *,
    root: Cid | None = None,
    temporaries: Temporaries | None = None,
    fs: LocalFs | None = None,
) -> Figures:
    """Makes ``local`` what stands at ``path`` of the bucket (at ``root``, else the root it has now).

    A folder is laid over a local one; what only that has stays unless ``options.delete``. A file goes to ``local``, or
    into it when it is a folder, or ``options.into`` makes it one. What cannot be written, and a file that is damaged at the
    Hub, is in ``skipped`` of the result, and the old content stays. Raises NotFound, Corrupt, NoSpace, and what the Remote
    raises; what was complete by then stays.
    """
    root = root or await remote.root()
    figures = Figures(root=root, progress=progress)
    await _Pull(NodeSource(remote), options, figures, temporaries or Temporaries(), fs or LocalFs()).run(root, path, local)
    figures.show()
    return figures


@dataclass(eq=False, slots=True)
class _PullFolder:
    """A folder on the stack of the walk; ``mode_before`` is that of a local folder that was there already."""

    link: Link
    where: bytes
    path: Names
    mode_before: int | None = None
    attributes: NodeAttributes = NO_ATTRIBUTES
    waiting: list[_PullFolder] = field(default_factory=list)


@dataclass(eq=False)
class _Pull:
    """One walk over a tree of the bucket."""

    source: NodeSource
    options: PullOptions
    figures: Figures
    temporaries: Temporaries
    fs: LocalFs

    def __post_init__(self) -> None:
        self._unfolding = Unfolding()
        self._top = Cid(b"")
        umask = current_umask()
        self._folder_mode = 0o777 & ~umask
        self._writer = LocalWriter(
            self.fs,
            self.source,
            self.figures,
            0o666 & ~umask,
            temporaries=self.temporaries,
            preserve=self.options.preserve,
            allowed=self._make_room,
        )

    async def run(self, root: Cid, path: Names, local: Path) -> None:
        # The folder itself may be named by a symlink; below it none is followed.
        where = real_path(local)
        link = await run_steps(resolve(root, path), self.source) if path else Link(root, 0)
        if link is None:
            raise NotFound(f"no such file or folder in the bucket: {path_text(path)}")
        block = b"" if codec_of(link.cid) == RAW else await self.source.get(link.cid)
        file = bucket_file(link, where, path, block)
        if file is None:
            self._top = link.cid
            await self._walk(_PullFolder(link, where, path))
            return
        there = await trio.to_thread.run_sync(self.fs.look, where)
        is_folder = there is not None and there.is_directory
        if self.options.into and not is_folder:
            await trio.to_thread.run_sync(partial(self.fs.make_folder, where, replace=False, new_mode=self._folder_mode))
        if self.options.into or is_folder:
            file = replace(file, where=os.path.join(where, path[-1]))
        await self._take([file])

    # Folders

    async def _walk(self, top: _PullFolder) -> None:
        directory = await run_steps(list_directory(top.link.cid), self.source)
        await trio.to_thread.run_sync(self._make, top, directory)
        stack = [top]
        try:
            await self._open(top, directory)
            while stack:
                at = stack[-1]
                if not at.waiting:
                    stack.pop()
                    await self._close(at)
                    continue
                child = at.waiting.pop()
                try:
                    directory = await run_steps(list_directory(child.link.cid), self.source)
                except Corrupt as error:
                    self.figures.skip(child.path, error)
                    continue
                if await trio.to_thread.run_sync(self._made, child, directory):
                    stack.append(child)
                    await self._open(child, directory)
        except BaseException:
            # Folders of the user that were made writable for us get their modes back. Those that we made stay private.
            for at in reversed(stack):
                if at.mode_before is not None:
                    with suppress(BucketfsError):
                        self.fs.set_attributes(at.where, NO_ATTRIBUTES, at.mode_before)
            raise

    def _make(self, at: _PullFolder, directory: Directory) -> None:
        """In a thread."""
        at.attributes = directory.attributes
        # Where the bucket names no mode, a run that is killed must not leave another one than it would have ended with.
        new_mode = self._folder_mode if at.attributes.mode is None else 0o700
        at.mode_before = self.fs.make_folder(at.where, replace=self.options.delete, new_mode=new_mode)

    def _made(self, at: _PullFolder, directory: Directory) -> bool:
        """In a thread: makes the local folder; one that cannot be is left out with all that is in it."""
        try:
            self._make(at, directory)
        except ONE_PATH as error:
            self.figures.skip(at.path, error)
            return False
        return True

    async def _open(self, at: _PullFolder, directory: Directory) -> None:
        """Writes the files of a folder, and notes its folders for later."""
        if self._unfolding.open(at.link.cid, len(directory.entries)):
            await run_steps(check_small_tree(self._top), self.source)
        self.figures.skipped += left_out(at.path, directory.impossible)
        entries = {name: link for name, link in directory.entries.items() if at.path or name != SEED}
        if self.options.delete:
            await trio.to_thread.run_sync(self._delete_others, at, set(entries))
        rest = list(entries.items())
        if at.mode_before is not None:
            rest = await trio.to_thread.run_sync(self._not_here, at, rest)
        for window in entry_windows(rest):
            await self._take(await self._files(at, window))
        at.waiting.reverse()

    async def _files(self, at: _PullFolder, window: Sequence[tuple[bytes, Link]]) -> list[BucketFile]:
        nodes = await blocks_there(self.source, [link.cid for _, link in window if codec_of(link.cid) != RAW])
        files: list[BucketFile] = []
        for name, link in window:
            where, path = os.path.join(at.where, name), (*at.path, name)
            if codec_of(link.cid) != RAW and link.cid not in nodes:
                self.figures.skip(path, f"the Hub lacks block {cid_text(link.cid)} of it")
                continue
            file = bucket_file(link, where, path, nodes.get(link.cid, b""))
            if file is None:
                at.waiting.append(_PullFolder(link, where, path))
            else:
                files.append(file)
        return files

    async def _close(self, at: _PullFolder) -> None:
        default = self._folder_mode if at.mode_before is None else at.mode_before
        try:
            await trio.to_thread.run_sync(self.fs.set_attributes, at.where, at.attributes, default, self.options.preserve)
        except ONE_PATH as error:
            self.figures.skip(at.path, error)
        self.figures.folders += 1
        self.figures.show()

    def _delete_others(self, at: _PullFolder, names: set[bytes]) -> None:
        """In a thread: what the bucket does not have goes."""
        try:
            here = self.fs.scan(at.where)
        except ONE_PATH as error:
            self.figures.skip(at.path, error)
            return
        for entry in here:
            # The Hub's own name in a bucket says nothing of a user's file that has it.
            if entry.name in names or self.temporaries.is_temporary(entry.name) or (not at.path and entry.name == SEED):
                continue
            try:
                remove_tree(self.fs, os.path.join(at.where, entry.name))
            except ONE_PATH as error:
                self.figures.skip((*at.path, entry.name), error)
            else:
                self.figures.removed += 1

    # Files

    def _not_here(self, at: _PullFolder, entries: Sequence[tuple[bytes, Link]]) -> list[tuple[bytes, Link]]:
        """In a thread: the entries without the small files and symlinks that are here with this very CID. The root block of a small
        file with attributes is the whole file, so it is not fetched to find out."""
        rest: list[tuple[bytes, Link]] = []
        for name, link in entries:
            where = os.path.join(at.where, name)
            here: LocalEntry | None = None
            try:
                if codec_of(link.cid) != RAW:
                    here = self.fs.look(where)
                same = (
                    here is not None
                    and (here.kind is Kind.SYMLINK or (here.kind is Kind.FILE and here.size_bytes <= LEAF_SIZE))
                    and self.fs.cid_of(where, here.attributes, here.kind) == link.cid
                )
            except BucketfsError:
                # What cannot be read here is dealt with when it is to be written.
                same = False
            if here is None or not same:
                rest.append((name, link))
            else:
                self._unchanged(here.kind, here.size_bytes if here.kind is Kind.FILE else 0)
        return rest

    def _unchanged(self, kind: Kind | None, size_bytes: int) -> None:
        self.figures.count(kind)
        self.figures.unchanged += 1
        self.figures.bytes_done += size_bytes

    async def _take(self, files: Sequence[BucketFile]) -> None:
        """Writes those of the files that are not there already."""
        stale = await trio.to_thread.run_sync(self._stale, files)
        await self._writer.small(
            [file for file in stale if file.is_small], lambda file, reason: self.figures.skip(file.path, reason)
        )
        for file in stale:
            if not file.is_small:
                try:
                    await self._writer.large(file)
                except ONE_FILE as error:
                    self.figures.skip(file.path, error)
        self.figures.show()

    def _stale(self, files: Sequence[BucketFile]) -> list[BucketFile]:
        """In a thread: the files that are not here as they should be. Of those that only lack a mode, the mode is set."""
        stale: list[BucketFile] = []
        for file in files:
            try:
                same = self._is_same(file)
            except BucketfsError as error:
                self.figures.count(file.kind)
                self.figures.skip(file.path, error)
                continue
            if same:
                self._unchanged(file.kind, file.size_bytes)
            else:
                self.figures.count(file.kind)
                stale.append(file)
        return stale

    def _is_same(self, file: BucketFile) -> bool:
        here = self.fs.look(file.where)
        self._check_room(file, here)
        if here is None or {here.kind, file.kind} != {Kind.FILE} or here.size_bytes != file.size_bytes:
            return False
        wanted = file.attributes
        by_time = wanted.mtime_ns is not None and wanted.mtime_ns == here.mtime_ns and not self.options.reread
        if not by_time and self.fs.cid_of(file.where, wanted) != file.link.cid:
            return False
        self.fs.set_attributes(file.where, wanted, here.mode, self.options.preserve)
        return True

    def _make_room(self, file: BucketFile) -> bool:
        """In a thread, right before a file takes its name: a folder goes only when what replaces it is complete."""
        here = self.fs.look(file.where)
        self._check_room(file, here)
        if here is not None and here.is_directory:
            remove_tree(self.fs, file.where)
        return True

    def _check_room(self, file: BucketFile, here: LocalEntry | None) -> None:
        """Raises IsADirectory unless the file may take the place of what stands there. Files and symlinks replace each other.
        Without ``delete`` a folder, a link that leads to one where a file is to be, a device, socket or pipe stay."""
        if self.options.delete or here is None or {here.kind, file.kind} == {Kind.SYMLINK}:
            return
        to_folder = here.kind is Kind.SYMLINK and os.path.isdir(file.where)
        if to_folder or here.kind not in (Kind.FILE, Kind.SYMLINK):
            stands = "a symlink to a folder" if to_folder else KIND_TEXTS[here.kind]
            raise IsADirectory(
                f"{shown(file.where)} is {stands} here and {KIND_TEXTS[file.kind]} in the bucket", hint=MAY_REPLACE
            )


def remove_tree(fs: LocalFs, path: bytes) -> None:
    """Removes a file, or a folder with all below it. Raises Denied, and removes nothing, where a file system is mounted in it: its
    mount point would stay, and only what the user keeps in it would go."""
    entry = fs.look(path)
    if entry is None or not entry.is_directory:
        fs.remove_file(path)
        return
    mounted = _mounted_in(path)
    if mounted is not None:
        raise Denied(f"removing {shown(path)}: {shown(mounted)} is a mount point", hint="unmount it first")
    # The standard library's rmtree calls itself for each level, and gives up some hundred levels down.
    waiting, emptied = [path], []
    while waiting:
        folder = waiting.pop()
        # One that is read-only could not be emptied.
        fs.make_folder(folder, replace=False)
        emptied.append(folder)
        for entry in fs.scan(folder):
            below = os.path.join(folder, entry.name)
            if entry.is_directory:
                waiting.append(below)
            else:
                fs.remove_file(below)
    for folder in reversed(emptied):
        fs.remove_empty(folder)


def _mounted_in(top: bytes) -> bytes | None:
    """A mount point at or below a folder. Numbers of devices do not tell: a folder of the same file system may be bound there."""
    real = os.path.realpath(top)
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            # proc(5): blanks, newlines and backslashes of a path are octal.
            where = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4])
            if where == real or where.startswith(real + b"/"):
                return where
    return None
