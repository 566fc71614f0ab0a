"""A local folder kept the same as a bucket, without a mount.

`Mirror` (engine) runs one round at a time: scan the folder into a tree, send what the Hub lacks, merge it with the bucket's,
swap the root, apply the result to the folder. `MirrorRunner` (rounds) decides when rounds are due. Files so large that small
changes must not wait for them go in the background of the rounds.

A kill or a power cut at any instant costs work, never a file. Four rules see to that:

1. The state is written before the act: a swap is noted before it is tried (`Attempt`), the tree the folder is on the way to
   before the first file is written (`Position.applying`), a step at a single path before the step (`unfinished`). Each
   transaction of the state is on the disk when it returns.
2. A file is written aside, synced, and renamed; names and removals are synced before the state says that the folder has the new
   tree. New things come before removals.
3. Nothing is replaced or removed but what the scan saw (`WatchedFolder`); what changed since is left for the next round.
4. What was seen is committed only when everything that it stands for has arrived at the Hub: otherwise a file that was never
   sent would count as sent.
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
