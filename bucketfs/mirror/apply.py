"""The watched folder brought from one tree to another: written aside and renamed, and only over what the scan saw.

Right before anything here is replaced or removed its status is compared with the one the scan saw; if it is another, somebody
changed it since, and it is *left*: the next round takes that in as the local change it is. (Between the comparison and the rename a
few microseconds remain that no system call closes.) New things are written first and removals come last, so that what only moved
is copied from its old place instead of being fetched.

Before `run` returns, bytes, names and removals are on the disk. Only then may the state say that the folder has the new tree: after
a power loss a name that is not there yet would look like one that somebody removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import (
    DAG_PB,
    DIRECTORY_MODE_DEFAULT,
    FILE_MODE_DEFAULT,
    RAW,
    Unfolding,
    check_small_tree,
    codec_of,
    list_directory,
    node_info,
    same_node,
)
from bucketfs.errors import BucketfsError, Denied, NotFound, TooLarge
from bucketfs.mirror.block_source import MirrorSource
from bucketfs.mirror.large_files import Incoming
from bucketfs.mirror.refusals import Refusals
from bucketfs.mirror.remove import CHANGED, HELD, remove_seen
from bucketfs.mirror.state import MirrorState, Seen
from bucketfs.mirror.unfinished import Filling, Placing, Removing, Setting, Unfinished, finish_all, note_all
from bucketfs.names import SEED
from bucketfs.transfer import (
    PLAIN,
    Asides,
    Figures,
    FileWriter,
    Item,
    LocalEntry,
    Names,
    Progress,
    Rights,
    Skipped,
    batches,
    blocks_of,
    blocks_there,
    item_of,
    left_out,
    path_text,
    windows,
)
from bucketfs.transfer import local_fs as folder
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

BEFORE_NS = 2 * 10**9
"""A file without mtime gets one so long ago, so that any write after it moves it, however coarse the clock is."""


@dataclass(slots=True)
class Applied:
    """What was done here, and what was left, by path and reason."""

    written: int = 0
    removed: int = 0
    left: list[Skipped] = field(default_factory=list)
    impossible: list[Skipped] = field(default_factory=list)
    """What no disk can have. Unlike what was left, it is not tried again."""
    changing: bool = False
    """Whether something was left because it changed: another round is due soon."""
    arriving: int = 0
    """How many large files are fetched beside the rounds."""


@dataclass(eq=False, slots=True)
class _Spot:
    """A folder on the stack of the walk: what it was as the scan saw it (None: there was none) and what it becomes."""

    path: Names
    where: bytes
    old: Cid | None
    new: Cid
    attributes: NodeAttributes = NO_ATTRIBUTES
    mode_here: int | None = None
    """The mode it had here; None of a new one."""
    keeps_mode: bool = False
    """Whether somebody changed its mode here since the scan."""
    identity: tuple[int, int] | None = None
    """Device and inode of what we write into."""
    counted: bool = False
    """Whether the folder is new with all below it, and how far it unfolds was looked at."""
    waiting: list[_Spot] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Difference:
    name: bytes
    old: Link | None
    new: Link


class Applier:
    """One walk. ``held`` paths are left alone, with all below them."""

    def __init__(
        self,
        top: bytes,
        state: MirrorState,
        source: MirrorSource,
        held: set[Names],
        figures: Figures,
        progress: Progress,
        *,
        asides: Asides,
        incoming: Incoming,
        rights: Rights = PLAIN,
        refusals: Refusals | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._incoming = incoming
        self._rights = rights
        self._refusals = refusals or Refusals()
        self._now_ns = now_ns
        self._top = top
        self._state = state
        self._source = source
        self._held = held
        self._mtime_ns = now_ns() // 10**9 * 10**9 - BEFORE_NS
        self.applied = Applied()
        # A tree leaves default modes out, so without one means just that, and not what the umask would make of it: else the
        # next write here would carry the umask to everybody.
        self._writer = FileWriter(
            source,
            figures,
            progress,
            FILE_MODE_DEFAULT,
            asides=asides,
            rights=rights,
            durable=True,
            allowed=self._may_replace,
            placing=self._placing,
            wrote=self._wrote,
            finish=self._finished,
        )
        self._unfolding = Unfolding()
        self._removals: list[Names] = []
        self._touched: list[_Spot] = []
        self._written: list[tuple[Names, Seen]] = []
        self._gone: list[Names] = []

    async def run(self, old: Cid, new: Cid) -> Applied:
        """From ``old``, which the scan saw, to ``new``. Raises what the Hub and a full disk raise; what was done by then is
        done and noted."""
        top = _Spot((), self._top, old, new)
        top.attributes = (await run_steps(list_directory(new), self._source)).attributes
        try:
            await trio.to_thread.run_sync(self._note_filling, [top])
            await self._walk(top)
            await trio.to_thread.run_sync(self._remove_all)
            self._incoming.settle()
            self.applied.arriving = self._incoming.count
            await trio.to_thread.run_sync(self._finish_folders)
        finally:
            self._note()
            # Not in a thread: also when this task is cancelled nothing is to stay half-made.
            finish_all(self._top, self._state, self._rights)
        return self.applied

    async def _walk(self, top: _Spot) -> None:
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
                    await run_steps(check_small_tree(child.new), self._source)
            except TooLarge as error:
                self._leave(child.path, str(error))
                continue
            try:
                await self._open(child)
            except folder.ONE_PATH as error:
                self._leave(child.path, str(error))
            except TooLarge as error:
                # Of a tree that was too large to be looked ahead into: no more folders, but what was begun is finished.
                self._leave(child.path, str(error))
                for spot in stack:
                    spot.waiting.clear()
            else:
                stack.append(child)

    def _leave(self, path: Names, reason: str) -> None:
        self.applied.left.append(Skipped(path_text(path), reason))
        self.applied.changing |= reason == CHANGED

    # Folders

    async def _open(self, at: _Spot) -> None:
        """Makes the folder, writes the files of it that differ, and notes its folders and what is to go for later. Raises
        Denied when it must not be touched."""
        directory = await run_steps(list_directory(at.new), self._source)
        self._unfolding.open(at.new, len(directory.entries))
        self.applied.impossible += left_out(at.path, directory.impossible)
        old: Mapping[bytes, Link] = {}
        if at.old is not None:
            old = (await run_steps(list_directory(at.old), self._source)).entries
        at.mode_here = await trio.to_thread.run_sync(self._make, at)
        differing = [
            _Difference(name, old.get(name), link)
            for name, link in directory.entries.items()
            if (at.path or name != SEED) and (name not in old or not same_node(old[name].cid, link.cid))
        ]
        self._removals += [(*at.path, name) for name in old if name not in directory.entries and (at.path or name != SEED)]
        # New names before replaced ones: what a conflict copy is a copy of is then still here.
        differing.sort(key=lambda difference: difference.old is not None)
        await self._take(at, [found for found in differing if not self._is_held((*at.path, found.name))])

    def _is_held(self, path: Names) -> bool:
        if path in self._held:
            self._leave(path, HELD)
            return True
        return False

    def _make(self, at: _Spot) -> int | None:
        """In a thread: a folder we can write into. Its mode if it was there, None for a new one. Raises Denied when something
        else stands there than the scan saw."""
        here = folder.look(at.where)
        if not at.path:
            if here is None or here.kind is not Kind.DIRECTORY:
                raise NotFound(f"the folder {os.fsdecode(at.where)} is gone")
            at.identity = _identity(here)
            return here.mode
        seen = self._state.seen_at(at.path)
        if not folder.is_below(self._top, at.path):
            raise Denied(CHANGED)
        if here is None or here.kind is Kind.DIRECTORY:
            # Gone; or another folder: a mount point whose disk was there and is not now is one, too.
            if seen is not None and seen.entry.kind is Kind.DIRECTORY and (here is None or here.inode != seen.entry.inode):
                raise Denied(CHANGED)
        elif seen is None or seen.fresh or not seen.is_still(here):
            raise Denied(CHANGED)
        at.keeps_mode = here is not None and seen is not None and seen.entry.mode != here.mode
        made = folder.make_folder(at.where, replace=True)
        at.identity = _identity(folder.look(at.where))
        if made is None:
            self._gone += [] if seen is None else [at.path]
            self._note()
            self.applied.written += 1
        return made

    def _note_filling(self, spots: Sequence[_Spot]) -> None:
        """In a thread: before anything is done to these folders."""
        found: list[tuple[Names, Unfinished]] = []
        for at in spots:
            here = folder.look(at.where)
            before = None if here is None or here.kind is not Kind.DIRECTORY else (here.inode, here.mode)
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
            except folder.ONE_PATH as error:
                self._leave(at.path, str(error))

    def _finish_folder(self, at: _Spot) -> None:
        if not folder.is_below(self._top, at.path) or _identity(folder.look(at.where)) != at.identity:
            raise Denied(CHANGED)
        if at.keeps_mode and at.mode_here is not None:
            self._leave(at.path, CHANGED)
            folder.set_attributes(at.where, NO_ATTRIBUTES, at.mode_here)
        elif at.path:
            folder.set_attributes(at.where, at.attributes, DIRECTORY_MODE_DEFAULT, self._rights)
        elif at.attributes.mtime_ns is not None and at.mode_here is not None:
            folder.set_attributes(at.where, NodeAttributes(mtime_ns=at.attributes.mtime_ns), at.mode_here)
        folder.sync_folder(at.where)
        here = folder.look(at.where, at.path[-1] if at.path else b"")
        if here is not None and here.kind is Kind.DIRECTORY and not at.keeps_mode:
            seen = self._state.seen_at(at.path)
            self._written.append((at.path, Seen(here, attributes=at.attributes, crossed=seen is not None and seen.crossed)))

    # Files

    async def _take(self, at: _Spot, differing: Sequence[_Difference]) -> None:
        by_name = {found.name: found for found in differing}
        for window in windows([(found.name, found.new) for found in differing]):
            nodes = await self._source.get_many([link.cid for _, link in window if codec_of(link.cid) == DAG_PB])
            items: list[Item] = []
            for name, link in window:
                where, path = os.path.join(at.where, name), (*at.path, name)
                item = item_of(link, where, path, nodes.get(link.cid, b""))
                old = by_name[name].old
                if item is not None:
                    items.append(item)
                else:
                    info = node_info(link.cid, nodes[link.cid])
                    at.waiting.append(_Spot(path, where, await self._folder_of(old), link.cid, info.attributes))
            await self._write(items, by_name)
        await trio.to_thread.run_sync(self._note_filling, at.waiting)
        at.waiting.reverse()

    async def _folder_of(self, link: Link | None) -> Cid | None:
        if link is None or codec_of(link.cid) != DAG_PB:
            return None
        info = node_info(link.cid, await self._source.get(link.cid))
        return link.cid if info.kind is Kind.DIRECTORY else None

    async def _write(self, items: Sequence[Item], by_name: Mapping[bytes, _Difference]) -> None:
        ready: list[Item] = []
        for item in items:
            reason = self._refusals.reason(item.path, item.link.cid, self._now_ns())
            if reason:
                self._leave(item.path, reason)
                continue
            was_folder = await self._folder_of(by_name[item.path[-1]].old) is not None
            # A file where a folder was: all in that goes first.
            if not was_folder or await trio.to_thread.run_sync(self._remove_folder, item.path):
                ready.append(item)
        self._note()
        for batch in batches([item for item in ready if item.small]):
            blocks = await trio.to_thread.run_sync(self._leaves_here, batch)
            blocks |= await blocks_there(self._source, [cid for cid in blocks_of(batch) if cid not in blocks])
            for item, error in await trio.to_thread.run_sync(self._writer.small, batch, blocks):
                self._refuse(item, error)
            self._note()
        for item in ready:
            if not item.small:
                await self._write_large(item)

    async def _write_large(self, item: Item) -> None:
        copy_from = None
        if not self._incoming.is_on_its_way(item):
            if await trio.to_thread.run_sync(self._only_attributes, item):
                return
            copy_from = await trio.to_thread.run_sync(self._local_copy, item)
        try:
            if not self._incoming.goes_beside(item, copy_from):
                await self._writer.large(item, copy_from)
            elif (aside := self._arrived(item, copy_from)) is not None:
                await trio.to_thread.run_sync(self._writer.arrived, item, aside)
        except folder.ONE_FILE as error:
            self._refuse(item, str(error))
        self._note()

    def _arrived(self, item: Item, copy_from: bytes | None) -> folder.Aside | None:
        try:
            return self._incoming.take(item, copy_from)
        except BucketfsError as error:
            # Also a full disk, or a block that the Hub lost: what is small goes on.
            self._refuse(item, str(error))
            return None

    def _refuse(self, item: Item, reason: str) -> None:
        self._refusals.note(item.path, item.link.cid, reason, self._now_ns())
        self._leave(item.path, reason)

    def _only_attributes(self, item: Item) -> bool:
        """In a thread: whether the content is here already, and only mode or times had to be set."""
        here = folder.look(item.where, item.path[-1])
        if here is None or here.kind is not Kind.FILE or here.size_bytes != item.size_bytes:
            return False
        seen = self._state.seen_at(item.path)
        if seen is None or seen.fresh or not seen.is_still(here):
            return False
        try:
            if folder.cid_of_content(item.where, item.attributes) != item.link.cid or not self._may_replace(item):
                return False
            self._set_attributes(item, here)
            after = folder.look(item.where, item.path[-1])
        except BucketfsError:
            return False
        if after is not None and after.inode == here.inode:
            self._wrote(item, after)
        return True

    def _set_attributes(self, item: Item, here: LocalEntry) -> None:
        wanted = self._finished(item.attributes)
        mode = self._rights.mode(FILE_MODE_DEFAULT if wanted.mode is None else wanted.mode)
        mtimes_ns = (here.mtime_ns, here.mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns)
        what = Setting(here.inode, here.size_bytes, (here.mode, mode), mtimes_ns, replace(wanted, mode=mode), item.link)
        note_all(self._state, [(item.path, what)])
        folder.set_attributes(item.where, wanted, mode, self._rights)

    def _leaves_here(self, batch: Sequence[Item]) -> dict[Cid, bytes]:
        """In a thread: the bytes of those small files that stand here under another name."""
        found: dict[Cid, bytes] = {}
        for item in batch:
            if item.block is None or codec_of(item.block) != RAW:
                continue
            where = self._local_copy(item)
            if where is not None:
                with suppress(BucketfsError):
                    # What cannot be read, or is not it any more, is fetched.
                    found |= {cid: data for cid, data in folder.read_leaf(where) if cid == item.block}
        return found

    def _local_copy(self, item: Item) -> bytes | None:
        """In a thread: where the same content stands here under another name."""
        for path, seen in self._state.places_of(item.link.cid):
            where = os.path.join(self._top, *path)
            if path != item.path and not seen.fresh and seen.is_still(folder.look(where)):
                return where
        return None

    def _may_replace(self, item: Item) -> bool:
        """Whether a name here is still as the scan saw it: free, or with that very status."""
        here = folder.look(item.where, item.path[-1])
        seen = self._state.seen_at(item.path)
        inside = folder.is_below(self._top, item.path)
        if inside and here is None and seen is None:
            return True
        if inside and seen is not None and not seen.fresh and seen.entry.kind is not Kind.DIRECTORY and seen.is_still(here):
            return True
        self._leave(item.path, CHANGED)
        return False

    def _placing(self, found: list[tuple[Item, LocalEntry]]) -> None:
        note_all(
            self._state,
            [
                (item.path, Placing(entry.inode, entry.size_bytes, entry.mode, entry.mtime_ns, item.link))
                for item, entry in found
            ],
        )

    def _wrote(self, item: Item, entry: LocalEntry) -> None:
        self.applied.written += 1
        wanted = self._finished(item.attributes)
        if item.is_symlink or (folder.is_shown(wanted.mtime_ns, entry) and entry.size_bytes == item.size_bytes):
            self._written.append((item.path, Seen(entry, item.link)))

    def _finished(self, attributes: NodeAttributes) -> NodeAttributes:
        if attributes.mtime_ns is not None:
            return attributes
        return replace(attributes, mtime_ns=self._mtime_ns)

    def _note(self) -> None:
        """What was written and removed becomes what was seen. In this order: a name may be both."""
        if self._written or self._gone:
            written, self._written = self._written, []
            gone, self._gone = self._gone, []
            with self._state.together():
                self._source.flush()
                for path in gone:
                    self._state.forget(path)
                for path, seen in written:
                    self._state.note(path, seen)

    # Removals

    def _remove_all(self) -> None:
        """In a thread."""
        self._note_removing(self._removals)
        for path in self._removals:
            if self._is_held(path):
                continue
            if folder.is_below(self._top, path):
                self._remove(path)
                folder.sync_folder(os.path.dirname(os.path.join(self._top, *path)))
            else:
                self._leave(path, CHANGED)

    def _note_removing(self, paths: Sequence[Names]) -> None:
        """Only of a folder a half can be gone."""
        kinds = [(path, folder.look(os.path.join(self._top, *path))) for path in paths]
        folders = [path for path, here in kinds if here is not None and here.kind is Kind.DIRECTORY]
        note_all(self._state, [(path, Removing()) for path in folders])

    def _remove_folder(self, path: Names) -> bool:
        self._note_removing([path])
        return self._remove(path)

    def _remove(self, path: Names) -> bool:
        """In a thread: whether nothing is at a path any more."""
        removed = remove_seen(self._top, path, self._state, self._held)
        for left, reason in removed.left:
            self._leave(left, reason)
        self.applied.removed += removed.count
        self._gone += removed.gone
        return not removed.left


def _identity(entry: LocalEntry | None) -> tuple[int, int] | None:
    return None if entry is None or entry.kind is not Kind.DIRECTORY else (entry.device, entry.inode)
