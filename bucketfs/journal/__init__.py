"""The journal: dirty things, kept so that they survive a crash.

One journal per bucket, in one folder::

    segment-00000003                        header line, the head (a checkpoint: base, ops, quarantine), then one frame per op
    drafts/3f/000000000000023f              the bytes of files being written
    base/00000007                           blocks of the base that pending changes need
    set-aside/…                             what a recovery could not use, kept for a person to look at

A bucket in which nothing was changed has an empty folder. The journals of one mount share a few MiB that are taken in advance, so
that deleting still works on a full disk, and the open files of drafts (`Resources`); the lock of the mount keeps other processes
out of all of them. A journal at rest holds no descriptor.

Everything the user did since the base is in the newest segment and the drafts it names: replaying its ops in order on its
base gives the overlay back. Why not a database: every durable action goes through one file, ``disk.py``, so a test can
stop at the n-th disk call and forget unsynced writes, which a library's own I/O would hide; and a record costs one
write(2), no thread, no transaction.

Every record has a checksum. The bytes of a draft get theirs, block by block, as *seals*: records that are written when the file
was not written to for a while. Every read of a block whose sum is known is held against it (see ``checksums``, ``checked_io``).

Invariants. The crash tests hold them for a stop at every disk call.

1. A record is in the segment file (one write(2)) before ``append`` returns, and the bytes it names were in their draft
   before that: a kill loses nothing that was acknowledged.
2. After ``sync`` returned, every record appended before it was called, and every byte of the drafts they name, survives a
   power loss. Drafts are synced before the records that name them.
3. Recovery gives back a prefix of what was recorded, at least up to the last ``sync`` that returned and, after a mere
   kill, all of it; never a record that was not appended. Content records whose bytes a power loss took are left out and
   reported.
4. Exactly one segment takes appends. A segment counts from the moment its head is complete; among those that count the
   newest is the journal.
5. An older segment, and a draft that only it names, is deleted only after the newer one is durable with all drafts it names.
6. A failed append leaves no trace: its torn frame is cut off before the error is raised. If the cut fails, or an fsync
   fails, nothing is acknowledged until a checkpoint has begun a new segment, for a second fsync would lie.
7. Draft ids never come back, across restarts too.
8. Recovery and ``compact`` never delete what they do not understand: such bytes go to ``set-aside``, and drafts that
   no record names stay until ``sweep``.
9. A journal of a newer bucketfs is refused and left as it is.
10. A kept block of the base is handed out right or not at all, and is here until ``retain`` was told that it is not needed.
11. Sealed bytes are durable and never change again: a seal is appended behind the fsync of the bytes that it sums, and a
    write of other bytes there begins another draft. So every seal that is found is right, and bytes without their sum are damage.
12. Quarantined changes are in the head of every segment, and their drafts stay, until the user has exported them.
"""

from bucketfs.journal import ops
from bucketfs.journal.base_pins import PinnedBlocks
from bucketfs.journal.descriptors import Resources
from bucketfs.journal.drafts import Draft, Drafts
from bucketfs.journal.extents import Extents, Interval
from bucketfs.journal.journal import Journal, JournalFigures
from bucketfs.journal.ops import Arrived, Conflict, Left, Op, Proposed, Resolved
from bucketfs.journal.quarantine import Change, Quarantine, builds_on, paths_of
from bucketfs.journal.recovery import Glance, Recovery, glance, inodes_named

__all__ = [
    "Arrived",
    "Change",
    "Conflict",
    "Draft",
    "Drafts",
    "Extents",
    "Glance",
    "Interval",
    "Journal",
    "JournalFigures",
    "Left",
    "Op",
    "PinnedBlocks",
    "Proposed",
    "Quarantine",
    "Recovery",
    "Resolved",
    "Resources",
    "builds_on",
    "glance",
    "inodes_named",
    "ops",
    "paths_of",
]
