"""Writing the overlay down as ops.

`overlay_ops` lists ops that make, on the volume's present base, exactly its present overlay: the head of a new journal segment. A
replay is the inverse of it, up to what a checkpoint need not say.
"""

from __future__ import annotations

from collections.abc import Iterator

from bucketfs.journal import ops
from bucketfs.types import DraftId
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, SymlinkNode, Volume, content_record, stamp_of


def overlay_ops(volume: Volume) -> Iterator[ops.Op]:
    """Ops that rebuild the overlay on ``volume.base``, then the conflicts: that a copy is put on its name settles none of them.
    Everything written must have been recorded before."""
    yield from _flat(_inside(volume.root, ""))
    yield from volume.pending.conflicts
    for node, names in volume.push.truncated.items():
        if not node.orphan:
            yield from (ops.Lost(node.path(), was, node.ctime_ns) for was in names)


def entry_ops(node: Node, path: str) -> Iterator[ops.Op]:
    """Ops that put ``node``, as it is, on the free name ``path``."""
    return _flat(_entry(node, path))


def _flat(parts: Parts) -> Iterator[ops.Op]:
    # The parts of parts are taken up here and not by nested generators: each level of a path would be some frames of Python's.
    open_parts = [parts]
    while open_parts:
        item = next(open_parts[-1], None)
        if item is None:
            open_parts.pop()
        elif isinstance(item, Iterator):
            open_parts.append(item)
        else:
            yield item


Parts = Iterator["ops.Op | Parts"]
"""Ops, and in their place among them parts that are ops and parts again."""


def _inside(node: DirectoryNode, path: str) -> Parts:
    """What differs in and below a directory that stands at ``path`` already; its own attributes last, for its mtime."""
    for name, override in node.overrides.items():
        at = _join(path, name)
        # Also where the base has nothing: a replay passes over that, and to ask the base might take a block that is not
        # here.
        yield ops.Remove(at, node.ctime_ns)
        if override is not None:
            yield _entry(override, at)
    for child in node.dirty_children:
        if child.name not in node.overrides:
            yield _details(child, _join(path, child.name))
    if node.changed or node.overrides:
        yield _attributes(node, path)
    yield _stamp(node, path)


def _entry(node: Node, path: str) -> Parts:
    a = node.attributes
    if node.link is not None:
        yield ops.Place(path, node.inode, node.link.cid, node.link.tsize, node.ctime_ns)
        if node.dirty:
            yield _details(node, path)
        else:
            yield _stamp(node, path)
        return
    # What is made has its first mtime as atime; the mtime that it has now comes with its details.
    mtime_ns = node.atime_ns if node.changed and a.mtime_ns is not None else node.mtime_ns
    mode = a.mode if a.mode is not None else 0
    if isinstance(node, DirectoryNode):
        yield ops.MakeDirectory(path, node.inode, mode, a.uid, a.gid, mtime_ns, node.ctime_ns)
    elif isinstance(node, SymlinkNode):
        yield ops.MakeSymlink(path, node.inode, node.target.decode(), a.uid, a.gid, mtime_ns, node.ctime_ns)
    else:
        yield ops.Create(path, node.inode, mode, a.uid, a.gid, mtime_ns, node.ctime_ns)
    yield _details(node, path)


def _details(node: Node, path: str) -> Parts:
    if isinstance(node, DirectoryNode):
        yield _inside(node, path)
        return
    if isinstance(node, FileNode):
        for layer in node.content.layers:
            yield content_record(node, path, layer, layer.extents)
    if node.changed:
        yield _attributes(node, path)
    yield _stamp(node, path)


def _stamp(node: Node, path: str) -> Parts:
    if node.link is None:
        return
    sparse = isinstance(node, FileNode) and node.content.base_held_bytes != node.content.base_size_bytes
    if sparse or node.atime_ns != node.mtime_ns or node.attributes.mtime_ns is None:
        yield stamp_of(node, path)


def _attributes(node: Node, path: str) -> ops.SetAttributes:
    a = node.attributes
    # What it rests on may say an owner that it has no more.
    uid = ops.NO_OWNER if a.uid is None and node.link is not None else a.uid
    gid = ops.NO_OWNER if a.gid is None and node.link is not None else a.gid
    return ops.SetAttributes(path, a.mode, uid, gid, a.mtime_ns, node.ctime_ns)


def _join(path: str, name: bytes) -> str:
    return f"{path}/{name.decode()}" if path else name.decode()


def draft_ids(volume: Volume) -> set[DraftId]:
    """The drafts that nodes in memory need, unlinked open files included, and those that are quarantined."""
    held = {
        layer.draft.id
        for node in volume.tree.registry.values()
        if isinstance(node, FileNode) and node.tree is volume.tree
        for layer in node.content.layers
    }
    return held | volume.journal.quarantine.drafts()


__all__ = ["draft_ids", "entry_ops", "overlay_ops"]
