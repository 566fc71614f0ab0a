"""What a segment may become, and what its bytes say after a crash. Pure.

The life of a segment: its head (the checkpoint) is being WRITTEN; then it is LIVE and takes appends; then a newer one
takes over and it is OLD; then it is GONE. A segment whose disk failed is FAILED: it takes no appends and no sync counts
on it, and only a newer one helps. Exactly one segment is LIVE or FAILED at any time; OLD ones wait until the newer one is
durable.

After a crash a segment *counts* when its head is complete, and the newest that counts is the journal. Its good prefix is
every frame up to the first that is not whole; what follows was not acknowledged by a sync, or the disk lied, and is set
aside.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bucketfs.errors import Corrupt
from bucketfs.journal.checksums import Sums
from bucketfs.journal.ops import Op, Seal, SetContent
from bucketfs.journal.record import FRAME_HEADER_SIZE, HEAD_END, Header, decode_header, decode_op, frame_at
from bucketfs.types import DraftId


class SegmentState(enum.Enum):
    """Where a segment stands."""

    WRITTEN = "its head is being written"
    LIVE = "takes appends"
    FAILED = "its disk failed"
    OLD = "a newer one took over"
    GONE = "deleted"


class SegmentEvent(enum.Enum):
    """What happens to a segment."""

    HEAD_COMPLETE = "the end of its head is written"
    APPENDED = "one record more"
    DISK_FAILED = "a torn append could not be cut back, or an fsync failed"
    SUPERSEDED = "a newer segment is live"
    DELETED = "unlinked"


_NEXT: dict[tuple[SegmentState, SegmentEvent], SegmentState] = {
    (SegmentState.WRITTEN, SegmentEvent.HEAD_COMPLETE): SegmentState.LIVE,
    (SegmentState.WRITTEN, SegmentEvent.DELETED): SegmentState.GONE,
    (SegmentState.LIVE, SegmentEvent.APPENDED): SegmentState.LIVE,
    (SegmentState.LIVE, SegmentEvent.DISK_FAILED): SegmentState.FAILED,
    (SegmentState.LIVE, SegmentEvent.SUPERSEDED): SegmentState.OLD,
    (SegmentState.FAILED, SegmentEvent.DISK_FAILED): SegmentState.FAILED,
    (SegmentState.FAILED, SegmentEvent.SUPERSEDED): SegmentState.OLD,
    # A sync that began while the segment was live may fail after a newer one took over; nothing depends on it any more.
    (SegmentState.OLD, SegmentEvent.DISK_FAILED): SegmentState.OLD,
    (SegmentState.OLD, SegmentEvent.DELETED): SegmentState.GONE,
    (SegmentState.GONE, SegmentEvent.DISK_FAILED): SegmentState.GONE,
}


def next_state(state: SegmentState, event: SegmentEvent) -> SegmentState:
    """Where ``event`` leads. Raises RuntimeError for what only a bug could bring about."""
    found = _NEXT.get((state, event))
    if found is None:
        raise RuntimeError(f"{event.name} happens to a segment that is {state.name}")
    return found


@dataclass(slots=True)
class ScannedSegment:
    """What the bytes of one segment file hold. ``good_size`` counts bytes from the start; ``records`` counts frames. ``seals`` are
    the checksums that it holds of drafts."""

    header: Header | None = None
    ops: list[Op] = field(default_factory=list)
    seals: dict[DraftId, Sums] = field(default_factory=dict)
    head_complete: bool = False
    records: int = 0
    good_size: int = 0

    @property
    def named(self) -> set[DraftId]:
        """The drafts that the ops name."""
        return {op.draft for op in self.ops if isinstance(op, SetContent)}


def scan(data: bytes) -> ScannedSegment:
    """Reads a segment up to the first frame that is not whole. Unsupported when a newer bucketfs wrote part of it."""
    found = ScannedSegment()
    try:
        found.header, found.good_size = decode_header(data)
    except Corrupt:
        return found
    while (frame := frame_at(data, found.good_size, found.records)) is not None:
        kind, version, payload = frame
        if kind == HEAD_END:
            found.head_complete = True
        else:
            try:
                op = decode_op(kind, version, payload)
            except Corrupt:
                # The checksum says that we wrote it, and it makes no sense. Later frames may build on it: it ends the prefix.
                return found
            if isinstance(op, Seal):
                found.seals.setdefault(op.draft, Sums()).seal(op)
            else:
                found.ops.append(op)
        found.records += 1
        found.good_size += FRAME_HEADER_SIZE + len(payload)
    return found


def split_by_backing(
    ops: Sequence[Op], draft_sizes: Mapping[DraftId, int], seals: Mapping[DraftId, Sums]
) -> tuple[list[Op], list[SetContent]]:
    """The ops whose drafts hold the bytes they claim, and the content records whose drafts do not.

    A record is written after the bytes it names, but until a sync the disk is free to keep the record and forget the
    bytes, so after a power loss a draft may be absent or short. Such a record was never acknowledged by a sync. It is
    left out, and so is every later one of the same draft, because a record adds to what earlier ones said of its draft.

    Sealed bytes were durable: no power loss takes them. A record whose bytes were all within the sealed length of its draft counts,
    and when the draft is shorter now, or gone, it is damaged: who reads it will be told so, and not shown an older state.
    """
    backed: list[Op] = []
    unbacked: list[SetContent] = []
    lost: set[DraftId] = set()
    for op in ops:
        if isinstance(op, SetContent):
            claimed = max((stop for _, stop in op.extents), default=0)
            backed_size = draft_sizes.get(op.draft, 0)
            if claimed > backed_size and op.draft in seals:
                backed_size = max(backed_size, seals[op.draft].sealed_size)
            if op.draft in lost or claimed > backed_size:
                lost.add(op.draft)
                unbacked.append(op)
                continue
        backed.append(op)
    return backed, unbacked
