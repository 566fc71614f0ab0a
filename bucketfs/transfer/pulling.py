"""Pulling a folder of a bucket into a local one: walk the DAG, write each file aside, rename it, restore its attributes.

Every block was checked against its CID. A file that is the same already is not fetched: by size and mtime, else (the size
being equal) by the CID that its content has here. The walk goes depth first with a stack of its own; the nodes of a
folder's entries are fetched together in windows, and large files in windows of leaves, one being fetched while the one
before is written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import LEAF_SIZE, RAW, Directory, Unfolding, check_small_tree, cid_text, codec_of, list_directory, resolve
from bucketfs.errors import BucketfsError, Corrupt, NotFound
from bucketfs.names import SEED
from bucketfs.remote import Remote
from bucketfs.transfer import local_fs as folder
from bucketfs.transfer.local_fs import LocalEntry
from bucketfs.transfer.options import (
    PULL_DEFAULTS,
    Figures,
    Names,
    NodeSource,
    Progress,
    PullOptions,
    Skipped,
    blocks_there,
    left_out,
    path_text,
    unwatched,
)
from bucketfs.transfer.temporaries import Asides
from bucketfs.transfer.write import FileWriter, Item, batches, blocks_of, item_of, windows
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes


async def pull_folder(
    remote: Remote,
    local: Path,
    path: Names = (),
    options: PullOptions = PULL_DEFAULTS,
    progress: Progress = unwatched,
    *,
    root: Cid | None = None,
    asides: Asides | None = None,
) -> Figures:
    """Makes ``local`` what stands at ``path`` of the bucket (at ``root``, else the root it has now).

    A folder is laid over a local one; what only that has stays unless ``options.delete``. A file goes to ``local``, or
    into it when it is a folder, or ``options.into`` makes it one. What cannot be written, and a file that is damaged at the
    Hub, is in ``skipped`` of the result, and the old content stays. Raises NotFound, Corrupt, NoSpace, and what the Remote
    raises; what was complete by then stays.
    """
    figures = Figures(root=root or await remote.root())
    await _Pull(remote, options, figures, progress, asides).run(figures.root or Cid(b""), path, local)
    progress(figures)
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


class _Pull:
    """One walk over a tree of the bucket."""

    def __init__(
        self, remote: Remote, options: PullOptions, figures: Figures, progress: Progress, asides: Asides | None
    ) -> None:
        self._asides = asides or Asides()
        self._source = NodeSource(remote)
        self._options = options
        self._figures = figures
        self._progress = progress
        self._unfolding = Unfolding()
        self._top = Cid(b"")
        umask = folder.current_umask()
        self._folder_mode = 0o777 & ~umask
        self._writer = FileWriter(
            self._source,
            figures,
            progress,
            0o666 & ~umask,
            asides=self._asides,
            rights=options.rights,
            allowed=self._make_room,
        )

    async def run(self, root: Cid, path: Names, local: Path) -> None:
        # The folder itself may be named by a symlink; below it none is followed.
        where = folder.real_path(local)
        link = await run_steps(resolve(root, path), self._source) if path else Link(root, 0)
        if link is None:
            raise NotFound(f"no such file or folder in the bucket: {path_text(path)}")
        block = b"" if codec_of(link.cid) == RAW else await self._source.get(link.cid)
        item = item_of(link, where, path, block)
        if item is None:
            self._top = link.cid
            await self._walk(_PullFolder(link, where, path))
            return
        there = await trio.to_thread.run_sync(folder.look, where)
        is_folder = there is not None and there.kind is Kind.DIRECTORY
        if self._options.into and not is_folder:
            await trio.to_thread.run_sync(partial(folder.make_folder, where, replace=False, new_mode=self._folder_mode))
        if self._options.into or is_folder:
            item = replace(item, where=os.path.join(where, path[-1]))
        await self._take([item])

    async def _walk(self, top: _PullFolder) -> None:
        directory = await run_steps(list_directory(top.link.cid), self._source)
        await trio.to_thread.run_sync(self._make, top, directory)
        stack = [top]
        try:
            await self._walk_below(top, directory, stack)
        except BaseException:
            # Folders of the user that were made writable for us get their modes back. Those that we made stay private.
            for at in reversed(stack):
                self._give_back(at)
            raise

    async def _walk_below(self, top: _PullFolder, directory: Directory, stack: list[_PullFolder]) -> None:
        await self._open(top, directory)
        while stack:
            current = stack[-1]
            if current.waiting:
                child = current.waiting.pop()
                try:
                    directory = await run_steps(list_directory(child.link.cid), self._source)
                except Corrupt as error:
                    self._skip(child.path, error)
                    continue
                if await trio.to_thread.run_sync(self._made, child, directory):
                    stack.append(child)
                    await self._open(child, directory)
                continue
            stack.pop()
            await self._close(current)

    @staticmethod
    def _give_back(at: _PullFolder) -> None:
        if at.mode_before is not None:
            with suppress(BucketfsError):
                folder.set_attributes(at.where, NO_ATTRIBUTES, at.mode_before)

    def _make(self, at: _PullFolder, directory: Directory) -> None:
        at.attributes = directory.attributes
        # Where the bucket names no mode, a run that is killed must not leave another one than it would have ended with.
        new_mode = self._folder_mode if at.attributes.mode is None else 0o700
        at.mode_before = folder.make_folder(at.where, replace=self._options.delete, new_mode=new_mode)

    def _made(self, at: _PullFolder, directory: Directory) -> bool:
        """In a thread: makes the local folder; one that cannot be is left out with all that is in it."""
        try:
            self._make(at, directory)
        except folder.ONE_PATH as error:
            self._skip(at.path, error)
            return False
        return True

    async def _open(self, at: _PullFolder, directory: Directory) -> None:
        """Writes the files of a folder, and notes its folders for later."""
        if self._unfolding.open(at.link.cid, len(directory.entries)):
            await run_steps(check_small_tree(self._top), self._source)
        self._figures.skipped += left_out(at.path, directory.impossible)
        entries = dict(directory.entries)
        if not at.path:
            entries.pop(SEED, None)
        if self._options.delete:
            await self._delete_others(at, set(entries))
        rest = list(entries.items())
        if at.mode_before is not None:
            rest = await trio.to_thread.run_sync(self._not_here, at, rest)
        for window in windows(rest):
            items = await self._items(at, window)
            await self._take(items)
        at.waiting.reverse()

    def _not_here(self, at: _PullFolder, entries: Sequence[tuple[bytes, Link]]) -> list[tuple[bytes, Link]]:
        """In a thread: the entries without the small files and symlinks that are here with this very CID. The root block
        of a small file with attributes is the whole file, so it is not fetched to find out."""
        rest: list[tuple[bytes, Link]] = []
        for name, link in entries:
            where = os.path.join(at.where, name)
            try:
                here = folder.look(where)
                same = (
                    here is not None
                    and (here.kind is Kind.SYMLINK or (here.kind is Kind.FILE and here.size_bytes <= LEAF_SIZE))
                    and codec_of(link.cid) != RAW
                    and (made := folder.build_small(where, here, here.attributes)) is not None
                    and made[0].link.cid == link.cid
                )
            except BucketfsError:
                # What cannot be read here is dealt with when it is to be written.
                same = False
            if not same or here is None:
                rest.append((name, link))
                continue
            self._figures.unchanged += 1
            self._figures.symlinks += here.kind is Kind.SYMLINK
            self._figures.files += here.kind is Kind.FILE
            self._figures.bytes_done += here.size_bytes if here.kind is Kind.FILE else 0
        return rest

    async def _items(self, at: _PullFolder, window: Sequence[tuple[bytes, Link]]) -> list[Item]:
        nodes = await blocks_there(self._source, [link.cid for _, link in window if codec_of(link.cid) != RAW])
        items: list[Item] = []
        for name, link in window:
            where, path = os.path.join(at.where, name), (*at.path, name)
            if codec_of(link.cid) != RAW and link.cid not in nodes:
                self._skip(path, f"the Hub lacks block {cid_text(link.cid)} of it")
                continue
            item = item_of(link, where, path, nodes.get(link.cid, b""))
            if item is None:
                at.waiting.append(_PullFolder(link, where, path))
            else:
                items.append(item)
        return items

    async def _close(self, at: _PullFolder) -> None:
        default = self._folder_mode if at.mode_before is None else at.mode_before
        try:
            await trio.to_thread.run_sync(folder.set_attributes, at.where, at.attributes, default, self._options.rights)
        except folder.ONE_PATH as error:
            self._skip(at.path, error)
        self._figures.folders += 1
        self._progress(self._figures)

    async def _delete_others(self, at: _PullFolder, names: set[bytes]) -> None:
        try:
            here = await trio.to_thread.run_sync(folder.scan, at.where)
        except folder.ONE_PATH as error:
            self._skip(at.path, error)
            return
        for entry in here:
            if entry.name in names or self._asides.made(entry.name):
                continue
            # The Hub's own name in a bucket says nothing of a user's file that has it.
            if at.path or entry.name != SEED:
                try:
                    await trio.to_thread.run_sync(folder.remove, os.path.join(at.where, entry.name))
                except folder.ONE_PATH as error:
                    self._skip((*at.path, entry.name), error)
                    continue
                self._figures.removed += 1

    # Files

    async def _take(self, items: Sequence[Item]) -> None:
        """Writes those of the items that are not there already; small ones together."""
        stale = await trio.to_thread.run_sync(self._stale, items)
        small = [item for item in stale if item.small]
        for batch in batches(small):
            blocks = await blocks_there(self._source, blocks_of(batch))
            for item, error in await trio.to_thread.run_sync(self._writer.small, batch, blocks):
                self._skip(item.path, error)
            self._progress(self._figures)
        for item in stale:
            if not item.small:
                try:
                    await self._writer.large(item)
                except folder.ONE_FILE as error:
                    self._skip(item.path, error)
        self._progress(self._figures)

    def _stale(self, items: Sequence[Item]) -> list[Item]:
        """In a thread: the items that are not here as they should be. Of those that only lack a mode, the mode is set."""
        stale: list[Item] = []
        for item in items:
            if item.info is not None and item.info.kind is Kind.SYMLINK:
                self._figures.symlinks += 1
            else:
                self._figures.files += 1
            try:
                same = self._is_same(item)
            except BucketfsError as error:
                self._skip(item.path, error)
                continue
            if same:
                self._figures.unchanged += 1
                self._figures.bytes_done += item.size_bytes
            else:
                stale.append(item)
        return stale

    def _is_same(self, item: Item) -> bool:
        here = folder.look(item.where)
        self._check_room(item, here)
        if here is None or item.is_symlink or here.kind is not Kind.FILE or here.size_bytes != item.size_bytes:
            return False
        wanted = item.attributes
        by_time = wanted.mtime_ns is not None and wanted.mtime_ns == here.mtime_ns and not self._options.reread
        if not by_time and folder.cid_of_content(item.where, wanted) != item.link.cid:
            return False
        folder.set_attributes(item.where, wanted, here.mode, self._options.rights)
        return True

    def _check_room(self, item: Item, here: LocalEntry | None) -> None:
        """Raises IsADirectory for what must not take the place of what stands there."""
        if not self._options.delete:
            folder.check_room(item.where, here, Kind.SYMLINK if item.is_symlink else Kind.FILE)

    def _make_room(self, item: Item) -> bool:
        """In a thread, right before a file takes its name: a folder goes only when what replaces it is complete."""
        here = folder.look(item.where)
        self._check_room(item, here)
        if here is not None and here.kind is Kind.DIRECTORY:
            folder.remove(item.where)
        return True

    def _skip(self, path: Names, reason: BucketfsError | str) -> None:
        hint = f"; {reason.hint}" if isinstance(reason, BucketfsError) and reason.hint else ""
        self._figures.skipped.append(Skipped(path_text(path), f"{reason}{hint}"))
