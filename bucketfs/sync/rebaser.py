"""Moving a volume onto another root of its Hub, with what is dirty here on top, and recording that in the journal."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from datetime import datetime

from bucketfs.cache import KeepingSource
from bucketfs.dag import cid_text
from bucketfs.errors import Corrupt, NotFound
from bucketfs.sync.checkpoints import Checkpoints
from bucketfs.sync.equal_changes import build_candidates
from bucketfs.types import Cid
from bucketfs.vfs import BuiltNode, Invalidation, Node, Rebased, Volume, rebase_onto

log = logging.getLogger(__name__)


def copy_label() -> tuple[str, str]:
    """Host and time, as the name of a conflict copy says them."""
    return socket.gethostname(), datetime.now().astimezone().strftime("%Y-%m-%d %H%M%S")


class Rebaser:
    """For one volume. One at a time: the caller is a single task."""

    def __init__(
        self,
        volume: Volume,
        cache: KeepingSource,
        checkpoints: Checkpoints,
        notify: Callable[[Invalidation], None],
        *,
        attributes: bool,
    ) -> None:
        self._volume = volume
        self._cache = cache
        self._checkpoints = checkpoints
        self._notify = notify
        self._attributes = attributes

    async def follow(self, root: Cid) -> None:
        """The Hub's root is ``root``: show it, under what is dirty here. Raises Unavailable, TimedOut, and Corrupt for folders of
        the Hub's."""
        await self.catch_up()
        volume = self._volume
        if root == volume.base:
            return
        if volume.push.since_ns is not None:
            await self.rebase(root, await self.candidates(root))
            return
        # What the Hub refuses stays dirty and does not ask for a push.
        await self.rebase(root, {})
        if volume.root.dirty:
            # Its path may be another one now, beside what came.
            volume.push.changed(volume.now_ns())

    async def catch_up(self) -> None:
        """A push in batches was killed: rest on the newest root of it that the Hub took, so that what was done here after that
        batch and what another client did meet at the right base. Raises Unavailable, TimedOut."""
        volume = self._volume
        still, root = volume.push.proposed, volume.push.take_arrived()
        if root is None or root == volume.base:
            return
        # It is one of ours, so what is here is the newer state of all that it changed. That it arrived has cleared the list
        # of these.
        volume.push.propose(root)
        try:
            await self.rebase(root, {}, still=still)
        except (Corrupt, NotFound) as error:
            log.info("%s: the last push is compared from its beginning: %s", volume.key, error)
        except BaseException:
            volume.push.put_back_arrived(root)
            raise

    async def candidates(self, root: Cid) -> dict[Node, BuiltNode]:
        """What of all that is dirty may be in ``root`` already, built."""
        return await build_candidates(self._volume, root, self._cache, self._attributes)

    async def rebase(self, root: Cid, built: Mapping[Node, BuiltNode], *, still: frozenset[Cid] = frozenset()) -> list[str]:
        """Let the overlay rest on ``root``; the paths of the conflict copies that were made. ``built`` says what dirty nodes would
        be pushed as. ``still`` are roots proposed from here that the Hub may turn out to have after ``root``."""
        volume = self._volume
        host, when = copy_label()
        async with self._checkpoints.moving:
            mine, old = root in volume.push.proposed, volume.base
            done = await rebase_onto(volume, root, built, host=host, when=when, mine=mine)
            # At once: the overlay rests on the new root by now, whether the checkpoint below finds room or not.
            self._report(root, done)
            volume.base_moved(old)
            volume.agree(still)
            # Until the journal begins anew on this base, no record would mean what it says.
            volume.owe_checkpoint()
            await self._checkpoints.write()
        return [conflict.copy for conflict in done.conflicts]

    def _report(self, root: Cid, done: Rebased) -> None:
        for invalidation in done.invalidations:
            self._notify(invalidation)
        for conflict in done.conflicts:
            side = "ours" if conflict.ours else "the Hub's"
            log.info("both sides changed %r: %s is kept as %r", conflict.original, side, conflict.copy)
        if done.lost_count and self._volume.root.dirty:
            log.warning(
                "%s: %d folders that changes here were made on are lost: what was made or written here stands, beside what others "
                "made of it; what was removed here may be back",
                self._volume.key,
                done.lost_count,
            )
        log.debug("rebased onto %s", cid_text(root))
