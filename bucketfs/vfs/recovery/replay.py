"""Building the overlay up again from the ops of a journal, at a start.

A change that cannot be applied, because a block of the base that it needs is lost, or because it does not fit, is quarantined, with
every later one that builds on it (see `bucketfs.journal.Quarantine`). All others are applied.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from operator import itemgetter

from bucketfs.errors import Corrupt, NotFound
from bucketfs.journal import Change, Extents, builds_on, ops, paths_of
from bucketfs.types import Cid, Inode, Link
from bucketfs.vfs.tree import DirectoryNode, FileNode, Layer, Node, Number, Volume, check_sound

log = logging.getLogger(__name__)


async def recover(volume: Volume, hub_root: Cid, inode: Inode, known: Number | None = None) -> list[str]:
    """Open the root of ``volume`` and build up what its journal recovered; the paths of changes that were quarantined by that.
    ``known`` is what the table of numbers has of the root.

    Where anything was quarantined, or lost to a power loss, the journal has to begin anew before it takes changes. When the root of
    the journal's base is lost and the Hub has another one by now, the bucket opens at ``hub_root``, and every change is
    quarantined. Raises what fetching the base raises, and Corrupt when the Hub's own root is damaged.
    """
    recovered = volume.journal.recovered
    base = recovered.base
    if base is None:
        base = hub_root
        volume.journal.begin(base)
    base_lost = False
    try:
        await volume.tree.open_root(base, inode, known)
    except (Corrupt, NotFound):
        if base == hub_root:
            raise
        base_lost = True
        await volume.tree.open_root(hub_root, inode, known)
    replay = _Replay(volume, base, base_lost)
    await replay.run(recovered.ops, zip(recovered.unbacked_at, recovered.unbacked, strict=True))
    if recovered.unbacked or replay.quarantined or base_lost:
        volume.owe_checkpoint()
    return list(dict.fromkeys(paths_of(change)[-1] for change in replay.quarantined))


class _Replay:
    """One run over the records of a journal, onto a volume that has no overlay yet. ``base`` is the root that they were made on."""

    def __init__(self, volume: Volume, base: Cid, base_lost: bool) -> None:
        self.quarantined: list[Change] = []
        self._volume = volume
        self._base = base
        self._base_lost = base_lost

    async def run(self, records: list[ops.Op], lost: Iterable[tuple[int, ops.SetContent]]) -> None:
        """Apply ``records`` in their order. ``lost`` are those whose bytes a power loss took, with how many of the ``records`` come
        before each."""
        volume = self._volume
        # All at once and first: a number given to a base file on the way must not be one that a later op brings along.
        volume.tree.numbers.claim(
            op.inode for op in records if isinstance(op, ops.Create | ops.MakeDirectory | ops.MakeSymlink | ops.Place)
        )
        missing = sorted(lost, key=itemgetter(0), reverse=True)
        truncated: set[FileNode] = set()
        for at, op in enumerate(records):
            while missing and missing[-1][0] <= at:
                truncated |= await _truncated_by(volume, missing.pop()[1])
            if isinstance(op, ops.Proposed):
                _note_names(volume, truncated)
            await self._apply_or_quarantine(op)

    async def _apply_or_quarantine(self, op: ops.Op) -> None:
        if self._base_lost and isinstance(op, ops.Proposed | ops.Arrived):
            return  # a push onto the lost base; what came of it is in the Hub's root, or quarantined
        if not isinstance(op, Change):
            with suppress(Corrupt, NotFound):  # it says something about a change that is quarantined
                await self._volume.load(partial(_replayed, self._volume, op))
            return
        # What an earlier run quarantined was not shown any more when ``op`` was made.
        if self._base_lost or builds_on(op, self.quarantined):
            self._quarantine(op)
            return
        try:
            await self._volume.load(partial(_replayed, self._volume, op))
        except (Corrupt, NotFound) as error:
            log.info("%s: a change of %r cannot be applied: %s", self._volume.key, paths_of(op)[-1], error)
            self._quarantine(op)

    def _quarantine(self, op: Change) -> None:
        self._volume.journal.quarantine.add(op, self._base)
        self.quarantined.append(op)


async def _truncated_by(volume: Volume, op: ops.SetContent) -> set[FileNode]:
    """The file that a record was of; none when that cannot be known, or something was done to it that needed the record."""
    with suppress(Corrupt, NotFound):
        node = await volume.load(partial(node_at, volume, op.path))
        if isinstance(node, FileNode):
            return {node}
    return set()


def _note_names(volume: Volume, truncated: Iterable[FileNode]) -> None:
    """A root was proposed that may have all that these files lost: what they are called in it."""
    for node in truncated:
        if not node.orphan:
            volume.push.truncate(node, node.path())


def _replayed(volume: Volume, op: ops.Op) -> None:
    """An attempt to do what a record says, without writing another one."""
    volume.pending.replaying = True
    try:
        _apply(volume, op)
    finally:
        volume.pending.replaying = False


def _apply(volume: Volume, op: ops.Op) -> None:
    if isinstance(op, ops.Proposed):
        volume.push.propose(op.root)
        return
    if isinstance(op, ops.Arrived):
        volume.push.arrive(op.root)
        return
    if isinstance(op, ops.Left):
        volume.push.roots.left[op.root] = op.time_ns
        return
    if isinstance(op, ops.Conflict):
        volume.pending.conflicts.add(op)
        return
    if isinstance(op, ops.Resolved):
        volume.pending.conflicts.resolve(op.copy)
        return
    if isinstance(op, ops.Lost):
        node = node_at(volume, op.path)
        if isinstance(node, FileNode):
            volume.push.truncate(node, op.was)
        return
    if isinstance(op, ops.Rename):
        node = node_at(volume, op.old)
        if node is volume.root:
            raise NotFound("the root of a bucket has no name")
        parent, name = place_at(volume, op.new)
        volume.pending.move(node, parent, name, volume.tree.find(parent, name), op.exchange, op.time_ns)
        return
    if isinstance(op, ops.SetAttributes):
        node = node_at(volume, op.path)
        check_sound(node)
        volume.pending.apply_attributes(node, op.mode, op.uid, op.gid, op.mtime_ns, op.time_ns)
        return
    if isinstance(op, ops.Stamp):
        node = node_at(volume, op.path)
        if isinstance(node, FileNode) and op.held_bytes is not None:
            node.content.base_held_bytes = op.held_bytes
        volume.tree.stamp(node, op.atime_ns, op.fallback_ns, op.time_ns)
        return
    if isinstance(op, ops.SetContent):
        node = node_at(volume, op.path)
        if not isinstance(node, FileNode):
            raise NotFound("content for what is no file")
        _set_content(volume, node, op)
        return
    if isinstance(op, ops.Quarantined):
        return
    parent, name = place_at(volume, op.path)
    at = volume.tree.find(parent, name)
    if isinstance(op, ops.Place):
        volume.tree.base_tree.shown(Link(op.cid, op.tsize))  # look first
    if at is not None:
        volume.pending.take_away(parent, at, op.time_ns)
    if isinstance(op, ops.Remove):
        return
    made = volume.pending.make(op)
    volume.pending.place(parent, name, made, op.time_ns)
    if not isinstance(op, ops.Place):
        made.touch()


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
    # A record with a smaller size is that of a cut, and names no extents: what was written beyond must not come back.
    layer.extents.truncate(op.size_bytes)
    for start, stop in op.extents:
        layer.extents.add(start, stop)
    layer.lower_limit_bytes = op.lower_limit_bytes
    content.size_bytes = op.size_bytes
    volume.pending.apply_attributes(node, None, None, None, op.mtime_ns, op.time_ns)


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
        node = volume.tree.child(node, name.encode())
    return node
