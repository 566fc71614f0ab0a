"""Freeing the drafts of removed files when their disk is short of room.

They are garbage once nothing names them, and go with the next checkpoint, which the next push brings. On a disk that is nearly
full that would be too late, so a checkpoint is made for them alone; never for a few bytes on a disk with room, for a checkpoint
writes down all that is dirty.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from bucketfs.errors import BucketfsError
from bucketfs.sync.checkpoints import Checkpoints
from bucketfs.vfs import FileNode, Volume

log = logging.getLogger(__name__)

GARBAGE_SHARE = 4
"""Garbage may take one part in so many of the room that is left on its disk; past that it is freed at once. So a full disk
gives back what is removed, and what that costs falls as there is room again."""

FORGET_S = 1.0
"""How long a write that finds no room waits for the kernel to let go of files that were removed."""

ROOM_LOOK_S = 5.0
"""How often the room is looked at while there is garbage: other programs write to the disk, too."""


class DraftCollector:
    """For one volume. ``freed`` is called when there is room again."""

    def __init__(self, volume: Volume, checkpoints: Checkpoints, freed: Callable[[], None]) -> None:
        self._volume = volume
        self._checkpoints = checkpoints
        self._freed = freed
        self._garbage = trio.Event()
        self._freeing = trio.Lock()
        volume.listen(garbage=self._note_garbage)
        if volume.pending.garbage_bytes:
            self._note_garbage()

    def _note_garbage(self) -> None:
        self._garbage.set()

    async def run(self) -> None:
        """Free garbage as soon as its disk is short of room, until cancelled."""
        volume, reported = self._volume, ""
        while True:
            await self._garbage.wait()
            # A new event before the look: garbage that is noted while `free` awaits must wake the next wait.
            self._garbage = trio.Event()
            while volume.pending.garbage_bytes:
                try:
                    if volume.pending.garbage_bytes * GARBAGE_SHARE > volume.journal.free_bytes():
                        await self.free()
                    reported = ""
                except BucketfsError as error:
                    if reported != str(error):
                        reported = str(error)
                        log.warning("%s: what removed files held cannot be freed now: %s", volume.key, error)
                with trio.move_on_after(ROOM_LOOK_S):
                    await self._garbage.wait()
                self._garbage = trio.Event()

    async def free(self) -> bool:
        """Free the garbage; whether there was any. Any task may call it. Raises NoSpace, DiskFailed."""
        if not self._volume.pending.garbage_bytes and not self._freeing.locked() and not await self._kernel_lets_go():
            return False
        async with self._freeing:
            # Asked again under the lock: of several writes that found no room at once, one frees and the others go on.
            if self._volume.pending.garbage_bytes:
                await self._checkpoints.free_drafts()
                self._freed()
        return True

    async def _kernel_lets_go(self) -> bool:
        """Whether the kernel lets go of a removed file within a moment. Its FORGET comes behind the removal, and a program that
        removes a file may write the next one before we have read it."""
        volume = self._volume
        removed = (node for node in volume.tree.registry.values() if isinstance(node, FileNode) and node.tree is volume.tree)
        if any(node.orphan and not node.opens and node.content.layers for node in removed):
            with trio.move_on_after(FORGET_S):
                await self._garbage.wait()
        return volume.pending.garbage_bytes > 0 or self._freeing.locked()
