"""The watched folder: nothing in it is replaced or removed unless it is what the scan saw.

Right before anything here is replaced or removed its status is compared with the one in the state; if it is another, the
user changed it since, and it is left: the next round takes that in as the local change it is. (Between the comparison and
the rename a few microseconds remain that no system call closes.)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bucketfs.errors import Denied, NotFound, Refused
from bucketfs.mirror.state import MirrorState
from bucketfs.transfer import PLAIN, BucketFile, LocalEntry, LocalFs, Names, Preserve, Temporaries

CHANGED = "it was changed here meanwhile"
HELD = "what stands here cannot be carried"
ANEW = "if that is right, --anew begins anew: both sides are put together and nothing is removed"


@dataclass(eq=False, slots=True)
class WatchedFolder:
    """The folder ``top``, and the ``state`` that says what was seen in it. ``temporaries`` names what is written aside,
    ``preserve`` says which attributes of the bucket files get here. Blocks; for threads."""

    top: bytes
    state: MirrorState
    temporaries: Temporaries = field(default_factory=Temporaries)
    preserve: Preserve = PLAIN
    fs: LocalFs = field(default_factory=LocalFs)
    now_ns: Callable[[], int] = time.time_ns

    def where(self, path: Names) -> bytes:
        """Where a path is on this machine."""
        return os.path.join(self.top, *path)

    def look(self, path: Names) -> LocalEntry | None:
        """What stands at a path."""
        return self.fs.look(self.where(path), path[-1] if path else b"")

    def is_inside(self, path: Names) -> bool:
        """Whether a path leads through no symlink."""
        return self.fs.is_below(self.top, path)

    def check(self) -> None:
        """Raises NotFound or Refused when this is not the folder that was mirrored.

        That one is known by device, inode and file system; after a reboot, when devices have other numbers, by its inode
        and some file in it that is as it was. The top of a disk has the inode of any other's, so it must not show nothing
        of what was there: it may be an empty disk in the same slot."""
        here = self.look(())
        if here is None or not here.is_directory:
            raise NotFound(
                f"{os.fsdecode(self.top)} is gone; the bucket stays as it is", hint="bring the folder back (mount its disk)"
            )
        stored = self.state.fact("top")
        now = [here.device, here.inode, self.fs.file_system(self.top)]
        if stored is not None and json.loads(stored) == now:
            if self.fs.is_mount_point(self.top) and not self._shows_some_name():
                raise Refused(
                    f"{os.fsdecode(self.top)} is a mount point, and all that was in it is gone (is it another disk?);"
                    " nothing was changed",
                    hint=ANEW,
                )
            return
        if stored is not None and not (json.loads(stored)[1] == here.inode and self._shows_something_seen()):
            raise Refused(
                f"{os.fsdecode(self.top)} is another folder than the one that was mirrored (is a disk not mounted?);"
                " nothing was changed",
                hint=ANEW,
            )
        self.state.note_fact("top", json.dumps(now))

    def _shows_some_name(self) -> bool:
        """Whether something stands under a name that was seen; also when none was."""
        seen = self.state.some_seen()
        return not seen or any(self.look((name,)) is not None for name in seen)

    def _shows_something_seen(self) -> bool:
        return any(seen.is_still(self.look((name,))) for name, seen in self.state.some_seen().items())

    def is_as_seen(self, path: Names) -> bool:
        """Whether a file or symlink may replace what stands at a path: nothing, or a file or symlink that is as the scan
        saw it."""
        here, seen = self.look(path), self.state.seen_at(path)
        if not self.is_inside(path):
            return False
        if seen is None:
            return here is None
        return not seen.entry.is_directory and seen.vouches_for(here)

    def check_folder(self, path: Names) -> LocalEntry | None:
        """What stands where we want to have a folder. Raises Denied when that is not what the scan saw."""
        here, seen = self.look(path), self.state.seen_at(path)
        if not self.is_inside(path):
            raise Denied(CHANGED)
        if here is None or here.is_directory:
            # Gone; or another folder: a mount point whose disk was there and is not now is one, too.
            if seen is not None and seen.entry.is_directory and (here is None or here.inode != seen.entry.inode):
                raise Denied(CHANGED)
        elif seen is None or not seen.vouches_for(here):
            raise Denied(CHANGED)
        return here

    def copy_of(self, file: BucketFile) -> bytes | None:
        """Where the same content stands here under another name."""
        for path, seen in self.state.places_of(file.link.cid):
            if path != file.path and seen.vouches_for(self.look(path)):
                return self.where(path)
        return None
