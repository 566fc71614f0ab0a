"""What a push carries: an immutable snapshot of the pending changes, cut into batches. Imports `tree`."""

from bucketfs.vfs.snapshot.batches import Choice, Limits, Slices
from bucketfs.vfs.snapshot.candidates import equal_candidates
from bucketfs.vfs.snapshot.freezing import FrozenDirectory, FrozenFile, FrozenSymlink, Picture, freeze, pushed, thaw
from bucketfs.vfs.snapshot.proposal import BuiltNode, agree, built_of, without_folders

__all__ = [
    "BuiltNode",
    "Choice",
    "FrozenDirectory",
    "FrozenFile",
    "FrozenSymlink",
    "Limits",
    "Picture",
    "Slices",
    "agree",
    "built_of",
    "equal_candidates",
    "freeze",
    "pushed",
    "thaw",
    "without_folders",
]
