"""What a push carries: an immutable snapshot of the pending changes, cut into batches. Imports `tree`."""

from bucketfs.vfs.snapshot.batches import Batches, BatchLimits
from bucketfs.vfs.snapshot.candidates import equal_candidates
from bucketfs.vfs.snapshot.proposal import BuiltNode, agree, built_of, without_folders
from bucketfs.vfs.snapshot.snapshot import FrozenDirectory, FrozenFile, FrozenSymlink, Snapshot, freeze

__all__ = [
    "BatchLimits",
    "Batches",
    "BuiltNode",
    "FrozenDirectory",
    "FrozenFile",
    "FrozenSymlink",
    "Snapshot",
    "agree",
    "built_of",
    "equal_candidates",
    "freeze",
    "without_folders",
]
