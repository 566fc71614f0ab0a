"""Writing the overlay down as ops, and building it up again from ops.

`overlay_ops` lists ops that make, on the volume's present base, exactly its present overlay: the head of a new journal segment.
`replay` builds an overlay from the ops of a journal. The two are inverse up to what a checkpoint need not say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from operator import itemgetter

from bucketfs import ops
from bucketfs.errors import Corrupt, NotFound
from bucketfs.journal import Extents
from bucketfs.types import DraftId, Inode, Link, NodeAttributes
from bucketfs.vfs.recovery.salvage import prepare
from bucketfs.vfs.tree.content import Layer
from bucketfs.vfs.tree.deferred import beside, paths_of
from bucketfs.vfs.tree.inode_table import Number
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode, check_sound
from bucketfs.vfs.tree.volume import Volume, stamp_of


def overlay_ops(volume: Volume) -> Iterator[ops.Op]:
    """Ops that rebuild the overlay on ``volume.base``, then those that a replay could not do, then the conflicts: that a copy is
    put on its name settles none of them. Everything written must have been recorded before."""
    yield from _flat(_inside(volume.root, ""))
    if volume.stuck:
        yield ops.Waiting(volume.stuck_root, len(volume.stuck), volume.owner.now_ns())
    yield from volume.stuck
    yield from volume.conflicts
    for node, names in volume.short.items():
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
            yield ops.SetContent(
                path,
                layer.draft.id,
                layer.extents.items(),
                layer.lower_limit_bytes,
                node.content.size_bytes,
                node.mtime_ns,
                node.ctime_ns,
            )
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
    uid = ops.NOBODY if a.uid is None and node.link is not None else a.uid
    gid = ops.NOBODY if a.gid is None and node.link is not None else a.gid
    return ops.SetAttributes(path, a.mode, uid, gid, a.mtime_ns, node.ctime_ns)


def _join(path: str, name: bytes) -> str:
    return f"{path}/{name.decode()}" if path else name.decode()


def draft_ids(volume: Volume) -> set[DraftId]:
    """The drafts that nodes in memory need, unlinked open files included."""
    held = {
        layer.draft.id
        for node in volume.registry.values()
        if isinstance(node, FileNode) and node.volume is volume
        for layer in node.content.layers
    }
    return held | {op.draft for op in volume.stuck if isinstance(op, ops.SetContent)}


async def replay(volume: Volume, records: Iterable[ops.Op], lost: Iterable[tuple[int, ops.SetContent]] = ()) -> list[str]:
    """Build the overlay from ``records`` on a volume that has none. Returns a line for each record that could not be applied.
    ``lost`` are those whose bytes a power loss took, with how many of the ``records`` come before each. When there are any, the
    journal has to begin anew before it takes changes.

    A record that does not fit (a base that is not the one it was written on, a draft that is gone) is said and passed over:
    the others are worth more than the one. A record that needs a block that the Hub has lost or damaged is kept in
    ``volume.stuck`` for `retry`, with all later ones that build on it. Raises Unavailable when base blocks are needed that nobody
    has now.
    """
    complaints: list[str] = []
    records = list(records)
    # All at once and first: a number given to a base file on the way must not be one that a later op brings along.
    volume.numbers.claim(
        op.inode for op in records if isinstance(op, ops.Create | ops.MakeDirectory | ops.MakeSymlink | ops.Place)
    )
    missing = sorted(lost, key=itemgetter(0), reverse=True)
    volume.owes_checkpoint = bool(missing)
    short: set[FileNode] = set()
    waiting = 0
    for at, op in enumerate(records):
        while missing and missing[-1][0] <= at:
            short |= await _losers(volume, missing.pop()[1])
        if isinstance(op, ops.Proposed):
            _note_names(volume, short)
        if isinstance(op, ops.Waiting):
            # What was made on an older base means something else, or nothing, on this one (see `retrying`).
            volume.stuck_root = op.root
            waiting = op.count if op.root != volume.base else 0
            continue
        if waiting:
            waiting -= 1
            volume.stuck.append(op)
            continue
        try:
            stuck = beside(volume.stuck, op)
        except Corrupt:
            volume.stuck.append(op)
            continue
        try:
            await volume.base_tree.load(partial(replayed, volume, op))
        except Corrupt as error:
            volume.stuck.append(op)
            complaints.append(f"{type(op).__name__} {paths_of(op)[0]!r} waits for the Hub to have its blocks again: {error}")
        except (NotFound, AssertionError) as error:
            complaints.append(misfit(op, error))
            if volume.base_tree.lost and isinstance(op, ops.SetContent):
                volume.partless.append(op)
        else:
            volume.stuck = stuck
    if volume.stuck and not volume.stuck_root:
        volume.stuck_root = volume.base
    return complaints


async def _losers(volume: Volume, op: ops.SetContent) -> set[FileNode]:
    """The file that a record was of; none when that cannot be known, or something was done to it that needed the record."""
    with suppress(Corrupt, NotFound):
        node = await volume.base_tree.load(partial(node_at, volume, op.path))
        if isinstance(node, FileNode):
            return {node}
    return set()


def _note_names(volume: Volume, short: Iterable[FileNode]) -> None:
    """A root was proposed that may have all that these files lost: what they are called in it."""
    for node in short:
        if not node.orphan:
            names = volume.short.setdefault(node, [])
            if node.path() not in names:
                names.append(node.path())


def misfit(op: ops.Op, error: Exception) -> str:
    """The line for an op that cannot be done."""
    return f"{type(op).__name__} {getattr(op, 'path', '')!r}: {error}"


def replayed(volume: Volume, op: ops.Op) -> None:
    """An attempt to do what a record says, without writing another one."""
    volume.replaying = True
    try:
        if volume.base_tree.lost:
            prepare(volume, op)
        _apply(volume, op)
    finally:
        volume.replaying = False


def _apply(volume: Volume, op: ops.Op) -> None:
    if isinstance(op, ops.Proposed):
        volume.proposed.add(op.root)
        return
    if isinstance(op, ops.Arrived):
        volume.arrived = op.root
        volume.proposed.clear()
        return
    if isinstance(op, ops.Left):
        volume.left[op.root] = op.time_ns
        return
    if isinstance(op, ops.Conflict):
        volume.conflicts.add(op)
        return
    if isinstance(op, ops.Settled):
        volume.conflicts.settle(op.copy)
        return
    if isinstance(op, ops.Lost):
        node = node_at(volume, op.path)
        if isinstance(node, FileNode):
            volume.short.setdefault(node, []).append(op.was)
        return
    if isinstance(op, ops.Rename):
        node = node_at(volume, op.old)
        parent, name = place_at(volume, op.new)
        volume.move(node, parent, name, volume.find(parent, name), op.exchange, op.time_ns)
        return
    if isinstance(op, ops.SetAttributes):
        node = node_at(volume, op.path)
        check_sound(node)
        volume.apply_attributes(node, op.mode, op.uid, op.gid, op.mtime_ns, op.time_ns)
        return
    if isinstance(op, ops.Stamp):
        node = node_at(volume, op.path)
        if isinstance(node, FileNode) and op.held_bytes is not None:
            node.content.base_held_bytes = op.held_bytes
        volume.stamp(node, op.atime_ns, op.fallback_ns, op.time_ns)
        return
    if isinstance(op, ops.SetContent):
        node = node_at(volume, op.path)
        if not isinstance(node, FileNode):
            raise NotFound("content for what is no file")
        _set_content(volume, node, op)
        return
    assert not isinstance(op, ops.Waiting), "what waits is not done"
    parent, name = place_at(volume, op.path)
    at = volume.find(parent, name)
    if isinstance(op, ops.Place):
        volume.base_tree.shown(Link(op.cid, op.tsize))  # look first
    if at is not None:
        volume.take_away(parent, at, op.time_ns)
    if isinstance(op, ops.Remove):
        return
    made = _made(volume, op)
    volume.place(parent, name, made, op.time_ns)
    if op.inode is not None and not isinstance(op, ops.Place):
        made.touch()


def _made(volume: Volume, op: ops.Create | ops.MakeDirectory | ops.MakeSymlink | ops.Place) -> Node:
    inode = _number(volume, op.inode)
    if isinstance(op, ops.Place):
        return volume.node_of(Link(op.cid, op.tsize), Number(inode, op.time_ns, op.time_ns))
    if isinstance(op, ops.MakeSymlink):
        attributes = NodeAttributes(mtime_ns=op.mtime_ns, uid=op.uid, gid=op.gid)
        return SymlinkNode(volume, inode, None, attributes, op.time_ns, op.time_ns, op.target.encode())
    attributes = NodeAttributes(mode=op.mode, mtime_ns=op.mtime_ns, uid=op.uid, gid=op.gid)
    if isinstance(op, ops.MakeDirectory):
        return DirectoryNode(volume, inode, None, attributes, op.time_ns, op.time_ns)
    return FileNode(volume, inode, None, attributes, op.time_ns, op.time_ns, 0)


def _number(volume: Volume, inode: Inode) -> Inode:
    """The number that the journal gives a node, or a fresh one when something else bears it: the table of numbers was lost, and
    another bucket of the mount was given it before this journal was read. The kernel would take the two for one file."""
    return inode if inode not in volume.registry else volume.numbers.fresh()


def _set_content(volume: Volume, node: FileNode, op: ops.SetContent) -> None:
    if op.lower_limit_bytes:
        check_sound(node)
    content = node.content
    layer = next((layer for layer in content.layers if layer.draft.id == op.draft), None)
    node.damaged = False
    if layer is None:
        for below in content.layers:
            below.sealed = True
        layer = Layer(volume.journal.drafts.get(op.draft), Extents(), op.lower_limit_bytes, False, Extents())
        content.layers.append(layer)
    layer.extents.truncate(op.size_bytes)
    for start, stop in op.extents:
        layer.extents.add(start, stop)
    layer.lower_limit_bytes = op.lower_limit_bytes
    content.size_bytes = op.size_bytes
    volume.apply_attributes(node, None, None, None, op.mtime_ns, op.time_ns)


def place_at(volume: Volume, path: str) -> tuple[DirectoryNode, bytes]:
    """The directory and the name of a path. An attempt. Raises NotFound, Corrupt."""
    above, _, name = path.rpartition("/")
    parent = node_at(volume, above)
    check_sound(parent)
    if not isinstance(parent, DirectoryNode):
        raise NotFound(f"{above!r} is not a directory")
    return parent, name.encode()


def node_at(volume: Volume, path: str) -> Node:
    """The node at a path. An attempt. Raises NotFound, Corrupt."""
    node: Node = volume.root
    for name in path.split("/") if path else []:
        check_sound(node)
        if not isinstance(node, DirectoryNode):
            raise NotFound(f"{path!r} leads through what is no directory")
        node = volume.child(node, name.encode())
    return node


__all__ = ["draft_ids", "entry_ops", "misfit", "node_at", "overlay_ops", "place_at", "replay", "replayed"]
