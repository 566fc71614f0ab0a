"""Giving a Hub again what it has forgotten: it went back to an older state, and what is here is newer.

A Hub that went back shows it by its times (`PushState.is_older`), or, when another client was quicker to give it something, by
this: a Hub collects nothing that is younger than an hour, so a root that it showed in that time and has no block of is one
that it forgot.

What the Hub has by now stays. The tree that is given to it is a merge of both: from the newest root that we left behind and the Hub
still has, what happened here since and what happened there since. So two clients that hold different newer states end equal, with
all of both. Where each of them lacks bytes that only the other one holds, each gives what it has, until the Hub has all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from bucketfs.cache import KeepingSource, run_steps
from bucketfs.dag import merge_trees, new_blocks
from bucketfs.errors import BlocksMissing, Corrupt, Denied, NotFound, RootMoved
from bucketfs.remote import Emit, Look, Remote, Sent, send_all
from bucketfs.sync.rebaser import copy_label
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import Volume, conflict_name

log = logging.getLogger(__name__)

RESTORES_MAX = 10_000
"""A Hub names up to a hundred lacking blocks at a time."""

FORGETS_NS = 45 * 60 * 10**9
"""How long after a root came up its being gone cannot be the work of the Hub's collector, which spares what is younger than an hour
(unless its operator sets another time)."""

CLOCKS_APART_NS = 5 * 60 * 10**9
"""How much later than here it may be at a Hub whose clock is right."""

NO_UPLOAD = UploadId(b"")

OFFERED_AT_ONCE = 256
"""Blocks that the Hub is asked for, and that are in memory, at a time when what is held of a tree is offered."""


async def supply(remote: Remote, cache: KeepingSource, error: BlocksMissing, upload: UploadId, sent: Sent) -> None:
    """The Hub lacks blocks that only the cache has (its tree lost them, or a sweep was faster): send those. Raises Corrupt,
    NotFound when they are lost."""
    blocks = await cache.get_many([Cid(cid) for cid in error.cids])

    async def make(emit: Emit) -> None:
        await emit(list(blocks.items()))

    await send_all(remote, upload, make, sent)


class RollbackRepair:
    """For one volume. One at a time: the caller is a single task."""

    def __init__(self, volume: Volume, remote: Remote, cache: KeepingSource) -> None:
        self._volume = volume
        self._remote = remote
        self._cache = cache
        self._given: tuple[Cid, Cid] | None = None
        self._told: tuple[Cid, Cid] | None = None

    async def repaired(self, seen: Look, upload: UploadId, sent: Sent) -> bool:
        """Whether the Hub forgot our base, and has it again by now, or a merge of it with what it shows. Not when nothing may be
        written from here: then its root is a root like any other. Raises what stands in the way, Corrupt when what it lost is not
        here either: what is shown here stays until the user decides."""
        volume = self._volume
        if volume.read_only or seen.root == volume.base or self._given == (volume.base, seen.root):
            return False
        back = volume.push.roots.is_older(seen.updated_at_ns)
        if not back and not await self._forgot(seen):
            return False
        new = await self._both(seen.root, back)
        if new in (None, seen.root):
            return False
        if self._told != (volume.base, seen.root):
            # Once, and not with every attempt.
            self._told = (volume.base, seen.root)
            log.warning("%s: the Hub went back to an older state; what it lost is given to it again", volume.key)
        if not await self._give(seen.root, new or volume.base, upload, sent):
            return False
        # What was given comes back as the Hub's root, and is to be followed then, not repaired.
        self._given = (volume.base, new or volume.base)
        return True

    async def _forgot(self, seen: Look) -> bool:
        """Whether the Hub lacks our base although it showed it not long ago. By both clocks: after a night offline it may well have
        collected what another client has replaced, soon after we saw it."""
        volume = self._volume
        now_ns, since_ns = volume.now_ns(), volume.push.roots.time_ns
        if not 0 < since_ns <= seen.updated_at_ns < since_ns + FORGETS_NS:
            return False
        if not since_ns - CLOCKS_APART_NS <= now_ns < since_ns + FORGETS_NS:
            return False
        try:
            return bool(await self._remote.missing([volume.base], NO_UPLOAD))
        except Denied:
            return False  # who may not ask may not write, either

    async def _both(self, theirs: Cid, back: bool) -> Cid | None:
        """The root with all that is in our base and in ``theirs``; None when nothing tells where they parted."""
        volume = self._volume
        known = [root for root in volume.push.roots.left if root != volume.base]
        agreed: Cid | None = theirs if theirs in known else None
        if agreed is None and known:
            lacking = await self._remote.missing(known, NO_UPLOAD)
            # The newest one first: from there the fewest changes of the two sides are merged.
            agreed = next((root for root in reversed(known) if root not in lacking), None)
        if agreed is None:
            return volume.base if back else None
        host, when = copy_label()
        try:
            steps = merge_trees(agreed, volume.base, theirs, lambda name, taken: conflict_name(name, host, when, taken))
            merged = await run_steps(steps, volume.tree.base_tree.source)
        except (Corrupt, NotFound) as error:
            raise _gone(error) from error
        for conflict in merged.conflicts:
            path = b"/".join(conflict.copy).decode(errors="replace")
            log.warning("%s: both clients of a Hub that went back changed a file: one is kept as %r", volume.key, path)
        self._cache.put_many(merged.blocks.items())
        return merged.link.cid

    async def _give(self, old: Cid, new: Cid, upload: UploadId, sent: Sent) -> bool:
        volume = self._volume
        for _ in range(RESTORES_MAX):
            try:
                await self._remote.swap(old, new, upload)
            except RootMoved:
                return False
            except Denied as error:
                log.warning("%s: the Hub's older state is shown, for it refuses the newer one: %s", volume.key, error)
                return False
            except BlocksMissing as error:
                try:
                    await supply(self._remote, self._cache, error, upload, sent)
                except (BlocksMissing, Corrupt, NotFound) as cause:
                    await self._offer(old, new, upload, sent)
                    raise _gone(cause) from cause
            else:
                return True
        raise BlocksMissing("the Hub asks for the same blocks again and again", hint="it is tried again")

    async def _offer(self, old: Cid, new: Cid, upload: UploadId, sent: Sent) -> None:
        """Send what the Hub lacks of ``new`` and this machine has, though that is not all: another client of this Hub may hold the
        rest, and lack what is here. Neither could give the whole by itself."""
        cache, remote = self._cache, self._remote
        wanted: list[Cid] = []
        # What cannot be read as a tree ends the walk; the caller raises what stands in the way.
        with suppress(Corrupt, NotFound):
            wanted = list(await run_steps(new_blocks(old, new), _Held(cache, remote)))

        async def make(emit: Emit) -> None:
            for start in range(0, len(wanted), OFFERED_AT_ONCE):
                lacking = await remote.missing(wanted[start : start + OFFERED_AT_ONCE], upload)
                held = await cache.at_hand(list(lacking))
                if held:
                    await emit(list(held.items()))

        await send_all(remote, upload, make, sent)


class _Held:
    """The blocks that this machine or the Hub has; one that neither has counts as one without links."""

    def __init__(self, cache: KeepingSource, remote: Remote) -> None:
        self._cache = cache
        self._remote = remote

    def peek(self, cid: Cid) -> bytes | None:
        return self._cache.peek(cid)

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found = await self._cache.at_hand(cids)
        if len(found) < len(cids):
            found |= await self._remote.blocks([cid for cid in cids if cid not in found])
        return {cid: found.get(cid, b"") for cid in cids}


def _gone(error: BlocksMissing | Corrupt | NotFound) -> Corrupt:
    return Corrupt(
        f"the Hub went back to an older state, and lost blocks of the newer one that are not here either ({error})",
        hint="another client that has them gives them when it runs; or copy out what you need, and mount with another --state",
    )
