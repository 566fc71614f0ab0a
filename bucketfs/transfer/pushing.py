"""Pushing a local folder into a bucket: walk, build bottom-up, send what the Hub lacks, swap the root once.

All of it appears in the bucket at one moment. When the root moved meanwhile, the push begins again on the new one.

Large files are compared by the size and mtime that their root blocks tell; small ones by CID, because their root block is the whole
file: to hash it here is cheaper than to fetch it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from bucketfs.cache import run_steps
from bucketfs.client import Backoff
from bucketfs.dag import RAW, NodeInfo, codec_of, edit_directory, list_directory, node_info
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
from bucketfs.names import SEED, SEED_NAME, check_name
from bucketfs.remote import Emit, NodeSource, Outcome, Remote, TreeBuilder, folder_at, send_all, windows
from bucketfs.transfer.build import LocalFile, WalkedFolder, walk
from bucketfs.transfer.local_fs import KIND_TEXTS, NOT_CARRIED, ONE_PATH, LocalEntry, LocalFs, check_carried, real_path
from bucketfs.transfer.options import (
    PUSH_DEFAULTS,
    SEED_IS_TAKEN,
    Figures,
    Names,
    Progress,
    PushOptions,
    path_text,
    unwatched,
)
from bucketfs.transfer.temporaries import Temporaries
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
    temporaries: Temporaries | None = None,
    fs: LocalFs | None = None,
) -> Figures:
    """Makes the folder (or file) ``local`` appear at ``path`` of the bucket; missing parents are made. A file goes into a folder
    that stands at ``path``.

    What only the bucket has stays unless ``options.delete``. What cannot be carried (devices, names that are not UTF-8, what
    may not be read) is in ``skipped`` of the result. Raises NotFound, InvalidArgument for a device, socket or pipe as ``local``,
    IsADirectory or NotADirectory for what would replace something of another kind in the bucket without ``delete``, and what the
    Remote raises; passing trouble is retried a few times.
    """
    backoff = Backoff()
    # The same for all attempts: what one has sent, the Hub keeps for the next.
    upload = UploadId(secrets.token_bytes(16))
    attempt = 1
    while True:
        figures = Figures(progress=progress)
        try:
            base = await remote.root()
            push = _FolderPush(NodeSource(remote), options, figures, temporaries or Temporaries(), fs or LocalFs())

            async def make(emit: Emit, push: _FolderPush = push, base: Cid = base) -> Cid:
                return await push.run(base, local, path, emit)

            figures.root = await send_all(remote, upload, make, figures.sent)
            await swap_root(remote, base, figures.root, upload)
        except (RootMoved, BlocksMissing, Unavailable, TimedOut) as error:
            if attempt == ATTEMPTS_MAX:
                raise
            if isinstance(error, BlocksMissing):
                # The Hub lost something of what we took for unchanged: all of it is offered now.
                options = replace(options, reread=True)
        else:
            figures.show()
            return figures
        attempt += 1
        await trio.sleep(backoff.next_s())


async def swap_root(remote: Remote, base: Cid, new: Cid, upload: UploadId) -> None:
    """Makes ``new`` the root, if it is another one than ``base``. Raises what the Remote raises."""
    if new != base:
        try:
            await remote.swap(base, new, upload)
        except (Unavailable, TimedOut):
            # The swap may have happened all the same.
            if await remote.root() != new:
                raise


@dataclass(eq=False)
class _FolderPush:
    """One walk over the local folder, by the `WalkRules` of a push."""

    source: NodeSource
    options: PushOptions
    figures: Figures
    temporaries: Temporaries
    fs: LocalFs

    async def run(self, root: Cid, local: Path, path: Names, emit: Emit) -> Cid:
        """The root with the folder in place; the new blocks go to ``emit``."""
        self._emit = emit
        self._builder = TreeBuilder(self.source, emit, self.figures.bytes_were_done)
        self._top = path
        for name in path:
            check_name(name)
        if path and path[0] == SEED:
            raise Denied(f"{SEED_NAME} is the Hub's own")
        await trio.to_thread.run_sync(check_carried, local)
        # The folder itself may be named by a symlink; below it none is followed.
        where = real_path(local)
        entry = await trio.to_thread.run_sync(self.fs.look, where)
        if entry is None:
            raise NotFound(f"no such folder: {os.fsdecode(where)}")
        parents, found = await self._descend(root, path)
        folder = await folder_at(self.source, found)
        if entry.is_directory:
            self._check_folder(path, found, folder)
            link = await walk(WalkedFolder(entry, where, path, folder), self, self.source)
        else:
            if self.options.into or (not self.options.exact and folder is not None):
                if found is not None and folder is None and not self.options.delete:
                    raise NotADirectory(f"{path_text(path)} is no folder in the bucket", hint=MAY_REPLACE)
                name = os.fsencode(local.name)
                check_name(name)
                path = (*path, name)
                parents, found = await self._descend(root, path)
            link = await self._single(replace(entry, name=path[-1]), where, path, found)
        for name, parent in zip(reversed(path), reversed(parents), strict=True):
            built = await run_steps(edit_directory(parent, {name: link}), self.source)
            await emit(list(built.blocks.items()))
            link = built.link
        return link.cid

    async def _descend(self, root: Cid, path: Names) -> tuple[list[Cid | None], Link | None]:
        """The folders above the target, None for those that have to be made, and what is at the target now."""
        parents: list[Cid | None] = []
        here: Link | None = Link(root, 0)
        for depth, name in enumerate(path):
            if here is not None and await folder_at(self.source, here) is None:
                raise NotADirectory(f"{path_text(path[:depth])} is no folder in the bucket")
            parents.append(here.cid if here else None)
            if here is not None:
                here = (await run_steps(list_directory(here.cid), self.source)).entries.get(name)
        return parents, here

    def _check_folder(self, path: Names, link: Link | None, folder: Cid | None) -> None:
        """Raises NotADirectory where a folder would replace something else."""
        if link is not None and folder is None and not self.options.delete:
            raise NotADirectory(f"{path_text(path)} is no folder in the bucket and a folder here", hint=MAY_REPLACE)

    async def _single(self, entry: LocalEntry, where: bytes, path: Names, found: Link | None) -> Link:
        """A file or symlink that is pushed by itself."""
        name = path[-1]
        at = WalkedFolder(entry, os.path.dirname(where), path[:-1], None, existing={name: found} if found else {})
        await self._take(at, [LocalFile(self.fs, entry, where, self._attributes(entry))])
        link = at.changes.get(name) or found
        if link is None:
            why = "; ".join(item.reason for item in self.figures.skipped) or f"it is {KIND_TEXTS[entry.kind]}"
            raise Denied(f"{os.fsdecode(where)} cannot be pushed: {why}")
        return link

    def _attributes(self, entry: LocalEntry) -> NodeAttributes:
        return entry.attributes if self.options.attributes else NO_ATTRIBUTES

    # The rules of the walk

    async def entries(self, at: WalkedFolder) -> list[LocalEntry]:
        """What can be in a bucket. With ``delete``, the other names of the bucket's folder go."""
        try:
            found = await trio.to_thread.run_sync(self.fs.scan, at.where)
        except ONE_PATH as error:
            if at.path == self._top:
                raise
            # With ``delete``, too: a folder that cannot be read must not look like an empty one.
            self.figures.skip(at.path, str(error))
            return []
        entries = [entry for entry in found if self._is_carried(at, entry)]
        if self.options.delete:
            kept = {entry.name for entry in entries} | ({SEED} if not at.path else set())
            for name in at.existing.keys() - kept:
                at.changes[name] = None
                self.figures.removed += 1
        return entries

    def _is_carried(self, at: WalkedFolder, entry: LocalEntry) -> bool:
        """Whether an entry can be in a bucket; else it is noted as skipped."""
        if self.temporaries.is_temporary(entry.name):
            return False
        reason = "" if entry.kind is not None else NOT_CARRIED
        if not at.path and entry.name == SEED:
            if self.fs.is_seed(os.path.join(at.where, SEED), at.existing.get(SEED)):
                return False
            reason = SEED_IS_TAKEN
        try:
            check_name(entry.name)
        except (NameInvalid, NameTooLong) as error:
            reason = str(error)
        if reason:
            self.figures.skip((*at.path, entry.name), reason)
        return not reason

    def unreadable(self, at: WalkedFolder, child: WalkedFolder, error: BucketfsError) -> None:
        """A local folder that cannot be read was skipped by `entries`; any other error ends the push."""
        raise error

    async def close(self, at: WalkedFolder) -> Link:
        """A folder of the bucket, with what is in the local one."""
        built = await self._builder.directory(at.base, at.changes, self._attributes(at.entry))
        await self._emit(list(built.blocks.items()))
        self.figures.folders += 1
        return built.link

    async def files(self, at: WalkedFolder, entries: Sequence[LocalEntry]) -> None:
        """Builds the files and symlinks of a folder into its changes."""
        for child in at.waiting:
            self._check_folder(child.path, at.existing.get(child.entry.name), child.base)
        await self._take(
            at,
            [LocalFile(self.fs, e, os.path.join(at.where, e.name), self._attributes(e)) for e in entries],
        )

    # Files

    async def _take(self, at: WalkedFolder, files: Sequence[LocalFile]) -> None:
        async def done(file: LocalFile, outcome: Outcome) -> bool:
            if isinstance(outcome, ONE_PATH):
                self.figures.skip((*at.path, file.entry.name), str(outcome))
                return False
            if isinstance(outcome, BucketfsError):
                raise outcome
            return await self._set(at, file.entry, outcome.link) or self.options.reread

        await self._builder.files([file for file in files if file.is_small], done)
        large = [file for file in files if not file.is_small]
        known = [at.existing[file.entry.name].cid for file in large if file.entry.name in at.existing]
        for some in windows([cid for cid in known if codec_of(cid) != RAW], lambda cid: 0, count_max=PREFETCH_MAX):
            await self.source.get_many(some)
        for file in large:
            if not await self._is_unchanged(at, file):
                self.figures.path = path_text((*at.path, file.entry.name))
                await self._builder.files([file], done)

    async def _is_unchanged(self, at: WalkedFolder, file: LocalFile) -> bool:
        """Whether the bucket has a large file already, by size and mtime. Only its mode can be another then: the root block is
        written anew, nothing is read."""
        existing = at.existing.get(file.entry.name)
        if existing is None or codec_of(existing.cid) == RAW or self.options.reread:
            return False
        info = node_info(existing.cid, await self.source.get(existing.cid))
        if not looks_equal(file.entry, info):
            return False
        wanted = replace(info.attributes, mode=file.entry.mode) if self.options.attributes else NO_ATTRIBUTES
        self.figures.bytes_done += file.size_bytes
        await self._set(at, file.entry, await self._builder.with_attributes(existing, wanted))
        return True

    async def _set(self, at: WalkedFolder, entry: LocalEntry, link: Link) -> bool:
        """Notes a built file; False when the bucket has the same already."""
        self.figures.count(entry.kind)
        existing = at.existing.get(entry.name)
        if existing is not None and existing.cid == link.cid:
            self.figures.unchanged += 1
            return False
        if existing is not None and not self.options.delete and await folder_at(self.source, existing) is not None:
            where = path_text((*at.path, entry.name))
            raise IsADirectory(f"{where} is a folder in the bucket and {KIND_TEXTS[entry.kind]} here", hint=MAY_REPLACE)
        at.changes[entry.name] = link
        return True


def looks_equal(entry: LocalEntry, info: NodeInfo) -> bool:
    """Whether a local file is, by size and mtime, one of the bucket."""
    of_entry = (entry.kind, entry.size_bytes, entry.mtime_ns)
    return entry.kind is Kind.FILE and of_entry == (info.kind, info.size_bytes, info.attributes.mtime_ns)
