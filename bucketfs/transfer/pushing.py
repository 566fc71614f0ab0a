"""Pushing a local folder into a bucket: walk, build bottom-up, send what the Hub lacks, swap the root once.

All of it appears in the bucket at one moment. When the root moved meanwhile, it is done again on the new one. The walk
goes depth first with a stack of its own, and memory is bounded by the largest folder, not by files or the whole.

Large files are compared by the size and mtime that their root blocks tell; small ones by CID, because their root block
would be the whole file: to hash it here is cheaper than to fetch it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from bucketfs.cache import run_steps
from bucketfs.client import Backoff
from bucketfs.dag import LEAF_SIZE, RAW, codec_of, edit_directory, list_directory, node_info, with_attributes
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Denied,
    IsADirectory,
    NameInvalid,
    NameTooLong,
    NotADirectory,
    NotFound,
    RootMoved,
    TimedOut,
    Unavailable,
)
from bucketfs.names import SEED, check_name
from bucketfs.remote import Remote, send_all
from bucketfs.transfer import local_fs as folder
from bucketfs.transfer.build import Emit, Plan, build_batch, looks_equal, small_batches, stream_large
from bucketfs.transfer.local_fs import KIND_TEXTS, Block, LocalEntry
from bucketfs.transfer.options import (
    PUSH_DEFAULTS,
    SEED_IS_TAKEN,
    Figures,
    Names,
    NodeSource,
    Progress,
    PushOptions,
    Skipped,
    path_text,
    unwatched,
)
from bucketfs.transfer.temporaries import Asides
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes, UploadId

ATTEMPTS_MAX = 6
PREFETCH_MAX = 256
MAY_REPLACE = "remove it first, or push with --delete"


async def push_folder(
    remote: Remote,
    local: Path,
    path: Names = (),
    options: PushOptions = PUSH_DEFAULTS,
    progress: Progress = unwatched,
    *,
    asides: Asides | None = None,
) -> Figures:
    """Makes the folder (or file) ``local`` appear at ``path`` of the bucket; missing parents are made. A file goes into a folder
    that stands at ``path``.

    What only the bucket has stays unless ``options.delete``. What cannot be carried (devices, names that are not UTF-8, what
    may not be read) is in ``skipped`` of the result. Raises NotFound, InvalidArgument for a device, socket or pipe as ``local``,
    IsADirectory or NotADirectory for what would replace something of another kind in the bucket without ``delete``, and what the
    Remote raises; trouble that passes is waited out a few times.
    """
    backoff = Backoff()
    # The same for all attempts: what one has sent, the Hub keeps for the next.
    upload = UploadId(secrets.token_bytes(16))
    for attempt in range(1, ATTEMPTS_MAX + 1):
        figures = Figures()
        try:
            await _push_once(remote, upload, _Push(remote, local, path, options, figures, progress, asides))
            return figures
        except (RootMoved, BlocksMissing, Unavailable, TimedOut) as error:
            if attempt == ATTEMPTS_MAX:
                raise
            if isinstance(error, BlocksMissing):
                # The Hub lost something of what we took for unchanged: all of it is offered now.
                options = replace(options, reread=True)
        await trio.sleep(backoff.next_s())
    raise AssertionError("the last attempt returns or raises")


async def _push_once(remote: Remote, upload: UploadId, push: _Push) -> None:
    base = await remote.root()
    new = await send_all(remote, upload, lambda emit: push.run(base, emit), push.figures.sent)
    if new != base:
        try:
            await remote.swap(base, new, upload)
        except (Unavailable, TimedOut):
            # It may have happened all the same.
            if await remote.root() != new:
                raise
    push.figures.root = new
    push.progress(push.figures)


@dataclass(eq=False, slots=True)
class _PushFolder:
    """A local folder on the stack of the walk: what is known of it, and which folders in it wait for their turn."""

    entry: LocalEntry
    where: bytes
    path: Names
    base: Cid | None
    existing: Mapping[bytes, Link] = field(default_factory=dict)
    changes: dict[bytes, Link | None] = field(default_factory=dict)
    waiting: list[_PushFolder] = field(default_factory=list)


class _Push:
    """One walk over the local folder."""

    def __init__(
        self,
        remote: Remote,
        local: Path,
        path: Names,
        options: PushOptions,
        figures: Figures,
        progress: Progress,
        asides: Asides | None,
    ) -> None:
        self._asides = asides or Asides()
        self.figures = figures
        self.progress = progress
        self._source = NodeSource(remote)
        # The folder itself may be named by a symlink; below it none is followed.
        self._given = local
        self._local = folder.real_path(local)
        self._name = os.fsencode(local.name)
        self._path = path
        self._options = options

    async def run(self, root: Cid, emit: Emit) -> Cid:
        """The root with the folder in place; the new blocks go to ``emit``."""
        self._emit = emit
        for name in self._path:
            check_name(name)
        if self._path and self._path[0] == SEED:
            raise Denied(f"{SEED.decode()} is the Hub's own")
        await trio.to_thread.run_sync(folder.check_carried, self._given)
        entry = await trio.to_thread.run_sync(folder.look, self._local)
        if entry is None:
            raise NotFound(f"no such folder: {os.fsdecode(self._local)}")
        parents, found = await self._descend(root)
        if entry.kind is Kind.DIRECTORY:
            link = await self._walk(_PushFolder(entry, self._local, self._path, await self._base_at(self._path, found)))
        else:
            if self._options.into or (not self._options.exact and await self._folder_at(found) is not None):
                if found is not None and await self._folder_at(found) is None and not self._options.delete:
                    raise NotADirectory(f"{path_text(self._path)} is no folder in the bucket", hint=MAY_REPLACE)
                check_name(self._name)
                self._path = (*self._path, self._name)
                parents, found = await self._descend(root)
            link = await self._single(entry, found)
        for name, parent in zip(reversed(self._path), reversed(parents), strict=True):
            built = await run_steps(edit_directory(parent, {name: link}), self._source)
            await emit(list(built.blocks.items()))
            link = built.link
        return link.cid

    async def _descend(self, root: Cid) -> tuple[list[Cid | None], Link | None]:
        """The folders above the target, None for those that have to be made, and what is at the target now."""
        parents: list[Cid | None] = []
        here: Link | None = Link(root, 0)
        for depth, name in enumerate(self._path):
            if here is not None and await self._folder_at(here) is None:
                raise NotADirectory(f"{path_text(self._path[:depth])} is no folder in the bucket")
            parents.append(here.cid if here else None)
            if here is not None:
                here = (await run_steps(list_directory(here.cid), self._source)).entries.get(name)
        return parents, here

    async def _folder_at(self, link: Link | None) -> Cid | None:
        """The folder of the bucket that a local one is laid over: none where a file is."""
        if link is None or codec_of(link.cid) == RAW:
            return None
        info = node_info(link.cid, await self._source.get(link.cid))
        return link.cid if info.kind is Kind.DIRECTORY else None

    async def _base_at(self, path: Names, link: Link | None) -> Cid | None:
        """The same; raises NotADirectory where something else stands that may not be replaced."""
        base = await self._folder_at(link)
        if link is not None and base is None and not self._options.delete:
            raise NotADirectory(
                f"{path_text(path)} is no folder in the bucket and a folder here",
                hint=MAY_REPLACE,
            )
        return base

    async def _single(self, entry: LocalEntry, found: Link | None) -> Link:
        """A file or symlink that is pushed by itself."""
        name = self._path[-1]
        at = _PushFolder(entry, os.path.dirname(self._local), self._path[:-1], None, {name: found} if found else {})
        await self._take(at, [replace(entry, name=name)], {name: self._local})
        link = at.changes.get(name) or found
        if link is None:
            why = "; ".join(item.reason for item in self.figures.skipped) or f"it is {KIND_TEXTS[entry.kind]}"
            raise Denied(f"{os.fsdecode(self._local)} cannot be pushed: {why}")
        return link

    async def _walk(self, top: _PushFolder) -> Link:
        stack = [top]
        await self._open(top)
        while True:
            current = stack[-1]
            if current.waiting:
                child = current.waiting.pop()
                stack.append(child)
                await self._open(child)
                continue
            link = await self._close(current)
            stack.pop()
            if not stack:
                return link
            name = current.path[-1]
            if stack[-1].existing.get(name) != link:
                stack[-1].changes[name] = link

    async def _open(self, at: _PushFolder) -> None:
        """Reads the local folder and the one of the bucket, takes in the files, and notes the folders for later."""
        if at.base is not None:
            at.existing = (await run_steps(list_directory(at.base), self._source)).entries
        found = await self._scan(at)
        entries = [entry for entry in found or () if self._carried(at, entry)]
        folders = [entry for entry in entries if entry.kind is Kind.DIRECTORY]
        kinds = await self._kinds(at, folders)
        for entry in reversed(folders):
            base = kinds.get(entry.name)
            at.waiting.append(_PushFolder(entry, os.path.join(at.where, entry.name), (*at.path, entry.name), base))
        await self._take(at, [entry for entry in entries if entry.kind is not Kind.DIRECTORY], {})
        # With ``delete`` a folder that cannot be read must not look like an empty one.
        if self._options.delete and found is not None:
            kept = {entry.name for entry in entries} | ({SEED} if not at.path else set())
            for name in at.existing.keys() - kept:
                at.changes[name] = None
                self.figures.removed += 1

    async def _scan(self, at: _PushFolder) -> list[LocalEntry] | None:
        """What is in a local folder; None when that cannot be known."""
        try:
            return await trio.to_thread.run_sync(folder.scan, at.where)
        except folder.ONE_PATH as error:
            if at.path == self._path:
                raise
            self._skip(at.path, str(error))
            return None

    def _carried(self, at: _PushFolder, entry: LocalEntry) -> bool:
        """Whether an entry can be in a bucket; else it is noted as skipped."""
        if self._asides.made(entry.name):
            return False
        if not at.path and entry.name == SEED:
            if not folder.is_seed(os.path.join(at.where, SEED), at.existing.get(SEED)):
                self._skip((SEED,), SEED_IS_TAKEN)
            return False
        try:
            check_name(entry.name)
        except (NameInvalid, NameTooLong) as error:
            self._skip((*at.path, entry.name), str(error))
            return False
        if entry.kind is None:
            self._skip((*at.path, entry.name), "neither file, folder nor symlink")
            return False
        return True

    async def _kinds(self, at: _PushFolder, folders: Sequence[LocalEntry]) -> dict[bytes, Cid | None]:
        """For the local folders, the bucket's folders of the same names; fetched together."""
        links = {entry.name: at.existing[entry.name] for entry in folders if entry.name in at.existing}
        await self._prefetch([link.cid for link in links.values()])
        return {name: await self._base_at((*at.path, name), link) for name, link in links.items()}

    async def _prefetch(self, cids: Sequence[Cid]) -> None:
        for start in range(0, len(cids), PREFETCH_MAX):
            await self._source.get_many([cid for cid in cids[start : start + PREFETCH_MAX] if codec_of(cid) != RAW])

    async def _close(self, at: _PushFolder) -> Link:
        wanted = self._attributes(at.entry)
        built = await run_steps(edit_directory(at.base, at.changes, wanted), self._source)
        await self._emit(list(built.blocks.items()))
        self.figures.folders += 1
        return built.link

    def _attributes(self, entry: LocalEntry) -> NodeAttributes:
        return entry.attributes if self._options.attributes else NO_ATTRIBUTES

    # Files

    async def _take(self, at: _PushFolder, entries: Sequence[LocalEntry], places: Mapping[bytes, bytes]) -> None:
        """Builds the files and symlinks of a folder into its changes. ``places`` names those that are not in it by their
        name.
        """
        small = [entry for entry in entries if entry.kind is Kind.SYMLINK or entry.size_bytes <= LEAF_SIZE]
        for batch in small_batches(small):
            await self._take_small(
                at, [(entry, places.get(entry.name, os.path.join(at.where, entry.name))) for entry in batch]
            )
        large = [entry for entry in entries if entry.kind is Kind.FILE and entry.size_bytes > LEAF_SIZE]
        await self._prefetch([at.existing[entry.name].cid for entry in large if entry.name in at.existing])
        for entry in large:
            await self._take_large(at, entry, places.get(entry.name, os.path.join(at.where, entry.name)))

    async def _take_small(self, at: _PushFolder, batch: Sequence[tuple[LocalEntry, bytes]]) -> None:
        plans = [Plan(entry, where, self._attributes(entry)) for entry, where in batch]
        results = await trio.to_thread.run_sync(build_batch, plans)
        blocks: list[Block] = []
        grown: list[tuple[LocalEntry, bytes]] = []
        for (entry, where), result in zip(batch, results, strict=True):
            if result is None:
                grown.append((entry, where))
            elif isinstance(result, BucketfsError):
                self._skip((*at.path, entry.name), str(result))
            else:
                built, made = result
                if await self._set(at, entry, built.link) or self._options.reread:
                    blocks += made
        await self._emit(blocks)
        for entry, where in grown:
            await self._take_large(at, entry, where)
        self.progress(self.figures)

    async def _take_large(self, at: _PushFolder, entry: LocalEntry, where: bytes) -> None:
        existing = at.existing.get(entry.name)
        wanted = self._attributes(entry)
        if existing is not None and codec_of(existing.cid) != RAW and not self._options.reread:
            block = await self._source.get(existing.cid)
            if looks_equal(entry, node_info(existing.cid, block)):
                # Only the mode can be another: the root block is written anew, nothing is read.
                old = node_info(existing.cid, block).attributes
                wanted = replace(old, mode=entry.mode) if self._options.attributes else NO_ATTRIBUTES
                built = with_attributes(existing.cid, block, wanted, existing.tsize)
                await self._emit(list(built.blocks.items()))
                self.figures.bytes_done += entry.size_bytes
                await self._set(at, entry, built.link)
                return
        try:
            self.figures.path = path_text((*at.path, entry.name))
            link = (await stream_large(Plan(entry, where, wanted), self._emit, self.figures, self.progress)).link
        except folder.ONE_PATH as error:
            self._skip((*at.path, entry.name), str(error))
            return
        await self._set(at, entry, link)

    async def _set(self, at: _PushFolder, entry: LocalEntry, link: Link) -> bool:
        """Notes a built file; False when the bucket has the same already."""
        if entry.kind is Kind.SYMLINK:
            self.figures.symlinks += 1
        else:
            self.figures.files += 1
            self.figures.bytes_done += entry.size_bytes if entry.size_bytes <= LEAF_SIZE else 0
        existing = at.existing.get(entry.name)
        if existing is not None and existing.cid == link.cid:
            self.figures.unchanged += 1
            return False
        if existing is not None and not self._options.delete and await self._folder_at(existing) is not None:
            where = path_text((*at.path, entry.name))
            raise IsADirectory(f"{where} is a folder in the bucket and {KIND_TEXTS[entry.kind]} here", hint=MAY_REPLACE)
        at.changes[entry.name] = link
        return True

    def _skip(self, path: Names, reason: str) -> None:
        self.figures.skipped.append(Skipped(path_text(path), reason))
