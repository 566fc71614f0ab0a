"""The bytes of files: reads that plan before they wait, writes that go to a draft before they are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from bucketfs.dag import Leaf, leaf_data
from bucketfs.errors import BucketfsError, Corrupt, DiskFailed, NoSpace, NotFound
from bucketfs.types import Cid
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.content import BasePiece, Content, DraftPiece, Layer
from bucketfs.vfs.tree.node import FileNode, check_sound
from bucketfs.vfs.tree.pending import Pending

SIZE_MAX = (16 << 40) - 4096
"""The longest file in bytes: that of ext4, so that a draft can hold its end. Beyond it a slip of a program, as ``truncate -s 1E``,
is more likely than a file."""

LAYERS_MAX = 16
"""Layers of one file that are left alone. Each push that fails while the file is written to adds one."""

SQUASH_BYTES_MAX = 16 << 20
"""A layer with more bytes is not copied: ten milliseconds in which nothing else is served."""

SQUASH_STEP_BYTES = 1 << 20

CUT_BYTES_MIN = 1 << 20
"""A cut that takes more from a draft leaves garbage that a full disk makes worth a checkpoint."""


async def read_file(base_tree: BaseTree, node: FileNode, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes from ``offset``; fewer only at the end of the file. Awaits only for what is not in memory.

    Drafts are read before the first await, so a push or a write that comes between cannot mix two states of the file.
    """
    check_sound(node)
    content = node.content
    # Drafts may change at the next await, the base cannot: it is read by CID.
    plan = content.pieces(offset, offset + size)
    base = content.base
    parts: list[bytes | BasePiece] = []
    for piece in plan:
        if isinstance(piece, DraftPiece):
            parts.append(draft_bytes(node, piece))
        elif isinstance(piece, BasePiece):
            parts.append(piece)
        else:
            parts.append(bytes(piece.stop - piece.start))
    if len(parts) == 1 and isinstance(parts[0], bytes):
        return parts[0]
    done: list[bytes] = []
    for part in parts:
        if isinstance(part, BasePiece):
            assert base is not None, "a piece of the base without a base"
            done.append(await read_base(base_tree, base, part.start, part.stop))
        else:
            done.append(part)
    return b"".join(done)


class DraftDamaged(Corrupt):
    """Bytes that wait here for the Hub are not what was written: the disk of this machine has damaged or lost them."""


def draft_bytes(node: FileNode, piece: DraftPiece) -> bytes:
    """The bytes of ``piece``, a part of ``node``'s content. Blocks, shortly; any thread may call. Raises DraftDamaged."""
    size = piece.stop - piece.start
    try:
        data = piece.draft.read(piece.start, size)
        if len(data) == size:
            return data
        why = f"draft {piece.draft.id} has {len(data)} of these bytes"
    except (Corrupt, DiskFailed, NotFound) as error:
        why = str(error)
    name = node.name.decode() if node.orphan else node.path()
    raise DraftDamaged(
        f"bytes {piece.start} to {piece.stop} of {name!r}, not at the Hub yet, are damaged on this disk ({why})",
        hint="write the file again or delete it",
    )


async def read_base(base_tree: BaseTree, base: Cid, start: int, stop: int) -> bytes:
    """Bytes ``[start, stop)`` of an immutable file."""
    leaves = await base_tree.load(lambda: base_tree.leaves(base, start, stop))
    blocks = await blocks_of(base_tree, leaves)
    parts: list[bytes] = []
    for leaf in leaves:
        data = bytes_of(leaf, blocks)
        parts.append(data[max(start - leaf.offset, 0) : stop - leaf.offset])
    found = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(found) != stop - start:
        raise Corrupt(f"a file of the bucket holds {len(found)} bytes where its index promises {stop - start}")
    return found


async def blocks_of(base_tree: BaseTree, leaves: Sequence[Leaf]) -> dict[Cid, bytes]:
    """The blocks of leaves that are blocks of their own; from memory without awaiting when all are there."""
    blocks: dict[Cid, bytes] = {}
    lacking: list[Cid] = []
    for leaf in leaves:
        if leaf.inline is not None:
            continue
        block = base_tree.source.peek(leaf.cid)
        if block is None:
            lacking.append(leaf.cid)
        else:
            blocks[leaf.cid] = block
    # One request for all: each would be a round trip of its own.
    if lacking:
        blocks.update(await base_tree.source.get_many(lacking))
    return blocks


