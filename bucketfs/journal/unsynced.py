"""What of the drafts may not be durable yet: bytes, names and folders, and bytes that a failed fsync may have lost. No I/O of
its own.

A sync is decided on the trio thread (`decide`), performed on another, and recorded here (`note`). Writes may come at any
moment, so each draft counts them: one that was written while its sync ran stays to be synced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from bucketfs.errors import DiskFailed
from bucketfs.types import DraftId


@dataclass(frozen=True, slots=True)
class SyncWork:
    """What a sync has to do for drafts.

    ``drafts`` holds pairs of draft and how often it had been written when this was decided; ``folders`` hold names that are
    not durable yet, of ``new_names``.
    """

    drafts: tuple[tuple[DraftId, int], ...]
    new_names: tuple[DraftId, ...]
    folders: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.drafts or self.folders)


class Unsynced:
    """For the drafts in ``folder``; ``path`` is where one's file is."""

    def __init__(self, folder: str, path: Callable[[DraftId], str]) -> None:
        self.shard_is_new = True
        """Whether the name of a folder of drafts may not be durable; true at first, since an earlier run may have made it."""
        self.folder_is_new = False
        self._folder = folder
        self._path = path
        self._lock = threading.Lock()
        self._writes: dict[DraftId, int] = {}  # drafts written since they were last synced, and how often
        self._failed: set[DraftId] = set()
        self._new_names: set[DraftId] = set()

    def made(self, draft: DraftId) -> None:
        """``draft`` has a new file."""
        self._new_names.add(draft)

    def found(self, draft: DraftId) -> None:
        """An earlier run left ``draft``. A kill may have hit before its sync."""
        self._writes[draft] = 1
        self._new_names.add(draft)

    def wrote(self, draft: DraftId) -> None:
        """Bytes were written, by any thread. Called after the write: were it counted before, a sync on another thread could run
        between the two, miss the bytes, and yet take them for synced."""
        with self._lock:
            self._writes[draft] = self._writes.get(draft, 0) + 1

    def fail(self, draft: DraftId) -> None:
        """An fsync failed; called by the thread that it failed on. The kernel tells an error once, and another sync of this draft
        that is under way would be told that all is well."""
        self._failed.add(draft)

    def has_failed(self, draft: DraftId) -> bool:
        """Whether bytes of ``draft`` may be lost."""
        return draft in self._failed

    def forget(self, draft: DraftId) -> None:
        """Nothing needs the draft any more."""
        self._failed.discard(draft)
        self._new_names.discard(draft)
        with self._lock:
            self._writes.pop(draft, None)

    def decide(self, wanted: Collection[DraftId]) -> SyncWork:
        """What must be done before every byte of the ``wanted`` drafts is durable. DiskFailed when that cannot be."""
        bad = self._failed.intersection(wanted)
        if bad:
            raise DiskFailed(f"bytes of draft {min(bad)} may not have reached the disk")
        written = tuple((draft, self._writes[draft]) for draft in _both(wanted, self._writes))
        names = tuple(_both(wanted, self._new_names))
        folders = {os.path.dirname(self._path(draft)) for draft in names}
        if names and self.shard_is_new:
            folders.add(self._folder)
        if names and self.folder_is_new:
            folders.add(os.path.dirname(self._folder))
        # Reverse order: a folder comes before the one that holds its name.
        return SyncWork(written, names, tuple(sorted(folders, reverse=True)))

    def note(self, work: SyncWork, failed: Collection[DraftId]) -> None:
        """``work`` was done, but for the drafts that ``failed``."""
        for draft, count in work.drafts:
            if draft in failed:
                self._failed.add(draft)
            elif draft in self._failed:
                raise DiskFailed(f"bytes of draft {draft} may not have reached the disk")
            # A draft that was written again since `decide` stays: this sync may have missed those bytes.
            elif self._writes.get(draft) == count:
                del self._writes[draft]
        self._new_names.difference_update(work.new_names)
        if self._folder in work.folders:
            self.shard_is_new = False
        if os.path.dirname(self._folder) in work.folders:
            self.folder_is_new = False


def _both(wanted: Collection[DraftId], noted: Collection[DraftId]) -> Iterator[DraftId]:
    """What is in both, at the cost of the smaller."""
    if len(wanted) < len(noted):
        return (draft for draft in wanted if draft in noted)
    return (draft for draft in noted if draft in wanted)
