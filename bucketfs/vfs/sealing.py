"""Sealing drafts: which get checksums in the journal, and when.

A file that is no longer open for writing waits in a queue. After half a minute the kernel has written its bytes to the disk by
itself, so the fsync that goes before a seal costs next to nothing; with a Hub at hand the file was pushed before that, and needs no
seal. Programs wait for none of this. Bytes that were not written front to back are read back, some at a time; so are those that an
earlier run left unsealed.
"""

from __future__ import annotations

from bucketfs.errors import BucketfsError
from bucketfs.journal import Interval
from bucketfs.types import DraftId
from bucketfs.vfs.tree import LAYERS_MAX, FileNode, Volume

FILES_MAX = 128
"""How many files are sealed in one go."""

LOOKED_AT_MAX = 4096
"""How many files of the queue are looked at before others have a turn: about a millisecond."""


def queue_for_seal(volume: Volume, node: FileNode) -> None:
    """Seal ``node`` later, if it holds drafts and is not open for writing."""
    content = node.content
    if content.layers and not content.queued and not node.writers:
        content.queued = True
        volume.pending.unsealed.append(node)


def queue_recovered(volume: Volume) -> None:
    """Seal the files that came out of the journal: a kill closed them."""
    for node in volume.tree.dirty_nodes():
        if isinstance(node, FileNode):
            queue_for_seal(volume, node)


async def seal(volume: Volume, quiet_s: float) -> None:
    """Seal the queued files that were not changed for ``quiet_s`` seconds. Of the bytes that have to be read back for that,
    only some are read each time. Raises NoSpace, DiskFailed; what was not sealed stays in the queue."""
    left = len(volume.pending.unsealed)
    # As many as there are now: files that are queued meanwhile come with the next run, or this one would never end.
    while left:
        batch, looked_at = _quiet(volume, min(left, LOOKED_AT_MAX), int(quiet_s * 1e9))
        left -= looked_at
        extents = {draft: held for node in batch for draft, held in _extents(node).items()}
        more: set[DraftId] = set()
        try:
            # A file may be written to meanwhile: the journal leaves a draft that was written since it looked.
            more = await volume.journal.seal(extents)
        except BucketfsError:
            more = set(extents)
            raise
        finally:
            for node in batch:
                node.content.queued = False
                if not more.isdisjoint(_extents(node)):
                    queue_for_seal(volume, node)
        if more:
            return


def _quiet(volume: Volume, looks: int, quiet_ns: int) -> tuple[list[FileNode], int]:
    """The next quiet files from the queue, and how many were looked at. Those that are not quiet yet go to its end; those that are
    open again or gone leave it."""
    now_ns = volume.now_ns()
    found: list[FileNode] = []
    for looked_at in range(looks):
        if len(found) == FILES_MAX:
            return found, looked_at
        node = volume.pending.unsealed.popleft()
        if not node.content.layers or node.writers or node.orphan:
            node.content.queued = False
        # A time in the future, as after the clock was set back, counts as quiet: to wait for it may take years.
        elif node in volume.pending.unrecorded or 0 <= now_ns - node.ctime_ns < quiet_ns:
            volume.pending.unsealed.append(node)
        else:
            found.append(node)
    return found, looks


def _extents(node: FileNode) -> dict[DraftId, tuple[Interval, ...]]:
    layers = node.content.layers
    if len(layers) > LAYERS_MAX:
        layers = layers[:-1]  # it will take in others (see `file_io.squash`)
    return {layer.draft.id: layer.extents.items() for layer in layers}