def bytes_of(leaf: Leaf, blocks: dict[Cid, bytes]) -> bytes:
    """The file bytes of one leaf; Corrupt when their number is not what the index says."""
    return leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, blocks[leaf.cid], leaf.size)


def bytes_beyond(content: Content, size_bytes: int) -> int:
    """How much of the topmost draft a cut to ``size_bytes`` takes away."""
    if not content.layers or size_bytes >= content.size_bytes:
        return 0
    return sum(stop - start for start, stop in content.layers[-1].extents.intersect(size_bytes, content.size_bytes))


def free_cut_drafts(pending: Pending, node: FileNode) -> None:
    """After a large cut that began a new layer: let go of the drafts below, as far as little of them still shows. What shows is
    copied up; a draft of which more shows keeps its file until it is pushed or written anew, and so it is where there is no room
    for the copy."""
    content = node.content
    for index in range(len(content.layers) - 2, -1, -1):
        shown = content.squashed(index)
        if shown:
            try:
                if not _may_go(content, index) or not _copied(node, index):
                    return
            except (NoSpace, DiskFailed):
                return
            if not node.orphan:
                pending.unrecorded.add(node)
        _drop(pending, node, index)


def squash(pending: Pending, node: FileNode) -> None:
    """Keep the layers few that writes between failing pushes leave behind. Only while no push reads them.

    Bytes are copied into the draft of the layer above, where no extent names them yet. The records that there are go on naming
    the lower draft, and what they make lies under the upper layer and shows the same, whether that was recorded anew or not.
    The next checkpoint names the upper one alone. A layer of many bytes stays as it is; there cannot be many of those. Nor does
    anything go into bytes that have their checksums. The topmost layer of a file of too many gets none until it has taken them in
    (see `sealing`).
    """
    content = node.content
    for index in range(len(content.layers) - 2, -1, -1):
        if not content.squashed(index):  # as after a file was cut to nothing and written anew
            _drop(pending, node, index)
    left: list[Layer] = []
    while len(content.layers) > LAYERS_MAX:
        found = [index for index, layer in enumerate(content.layers[:-1]) if layer not in left and _may_go(content, index)]
        if not found:
            return
        index = min(found, key=lambda at: content.layers[at].extents.size_bytes)
        try:
            if not _copied(node, index):
                left.append(content.layers[index])
                continue
        except (NoSpace, DiskFailed):
            # Nothing has changed, and nothing was promised: the layers do as well as they are.
            return
        _drop(pending, node, index)
        if not node.orphan:
            pending.unrecorded.add(node)


def _drop(pending: Pending, node: FileNode, index: int) -> None:
    """The layer above a layer has everything of it now."""
    size_bytes = 0
    with suppress(BucketfsError):  # what cannot be looked at counts for nothing
        size_bytes = node.content.layers[index].draft.size_bytes
    # The file of the draft goes behind the next checkpoint: records of the old segment name it.
    node.content.squash(index)
    pending.leave_garbage(size_bytes, 1)


def _may_go(content: Content, index: int) -> bool:
    upper = content.layers[index + 1].draft
    small = sum(stop - start for start, stop in content.squashed(index)) <= SQUASH_BYTES_MAX
    return small and not any(upper.sealed_in(start, stop) for start, stop in content.squashed(index))


def _copied(node: FileNode, index: int) -> bool:
    """Copy what shows of a layer into the draft of the next. False when something is damaged, which is not passed on."""
    content = node.content
    lower, upper = content.layers[index].draft, content.layers[index + 1].draft
    try:
        for start, stop in content.squashed(index):
            for at in range(start, stop, SQUASH_STEP_BYTES):
                data = draft_bytes(node, DraftPiece(lower, at, min(at + SQUASH_STEP_BYTES, stop)))
                if not upper.take(at, data):
                    return False
    except DraftDamaged:
        return False
    return True
