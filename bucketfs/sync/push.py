"""One push: picture → blocks → root swap → the overlay rests on the new root.

If another root turned up at the Hub, the overlay is rebased onto it first and the push tried again; what was built tells the
rebase which changes are equal on both sides.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bucketfs.cache import BlockCache
from bucketfs.dag import cid_text
from bucketfs.errors import BlocksMissing, BucketfsError, RootMoved
from bucketfs.sync.build import Block, Emit, build
from bucketfs.sync.remote import Remote
from bucketfs.sync.send import Sent, send_all
from bucketfs.types import Cid, Link, UploadId
from bucketfs.vfs import (
    BuiltNode,
    Invalidation,
    Node,
    Picture,
    Volume,
    draft_ids,
    freeze,
    overlay_ops,
    pushed,
    rebase_onto,
    record,
    thaw,
)

log = logging.getLogger(__name__)

MOVES_MAX = 20
"""A root that moves this often under one push belongs to a Hub that answers nonsense; the push is tried again later."""


@dataclass(slots=True)
class Pushed:
    """What a push did."""

    root: Cid
    sent: Sent
    conflicts: list[str] = field(default_factory=list)


class Pusher:
    """Pushes and rebases of one volume. One at a time: the caller is a single task."""

    def __init__(
        self,
        volume: Volume,
        remote: Remote,
        cache: BlockCache,
        notify: Callable[[Invalidation], None],
        *,
        attributes: bool = True,
    ) -> None:
        self._volume = volume
        self._remote = remote
        self._cache = cache
        self._notify = notify
        self._attributes = attributes
        self._upload = UploadId(secrets.token_bytes(16))
        self.now = Sent()
        self.total = Sent()

    async def push(self) -> Pushed | None:
        """Push everything that is dirty now; None when nothing is. Raises what stands in the way, with all still dirty."""
        conflicts: list[str] = []
        for _ in range(MOVES_MAX):
            picture = freeze(self._volume)
            if picture is None:
                return None
            self.now = Sent()
            try:
                links = await self._send(picture)
                root = links[self._volume.root].cid
                moved = await self._swap(picture.base, root)
            except BaseException:
                thaw(picture)
                raise
            finally:
                self.total.add(self.now)
            if moved is None:
                pushed(picture, links)
                await self.checkpoint()
                self._upload = UploadId(secrets.token_bytes(16))
                return Pushed(root, self.now, conflicts)
            thaw(picture)
            built: dict[Node, BuiltNode] = {f.node: BuiltNode(f.version, links[f.node]) for f in picture.nodes}
            conflicts += await self._rebase(moved, built)
        raise RootMoved("the bucket's root keeps moving", hint="it is tried again")

    async def follow(self, root: Cid) -> None:
        """The Hub's root is ``root`` and nothing is dirty: show it."""
        await self._rebase(root, {})

    async def _send(self, picture: Picture) -> Mapping[Node, Link]:
        async def make(emit: Emit) -> dict[Node, Link]:
            async def both(blocks: list[Block]) -> None:
                # What was built is what will be read next: names at once, bytes as far as the cache has room.
                self._cache.put_many(blocks)
                await emit(blocks)

            return await build(picture, both, attributes=self._attributes)  # type: ignore[arg-type]

        return await send_all(self._remote, self._upload, make, self.now)

    async def _swap(self, expected: Cid, root: Cid) -> Cid | None:
        """Swap the root; the Hub's root when it was another one than expected, else None."""
        if root == expected:
            theirs = await self._remote.root()
            return None if theirs == expected else theirs
        self._volume.propose(root)
        try:
            await self._remote.swap(expected, root, self._upload)
        except RootMoved:
            theirs = await self._remote.root()
            # Our own swap may have come through before a connection broke.
            return None if theirs == root else theirs
        except BlocksMissing as error:
            await self._supply(error)
            await self._remote.swap(expected, root, self._upload)
        return None

    async def _supply(self, error: BlocksMissing) -> None:
        """The Hub lacks blocks that only the cache has (its tree lost them, or a sweep was faster): send those."""
        cids = [Cid(cid) for cid in error.cids]
        try:
            blocks = await self._cache.get_many(cids)
        except BucketfsError as cause:
            raise error from cause

        async def make(emit: Emit) -> None:
            await emit(list(blocks.items()))

        await send_all(self._remote, self._upload, make, self.now)

    async def _rebase(self, root: Cid, built: Mapping[Node, BuiltNode]) -> list[str]:
        volume = self._volume
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H%M%S")
        mine = root in volume.proposed
        done = await rebase_onto(volume, root, built, host=socket.gethostname(), when=when, mine=mine)
        for invalidation in done.invalidations:
            self._notify(invalidation)
        for path in done.conflicts:
            log.info("both sides changed a file: ours is kept as %r", path)
        log.debug("rebased onto %s", cid_text(root))
        await self.checkpoint()
        return done.conflicts

    async def checkpoint(self) -> None:
        """Begin a new journal segment with what is still dirty, and let go of what it replaces."""
        volume = self._volume
        for node in list(volume.unrecorded):
            record(node)
        volume.journal.checkpoint(volume.base, list(overlay_ops(volume)))
        volume.garbage_drafts = 0
        volume.proposed.clear()
        await volume.journal.settle(draft_ids(volume))
