"""Resolving a conflict as the user wants it: which of the two versions takes the name. Pure.

This makes the same journal records, checks and pushes as a rename or an unlink would; only the kernel did not ask for it, and
has to be told."""

from __future__ import annotations

import enum

from bucketfs.errors import IsADirectory, NotFound
from bucketfs.journal import Conflict, Resolved
from bucketfs.types import Kind, Link
from bucketfs.vfs.tree import (
    AttributesChanged,
    DirectoryNode,
    EntryChanged,
    EntryGone,
    Invalidation,
    Node,
    RenameFlags,
    Volume,
)


class Keep(enum.Enum):
    """Which version is kept under the name; with `BOTH` the files stay as they are."""

    MINE = "keep-mine"
    THEIRS = "keep-theirs"
    BOTH = "keep-both"


def resolve(volume: Volume, conflict: Conflict, keep: Keep) -> list[Invalidation]:
    """Resolve ``conflict``; what the kernel must be told.

    An attempt. Raises NotFound when the conflict is no longer on the list, when its copy is gone (then it is taken off), or
    when the version to keep is gone; IsADirectory when a folder is in the way; and as `Volume.rename` and `Volume.remove`.
    """
    if volume.pending.conflicts.get(conflict.copy) != conflict:
        raise NotFound(f"{conflict.copy!r} is no conflict any more", hint="'bucketfs conflicts' lists what is")
    above, _, copy_name = conflict.copy.rpartition("/")
    name = conflict.original.rpartition("/")[2].encode()
    parent = _directory(volume, above)
    copy = None if parent is None else volume.tree.find(parent, copy_name.encode())
    if parent is None or copy is None:
        volume.pending.conflicts.resolve(conflict.copy)
        raise NotFound(f"{conflict.copy!r} is gone", hint="there is nothing to choose any more")
    if keep is Keep.BOTH:
        volume.append(Resolved(conflict.copy, volume.now_ns()))
        volume.pending.conflicts.resolve(conflict.copy)
        return []
    there = volume.tree.find(parent, name)
    # No `Resolved` record: a replay of the rename, or of the removal, takes the conflict off the list as these do here.
    if (keep is Keep.MINE) == conflict.ours:
        if isinstance(there, DirectoryNode):
            raise IsADirectory(f"{conflict.original!r} is a folder", hint="move it away, or keep both")
        volume.rename(parent, copy.name, parent, name, RenameFlags.NONE)
        return [
            EntryChanged(parent.inode, copy_name.encode()),
            EntryChanged(parent.inode, name),
            AttributesChanged(parent.inode),
            AttributesChanged(copy.inode),
        ]
    if there is None:
        raise NotFound(
            f"{conflict.original!r} is gone, and the copy is all that is left", hint="choose the copy, or keep both"
        )
    if isinstance(copy, DirectoryNode):
        raise IsADirectory(f"{conflict.copy!r} is a folder", hint="remove it yourself, or keep both")
    volume.remove(parent, copy.name, directory=False)
    return [EntryGone(parent.inode, copy_name.encode(), copy.inode), AttributesChanged(parent.inode)]


def _directory(volume: Volume, path: str) -> DirectoryNode | None:
    """The directory at a path, taken into memory with those above it; None when there is none."""
    at = volume.root
    for name in path.encode().split(b"/") if path else []:
        found = volume.tree.find(at, name)
        if not isinstance(found, DirectoryNode):
            return None
        at = found
    return at


def exists_at(volume: Volume, path: str) -> bool:
    """Whether anything is at a path. An attempt; takes nothing into memory."""
    at: Node | Link = volume.root
    for name in path.encode().split(b"/"):
        found: Node | Link | None = None
        if isinstance(at, DirectoryNode):
            found = at.children.get(name)
            if found is None and name not in at.overrides:
                found = volume.tree.base_entry(at, name)
        elif isinstance(at, Link) and volume.tree.base_tree.info(at).kind is Kind.DIRECTORY:
            found = volume.tree.base_tree.directory(at.cid).entries.get(name)
        if found is None:
            return False
        at = found
    return True
