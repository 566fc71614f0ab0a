"""Writing pending changes down as ops, and building them up again from the journal. Imports `tree`."""

from bucketfs.vfs.recovery.checkpoint import draft_ids, entry_ops, overlay_ops
from bucketfs.vfs.recovery.replay import recover

__all__ = [
    "draft_ids",
    "entry_ops",
    "overlay_ops",
    "recover",
]
