"""Giving drafts their checksums: durable bytes first, then the seal in the journal, as invariant 11 has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from bucketfs.disk import Workers
from bucketfs.errors import BucketfsError, TooManyOpen
from bucketfs.journal.checksums import Survey
from bucketfs.journal.drafts import Drafts
from bucketfs.journal.extents import Interval
from bucketfs.journal.ops import Record
from bucketfs.journal.segment import Segment
from bucketfs.journal.state import SegmentEvent
from bucketfs.journal.unsynced import SyncWork
from bucketfs.types import DraftId

READ_BACK_BYTES = 64 * 1024 * 1024


class Sealer:
    """For one journal. ``newest`` gives its newest segment, ``append`` adds a record to that. ``busy`` is held while it works."""

    def __init__(self, drafts: Drafts, newest: Callable[[], Segment | None], append: Callable[[Record], None]) -> None:
        self.busy = trio.Lock()
        self._drafts = drafts
        self._newest = newest
        self._append = append
        self._workers = Workers(1)  # of its own: no fsync of a program waits for it

    async def seal(self, extents: Mapping[DraftId, Sequence[Interval]], read_back_bytes: int) -> set[DraftId]:
        """As `Journal.seal`."""
        async with self.busy:
            drafts = self._drafts.sealable(extents)
            work = self._drafts.unsynced.decide(drafts)
            wanted = {draft: extents[draft] for draft in drafts}
            found, failed, error = await self._workers.run(self._perform, work, wanted, read_back_bytes)
            # Asked for after the wait: a checkpoint may have begun another segment meanwhile, and a seal belongs where its
            # draft is named.
            newest = self._newest()
            if error is not None:
                if newest is not None and not isinstance(error, TooManyOpen):
                    newest.happens(SegmentEvent.DISK_FAILED)
                raise error
            self._drafts.unsynced.note(work, failed)
            for draft, surveyed in found.items():
                # A push may have carried it to the Hub meanwhile, so that nothing names it any more.
                if newest is not None and draft in newest.named:
                    for record in self._drafts.seals_of(draft, surveyed):
                        self._append(record)
                        self._drafts.seal(record)
            return {draft for draft, surveyed in found.items() if surveyed.more}

    def _perform(
        self, work: SyncWork, extents: Mapping[DraftId, Sequence[Interval]], read_max: int
    ) -> tuple[dict[DraftId, Survey], dict[DraftId, BucketfsError], BucketfsError | None]:
        # The survey first: what is written while the fsync runs changes the draft's count, and then it is not sealed.
        found = self._drafts.survey(extents, read_max)
        try:
            failed = self._drafts.perform_sync(work)
        except BucketfsError as error:
            return {}, {}, error
        return found, failed, None
