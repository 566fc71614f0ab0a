"""One segment file of a journal: written with its head, appended to, cut back, closed while it rests."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import BucketfsError, DiskFailed, NotFound
from bucketfs.journal.descriptors import Descriptors
from bucketfs.journal.ops import Record, SetContent
from bucketfs.journal.record import HEAD_END, Header, encode_frame, encode_header, encode_op
from bucketfs.journal.recovery import segment_path
from bucketfs.journal.state import SegmentEvent, SegmentState, next_state
from bucketfs.types import DraftId

WRITE_SIZE = 1024 * 1024


@dataclass(eq=False, slots=True)
class Segment:
    """``file`` is open while some of the segment may not be durable, and closed while the journal rests. ``records`` counts frames,
    ``size`` and ``size_synced`` bytes; ``named`` are the drafts that its records name."""

    number: int
    file: DiskFile | None
    state: SegmentState = SegmentState.WRITTEN
    records: int = 0
    size: int = 0
    size_synced: int = 0
    named: set[DraftId] = field(default_factory=set)

    def happens(self, event: SegmentEvent) -> None:
        """See the table in `state`."""
        self.state = next_state(self.state, event)

    @property
    def at_rest(self) -> bool:
        """Whether it takes appends, and all of it is durable."""
        return self.state is SegmentState.LIVE and self.size == self.size_synced

    def count(self, record: Record) -> None:
        """``record`` is written."""
        self.records += 1
        if isinstance(record, SetContent):
            self.named.add(record.draft)


class SegmentFiles:
    """The segment files of the journal in ``folder``. Nothing awaits."""

    def __init__(self, disk: Disk, folder: str, descriptors: Descriptors) -> None:
        self._disk = disk
        self._folder = folder
        self._descriptors = descriptors

    def write(self, header: Header, records: Iterable[Record]) -> Segment:
        """A new segment whose head says ``records``, live. Raises NoSpace, DiskFailed, and then there is none."""
        path = segment_path(self._folder, header.segment)
        file = self._descriptors.opened(partial(self._disk.open_append, path, exclusive=True))
        segment = Segment(header.segment, file)
        buffer = bytearray(encode_header(header))
        try:
            # In pieces, since a head may say a million records. A crash in between leaves a head without its end frame, which
            # counts for nothing: the older segment stands until this one is whole.
            for record in records:
                buffer += encode_op(segment.records, record)
                segment.count(record)
                if len(buffer) >= WRITE_SIZE:
                    self._disk.write(file, bytes(buffer))
                    segment.size += len(buffer)
                    buffer.clear()
            buffer += encode_frame(segment.records, HEAD_END, b"")
            segment.records += 1
            self._disk.write(file, bytes(buffer))
            segment.size += len(buffer)
        except BaseException:
            segment.happens(SegmentEvent.DELETED)
            self.close(segment)
            with suppress(BucketfsError):  # an unfinished head does not count, whether its file stays or not
                self._disk.unlink(path)
            raise
        segment.happens(SegmentEvent.HEAD_COMPLETE)
        return segment

    def append(self, segment: Segment, record: Record) -> None:
        """Add ``record`` with one write(2). Raises NoSpace, DiskFailed, with nothing added."""
        if segment.state is SegmentState.FAILED:
            raise DiskFailed(f"the journal in {self._folder} failed", hint="it needs a checkpoint to go on")
        frame = encode_op(segment.records, record)
        file = self.file(segment)
        try:
            self._disk.write(file, frame)
        except BucketfsError:
            self._cut_back(segment)
            raise
        # Behind the write: of one that failed, `_cut_back` takes off all that is beyond the counted size.
        segment.happens(SegmentEvent.APPENDED)
        segment.count(record)
        segment.size += len(frame)

    def _cut_back(self, segment: Segment) -> None:
        """Remove what a failed append may have left. If that fails too, the next frame would follow garbage: give up."""
        try:
            self._disk.truncate(self.file(segment), segment.size)
        except BucketfsError:
            segment.happens(SegmentEvent.DISK_FAILED)

    def file(self, segment: Segment) -> DiskFile:
        """The file of a segment, opened when it rested. Raises DiskFailed."""
        if segment.file is None:
            try:
                # Never created here: a missing file means that the folder was removed under the mount, and a new file would take
                # records that stand behind no head.
                path = segment_path(self._folder, segment.number)
                segment.file = self._descriptors.opened(partial(self._disk.open_append, path))
            except NotFound as error:
                raise DiskFailed(f"the journal in {self._folder} was removed", hint="mount again") from error
        return segment.file

    def close(self, segment: Segment) -> None:
        """Give its descriptor back."""
        if segment.file is not None:
            file, segment.file = segment.file, None
            self._disk.close(file)
