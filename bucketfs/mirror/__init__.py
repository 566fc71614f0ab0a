"""A local folder kept the same as a bucket, without a mount.

`Mirror` runs one round at a time: scan the folder into a tree, merge it with the bucket's, apply the result to both sides.
`MirrorRunner` decides when rounds are due. What a round is about to do is written into `MirrorState` before it is done.
"""

from bucketfs.mirror.engine import Mirror, Round
from bucketfs.mirror.rounds import MirrorPace, MirrorRunner
from bucketfs.mirror.state import MirrorState, forget_state
from bucketfs.mirror.watched_folder import WatchedFolder

__all__ = [
    "Mirror",
    "MirrorPace",
    "MirrorRunner",
    "MirrorState",
    "Round",
    "WatchedFolder",
    "forget_state",
]
