"""A local folder as what a tree is built from: its files, and the walk that lays it over a folder of the bucket.

A push and the scan of a mirror walk alike: depth first with a stack of its own, so that memory is bounded by the largest
folder. What they take along, and what becomes of what is gone, is decided by their `WalkRules`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bucketfs.cache import Source, run_steps
from bucketfs.dag import LEAF_SIZE, list_directory
from bucketfs.errors import BucketfsError
from bucketfs.remote import kinds_of
from bucketfs.transfer.local_fs import ONE_PATH, LocalEntry, LocalFs
from bucketfs.transfer.options import Names
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file or symlink to be built (a `FileSource`): its status, where it is, and the attributes that it shall have in the
    bucket."""

    fs: LocalFs
    entry: LocalEntry
    where: bytes
    attributes: NodeAttributes

    @property
    def size_bytes(self) -> int:
        """A symlink is small whatever it says of itself."""
        return 0 if self.entry.kind is Kind.SYMLINK else self.entry.size_bytes

    @property
    def is_small(self) -> bool:
        """Whether all of it fits one leaf."""
        return self.size_bytes <= LEAF_SIZE

    def target(self) -> bytes | None:
        """As `FileSource.target`."""
        return self.fs.target(self.where) if self.entry.kind is Kind.SYMLINK else None

    def parts(self) -> Generator[bytes]:
        """As `FileSource.parts`."""
        return self.fs.leaves(self.where)


@dataclass(eq=False, slots=True)
class WalkedFolder:
    """A local folder on the stack of the walk, the folder of the bucket at its place, and how they differ."""

    entry: LocalEntry
    where: bytes
    path: Names
    base: Cid | None
    attributes: NodeAttributes = NO_ATTRIBUTES
    existing: Mapping[bytes, Link] = field(default_factory=dict)
    changes: dict[bytes, Link | None] = field(default_factory=dict)
    waiting: list[WalkedFolder] = field(default_factory=list)

    def set(self, name: bytes, link: Link) -> None:
        """A name stands for this."""
        if self.existing.get(name) != link:
            self.changes[name] = link


class WalkRules(Protocol):
    """What a walk does with the folders that it meets."""

    async def entries(self, at: WalkedFolder) -> Sequence[LocalEntry]:
        """What of a local folder goes into the tree; names that are to go from the bucket are set to None in ``at.changes``. Raises
        why the folder cannot be read."""

    async def files(self, at: WalkedFolder, entries: Sequence[LocalEntry]) -> None:
        """Builds the files and symlinks of a folder and sets their names; the folders in it wait in ``at.waiting``."""

    def unreadable(self, at: WalkedFolder, child: WalkedFolder, error: BucketfsError) -> None:
        """A folder cannot be opened: raises, or leaves it out."""

    async def close(self, at: WalkedFolder) -> Link:
        """Everything in a folder is done: builds it."""


async def walk(top: WalkedFolder, rules: WalkRules, source: Source) -> Link:
    """The tree of a local folder, built bottom-up."""
    stack = [top]
    await _open(top, rules, source)
    while True:
        at = stack[-1]
        if at.waiting:
            child = at.waiting.pop()
            try:
                await _open(child, rules, source)
            except ONE_PATH as error:
                rules.unreadable(at, child, error)
            else:
                stack.append(child)
            continue
        link = await rules.close(at)
        stack.pop()
        if not stack:
            return link
        stack[-1].set(at.entry.name, link)


async def _open(at: WalkedFolder, rules: WalkRules, source: Source) -> None:
    """Reads the local folder and the one of the bucket, takes in the files, and notes the folders for later."""
    if at.base is not None:
        directory = await run_steps(list_directory(at.base), source)
        at.existing, at.attributes = directory.entries, directory.attributes
    entries = await rules.entries(at)
    folders = [entry for entry in entries if entry.is_directory]
    kinds = await kinds_of(source, {e.name: at.existing[e.name] for e in folders if e.name in at.existing})
    for entry in reversed(folders):
        base = at.existing[entry.name].cid if kinds.get(entry.name) is Kind.DIRECTORY else None
        at.waiting.append(WalkedFolder(entry, os.path.join(at.where, entry.name), (*at.path, entry.name), base))
    await rules.files(at, [entry for entry in entries if not entry.is_directory])
