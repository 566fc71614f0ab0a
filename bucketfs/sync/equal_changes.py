"""Building what is changed here and may be at the Hub already, so that it can be compared: names, bytes and attributes. Nothing is
sent."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial

from bucketfs.cache import KeepingSource
from bucketfs.dag import RAW, codec_of
from bucketfs.errors import Corrupt
from bucketfs.remote import Block
from bucketfs.sync.tree_builder import FilesDamaged, build
from bucketfs.types import Cid
from bucketfs.vfs import BuiltNode, Node, Snapshot, Volume, built_of, equal_candidates, freeze, without_folders

log = logging.getLogger(__name__)


async def build_candidates(volume: Volume, root: Cid, cache: KeepingSource, attributes: bool) -> dict[Node, BuiltNode]:
    """What dirty files and links would be pushed as, where the tree ``root`` of the Hub has something new at their names that
    looks the same. Raises what fetching the base does, but Corrupt."""

    async def keep_nodes(blocks: Sequence[Block]) -> None:
        # What the files are made of is compared, too: equal bytes with other attributes are no conflict.
        cache.put_many((cid, block) for cid, block in blocks if codec_of(cid) != RAW)

    damaged: set[Node] = set()
    try:
        while (snapshot := await volume.load(partial(_snapshot, volume, root, damaged))) is not None:
            try:
                links = await build(snapshot, keep_nodes, attributes=attributes)
            except FilesDamaged as error:
                # They are equal to nothing. What else is here is compared without them.
                damaged |= {frozen.node for frozen in error.files}
            else:
                return without_folders(built_of(snapshot, links))
            finally:
                snapshot.release()
    except Corrupt as error:
        # A changed file or folder needs lost blocks: some equal bytes may become a conflict, and none are lost.
        log.warning("%s: what the Hub has cannot be compared with what is here: %s", volume.key, error)
    return {}


def _snapshot(volume: Volume, root: Cid, damaged: Collection[Node]) -> Snapshot | None:
    """An attempt."""
    choice = equal_candidates(volume, root)
    for node in damaged:
        if node.parent is not None:
            choice.get(node.parent, set()).discard(node.name)
    return freeze(volume, choice)
