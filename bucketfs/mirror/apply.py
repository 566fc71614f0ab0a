"""The watched folder brought from one tree to another: written aside and renamed, and only over what the scan saw.

New things are written first and removals come last, so that what only moved is copied from its old place instead of being fetched.

Before `Applier.run` returns, bytes, names and removals are on the disk. Only then may the state say that the folder has the new
tree: after a power loss a name that is not there yet would look like one that the user removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import (
    DAG_PB,
    DIRECTORY_MODE_DEFAULT,
    Unfolding,
    check_small_tree,
    codec_of,
    list_directory,
    node_info,
    same_node,
)
from bucketfs.errors import Denied, NotFound, TooLarge
from bucketfs.mirror.block_source import MirrorSource
from bucketfs.mirror.file_writer import Applied, ApplyRecord, MirrorWriter
from bucketfs.mirror.large_files import LargeFiles
from bucketfs.mirror.refusals import Refusals
from bucketfs.mirror.state import SeenEntry
from bucketfs.mirror.unfinished import Filling, Removing, Unfinished, finish_all, note_all
from bucketfs.mirror.watched_folder import CHANGED, HELD, WatchedFolder
from bucketfs.names import SEED
from bucketfs.remote import folder_at
from bucketfs.transfer import ONE_PATH, BucketFile, Figures, LocalEntry, Names, bucket_file, entry_windows, left_out
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes


@dataclass(eq=False, slots=True)
class _Target:
    """A folder on the stack of the walk: what it was as the scan saw it (None: there was none) and what it becomes."""

    path: Names
    old: Cid | None
    new: Cid
    attributes: NodeAttributes = NO_ATTRIBUTES
    mode_here: int | None = None
    """The mode it had here; None of a new one."""
    keeps_mode: bool = False
    """Whether the user changed its mode here since the scan."""
    identity: tuple[int, int] | None = None
    """Device and inode of what we write into."""
    counted: bool = False
    """Whether the folder is new with all below it, and how far it unfolds was looked at."""
    waiting: list[_Target] = field(default_factory=list)


@dataclass(eq=False)
class Applier:
    """One walk. ``held`` paths are left alone, with all below them."""

    folder: WatchedFolder
    source: MirrorSource
    held: set[Names]
    figures: Figures
    large: LargeFiles
    refusals: Refusals

    def __post_init__(self) -> None:
        self._fs = self.folder.fs
        self._state = self.folder.state
        self._record = ApplyRecord(self.folder.state, self.source)
        self._writer = MirrorWriter(self.folder, self.source, self.figures, self._record, self.large, self.refusals)
        self._unfolding = Unfolding()
        self._removals: list[Names] = []
        self._touched: list[_Target] = []

    @property
    def applied(self) -> Applied:
        """What was done so far."""
        return self._record.applied

    async def run(self, old: Cid, new: Cid) -> Applied:
        """From ``old``, which the scan saw, to ``new``. Raises what the Hub and a full disk raise; what was done by then is
        done and noted."""
        top = _Target((), old, new)
        top.attributes = (await run_steps(list_directory(new), self.source)).attributes
        try:
            await trio.to_thread.run_sync(self._note_filling, [top])
            await self._walk(top)
            await trio.to_thread.run_sync(self._remove_all)
            self.applied.arriving = self.large.arriving.end_round()
            await trio.to_thread.run_sync(self._finish_folders)
        finally:
            self._record.flush()
            # Not in a thread: also when this task is cancelled nothing is to stay half-made.
            finish_all(self.folder)
        return self.applied

    async def _walk(self, top: _Target) -> None:
        stack = [top]
        await self._open(top)
        while stack:
            current = stack[-1]
            if not current.waiting:
                self._touched.append(stack.pop())
                continue
            child = current.waiting.pop()
            child.counted = current.counted or child.old is None
            try:
                if child.counted and not current.counted:
                    await run_steps(check_small_tree(child.new), self.source)
            except TooLarge as error:
                self._record.leave(child.path, str(error))
                continue
            try:
                await self._open(child)
            except ONE_PATH as error:
                self._record.leave(child.path, str(error))
            except TooLarge as error:
                # Of a tree that was too large to be looked ahead into: no more folders, but what was begun is finished.
                self._record.leave(child.path, str(error))
                for target in stack:
                    target.waiting.clear()
            else:
                stack.append(child)

    # Folders

    async def _open(self, at: _Target) -> None:
        """Makes the folder, writes the files of it that differ, and notes its folders and what is to go for later. Raises
        Denied when it must not be touched."""
        directory = await run_steps(list_directory(at.new), self.source)
        self._unfolding.open(at.new, len(directory.entries))
        self.applied.impossible += left_out(at.path, directory.impossible)
        old: Mapping[bytes, Link] = {}
        if at.old is not None:
            old = (await run_steps(list_directory(at.old), self.source)).entries
        at.mode_here = await trio.to_thread.run_sync(self._make, at)
        self._removals += [(*at.path, name) for name in old if name not in directory.entries and (at.path or name != SEED)]
        differing = [
            (name, link)
            for name, link in directory.entries.items()
            if (at.path or name != SEED) and (name not in old or not same_node(old[name].cid, link.cid))
        ]
        # New names before replaced ones: what a conflict copy is a copy of is then still here.
        differing.sort(key=lambda found: found[0] in old)
        await self._take(at, [found for found in differing if not self._is_held((*at.path, found[0]))], old)

    def _is_held(self, path: Names) -> bool:
        if path in self.held:
            self._record.leave(path, HELD)
            return True
        return False

    def _make(self, at: _Target) -> int | None:
        """In a thread: a folder we can write into. Its mode if it was there, None for a new one. Raises Denied when something
        else stands there than the scan saw."""
        if not at.path:
            here = self.folder.look(())
            if here is None or not here.is_directory:
                raise NotFound(f"the folder {os.fsdecode(self.folder.top)} is gone")
            at.identity = _identity(here)
            return here.mode
        here = self.folder.check_folder(at.path)
        seen = self._state.seen_at(at.path)
        at.keeps_mode = here is not None and seen is not None and seen.entry.mode != here.mode
        made = self._fs.make_folder(self.folder.where(at.path), replace=True)
        at.identity = _identity(self.folder.look(at.path))
        if made is None:
            self._record.gone += [] if seen is None else [at.path]
            self._record.flush()
            self.applied.written += 1
        return made

    def _note_filling(self, targets: Sequence[_Target]) -> None:
        """In a thread: before anything is done to these folders."""
        found: list[tuple[Names, Unfinished]] = []
        for at in targets:
            here = self.folder.look(at.path)
            before = None if here is None or not here.is_directory else (here.inode, here.mode)
            mode = at.attributes.mode if at.attributes.mode is not None else DIRECTORY_MODE_DEFAULT
            if not at.path and here is not None:
                mode = here.mode
            found.append((at.path, Filling(at.attributes, mode, before)))
        note_all(self._state, found)

    def _finish_folders(self) -> None:
        """In a thread: modes and times, after everything in them is done; the lowest folders first."""
        for at in self._touched:
            try:
                self._finish_folder(at)
            except ONE_PATH as error:
                self._record.leave(at.path, str(error))

    def _finish_folder(self, at: _Target) -> None:
        where = self.folder.where(at.path)
        if not self.folder.is_inside(at.path) or _identity(self.folder.look(at.path)) != at.identity:
            raise Denied(CHANGED)
        if at.keeps_mode and at.mode_here is not None:
            self._record.leave(at.path, CHANGED)
            self._fs.set_attributes(where, NO_ATTRIBUTES, at.mode_here)
        elif at.path:
            self._fs.set_attributes(where, at.attributes, DIRECTORY_MODE_DEFAULT, self.folder.preserve)
        elif at.attributes.mtime_ns is not None and at.mode_here is not None:
            self._fs.set_attributes(where, NodeAttributes(mtime_ns=at.attributes.mtime_ns), at.mode_here)
        self._fs.sync_folder(where)
        here = self.folder.look(at.path)
        if here is not None and here.is_directory and not at.keeps_mode:
            seen = self._state.seen_at(at.path)
            crossed = seen is not None and seen.crossed
            self._record.written.append((at.path, SeenEntry(here, attributes=at.attributes, crossed=crossed)))

    # Files

    async def _take(self, at: _Target, differing: Sequence[tuple[bytes, Link]], old: Mapping[bytes, Link]) -> None:
        for window in entry_windows(differing):
            nodes = await self.source.get_many([link.cid for _, link in window if codec_of(link.cid) == DAG_PB])
            files: list[BucketFile] = []
            for name, link in window:
                path = (*at.path, name)
                was_folder = await folder_at(self.source, old.get(name))
                file = bucket_file(link, self.folder.where(path), path, nodes.get(link.cid, b""))
                if file is None:
                    at.waiting.append(_Target(path, was_folder, link.cid, node_info(link.cid, nodes[link.cid]).attributes))
                # A file where a folder was: all in that goes first.
                elif self._writer.is_due(file) and (was_folder is None or await self._remove_folder(path)):
                    files.append(file)
            self._record.flush()
            await self._writer.write(files)
        await trio.to_thread.run_sync(self._note_filling, at.waiting)
        at.waiting.reverse()

    # Removals

    def _remove_all(self) -> None:
        """In a thread."""
        self._note_removing(self._removals)
        for path in self._removals:
            if self._is_held(path):
                continue
            if self.folder.is_inside(path):
                self._remove(path)
                self._fs.sync_folder(os.path.dirname(self.folder.where(path)))
            else:
                self._record.leave(path, CHANGED)

    def _note_removing(self, paths: Sequence[Names]) -> None:
        """Only of a folder a half can be gone."""
        kinds = [(path, self.folder.look(path)) for path in paths]
        note_all(self._state, [(path, Removing()) for path, here in kinds if here is not None and here.is_directory])

    async def _remove_folder(self, path: Names) -> bool:
        await trio.to_thread.run_sync(self._note_removing, [path])
        return await trio.to_thread.run_sync(self._remove, path)

    def _remove(self, path: Names) -> bool:
        """In a thread: removes the file, or the folder with all below it, at a path. What is not as it was seen, or is held, stays,
        and so do the folders above it. Whether nothing is there any more."""
        left_before = len(self.applied.left)
        here = self.folder.look(path)
        if here is None:
            self._record.gone.append(path)
        elif here.is_directory:
            self._remove_below(path)
        else:
            self._remove_file(path, here)
        return len(self.applied.left) == left_before

    def _remove_file(self, path: Names, here: LocalEntry) -> None:
        if here.kind is None or path in self.held:
            self._record.leave(path, HELD)
            return
        seen = self._state.seen_at(path)

        def remove(where: bytes) -> None:
            if seen is None or not seen.vouches_for(here) or not self.folder.is_inside(path):
                raise Denied(CHANGED)
            self._fs.remove_file(where)

        self._removed(path, remove)

    def _remove_below(self, above: Names) -> None:
        waiting, emptied = [above], []
        while waiting:
            path = waiting.pop()
            if self._is_held(path):
                continue
            try:
                here = self.folder.look(path)
                if here is None or not here.is_directory or not self.folder.is_inside(path):
                    raise Denied(CHANGED)
                # One that is read-only could not be emptied.
                self._fs.make_folder(self.folder.where(path), replace=False)
                entries = self._fs.scan(self.folder.where(path))
            except ONE_PATH as error:
                self._record.leave(path, str(error))
                continue
            emptied.append(path)
            waiting += [(*path, entry.name) for entry in entries if entry.is_directory]
            for entry in entries:
                if not entry.is_directory:
                    self._remove_file((*path, entry.name), entry)
        for path in reversed(emptied):
            self._removed(path, self._fs.remove_empty)

    def _removed(self, path: Names, remove: Callable[[bytes], None]) -> None:
        try:
            remove(self.folder.where(path))
        except ONE_PATH as error:
            self._record.leave(path, str(error))
        else:
            self._record.gone.append(path)
            self.applied.removed += 1


def _identity(entry: LocalEntry | None) -> tuple[int, int] | None:
    return None if entry is None or not entry.is_directory else (entry.device, entry.inode)
