"""Keeping the blocks of the base that pending changes need beside the journal, so that these can be replayed and rebased
whatever becomes of the cache, and of the tree at the Hub.

`bucketfs.vfs.BasePins` says what is needed. It is taken from where it is at hand: the cache, the directories that the base tree has
decoded, and only then the Hub. Of a folder that was moved or removed the folders below are kept as far as they are on this machine:
renaming a folder downloads nothing.

All of it happens behind the programs. A folder is kept a moment after its first change (from then on a kill and a deleted cache
do no harm), and fsynced once it has waited for some seconds: what is pushed before that is never fsynced at all. Should the
power fail first, cache or Hub still have it. After each checkpoint of the journal what is still needed is found anew, and the room
of the rest is given back; when nothing waits that is everything.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import trio

from bucketfs.cache import KeepingSource, run_steps
from bucketfs.dag import (
    DAG_PB,
    DirectoryBlock,
    codec_of,
    directory_block,
    drive,
    edit_directory,
    identity_block,
    list_directory,
)
from bucketfs.errors import BucketfsError, Corrupt, NotADirectory, NotFound
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs import Pin, PinScope, Volume

log = logging.getLogger(__name__)

GATHER_S = 0.2
"""Changes come in crowds: those of so long are kept together."""

SYNC_AFTER_S = 5.0
RETRY_S = 60.0

FETCH_S = 5.0
"""How long the Hub is waited for, with other changes waiting to be kept."""

AT_END_S = 3.0

BATCH = 64
"""Folders that are in memory at once. One may have some hundred kilobytes."""

FOLDERS_PER_TURN = 50

TREE_BLOCKS_MAX = 20_000
TREE_BYTES_MAX = 64 << 20
"""What is looked at below folders that were moved or removed, between two checkpoints: to see whether something is a folder, its
root block has to be read."""


class BasePinner:
    """For one volume. A single task."""

    def __init__(self, volume: Volume, cache: KeepingSource) -> None:
        self._volume = volume
        self._cache = cache
        self._changed = trio.Event()
        self._generation = -1
        self._needed: set[Cid] = set()
        self._later: dict[Pin, None] = {}
        self._working_count = 0
        self._trees: set[Cid] = set()
        self._looked_blocks = 0
        self._looked_bytes = 0
        self._surveyed = False
        self._swept = False
        self._again_s: float | None = None
        self._away_until_s = 0.0
        self._sync_s: float | None = None
        self._failure = ""
        volume.tree.base_pins.on_pin = self._wake

    @property
    def waiting_count(self) -> int:
        """How many folders and files that changes need are not kept yet."""
        return self._volume.tree.base_pins.waiting_count + len(self._later) + self._working_count

    def _wake(self) -> None:
        self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep until cancelled; then keep what was changed last, and sync all of it."""
        task_status.started()
        self._wake()
        try:
            while True:
                times_s = [time_s for time_s in (self._again_s, self._sync_s) if time_s is not None]
                with trio.move_on_at(min(times_s, default=float("inf"))):
                    await self._changed.wait()
                    await trio.sleep(GATHER_S)
                # Before the round: what is pinned while it awaits must wake the next one.
                self._changed = trio.Event()
                await self.round()
        finally:
            with trio.move_on_after(AT_END_S, shield=True):
                await self._keep_at_end()

    async def _keep_at_end(self) -> None:
        if not self._volume.root.dirty:
            return
        try:
            await self._keep_all([*self._later, *self._volume.tree.base_pins.take()])
            await self._volume.journal.pins.sync()
        except BucketfsError as error:
            log.warning("%s: blocks that changes need were not kept at the end: %s", self._volume.key, error)

    async def round(self) -> None:
        """Keep what was pinned, sync what has waited, give back what is not needed. An error of the disk is logged, and the round
        is made again after a while."""
        self._again_s = None
        try:
            await self._round()
            self._failure = ""
        except BucketfsError as error:
            if str(error) != self._failure:
                log.warning("%s: blocks that changes need cannot be kept now: %s", self._volume.key, error)
            self._failure = str(error)
            self._again_s = trio.current_time() + RETRY_S
        except Exception:
            # As with a push: a mistake of ours must not take the mount down.
            log.exception("%s: an unexpected error while blocks that changes need were kept", self._volume.key)
            self._again_s = trio.current_time() + RETRY_S

    async def _round(self) -> None:
        volume, store = self._volume, self._volume.journal.pins
        if self._generation != volume.tree.base_pins.generation:
            self._begin()
        generation = self._generation
        if not self._surveyed:
            self._surveyed = await self._survey()
        await self._keep_all([*self._later, *volume.tree.base_pins.take()])
        # What is here comes first: a Hub that does not answer takes its time.
        while self._later and trio.current_time() >= self._away_until_s and await self._fetched():
            before = list(self._later)
            await self._keep_all(before)
            if self._later.keys() <= set(before):
                # They are lost. A replay or a rebase that needs one will say so.
                log.debug("%s: changes need %d blocks that are lost", volume.key, len(self._later))
                self._later = {}
        whole = self._surveyed and not self._later
        if not whole:
            self._again_s = trio.current_time() + RETRY_S
        # Not behind a checkpoint that came while this awaited: what is needed since then was not surveyed yet.
        elif not self._swept and generation == volume.tree.base_pins.generation:
            if volume.journal.figures().segments == 1:
                await store.retain(self._needed)
                self._swept = True
            else:
                # An older segment needs other blocks. It goes when the newer one is safe.
                self._again_s = trio.current_time() + SYNC_AFTER_S
        await self._sync()

    async def _keep_all(self, pins: Sequence[Pin]) -> None:
        """Keep what is noted, as far as it is on this machine. The rest is put off."""
        self._later = {}
        for start in range(0, len(pins), BATCH):
            self._working_count = len(pins) - start
            try:
                await self._keep(pins[start : start + BATCH])
            except BaseException:
                # Also when cancelled: `_keep_at_end` tries once more what was put off.
                self._later.update(dict.fromkeys(pins[start:]))
                raise
            finally:
                self._working_count = 0

    async def _fetched(self) -> bool:
        """Have what was put off in the cache, as far as the Hub has it. False when it does not answer: it is asked again after a
        while."""
        lacking = list(dict.fromkeys(pin.cid for pin in self._later))
        for start in range(0, len(lacking), BATCH):
            try:
                with trio.fail_after(FETCH_S):
                    await self._cache.get_many(lacking[start : start + BATCH])
            except (Corrupt, NotFound):
                continue  # the others have come
            except (BucketfsError, trio.TooSlowError) as error:
                log.debug("%s: blocks that changes need are kept later: %r", self._volume.key, error)
                self._away_until_s = trio.current_time() + RETRY_S
                return False
        return True

    def _begin(self) -> None:
        self._generation = self._volume.tree.base_pins.generation
        self._needed, self._trees, self._later = set(), set(), {}
        self._looked_blocks = self._looked_bytes = 0
        self._surveyed = self._swept = False

    async def _sync(self) -> None:
        store, now_s = self._volume.journal.pins, trio.current_time()
        if not store.unsynced:
            self._sync_s = None
        elif self._sync_s is None:
            self._sync_s = now_s + SYNC_AFTER_S
        elif self._sync_s <= now_s:
            self._sync_s = None
            try:
                await store.sync()
            except BucketfsError:
                # What the disk may have forgotten is forgotten here, too, and kept anew.
                self._volume.tree.base_pins.take_again()
                raise

    # What is needed

    async def _survey(self) -> bool:
        """Pin what is dirty. Whether all of it could be looked at."""
        pins, whole = self._volume.tree.base_pins, True
        for count, (cid, names) in enumerate(self._volume.tree.base_pins.survey(self._volume.tree), 1):
            if count % FOLDERS_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
            entries = {} if cid is None or not names else await self._entries(cid)
            if entries is None:
                whole = False
                continue
            for name in names:
                link = entries.get(name)
                if link is not None:
                    pins.add(link.cid, PinScope.TREE)
        return whole

    async def _entries(self, cid: Cid) -> Mapping[bytes, Link] | None:
        """The names of a folder, as far as it is on this machine; None else. What is no folder has none."""
        known = self._volume.tree.base_tree.known_directory(cid)
        if known is not None:
            return known.entries
        try:
            return (await run_steps(list_directory(cid), _AtHand(self._cache))).entries
        except NotADirectory:
            return {}
        except (Corrupt, NotFound):
            return None

    # Keeping it

    async def _keep(self, pins: Sequence[Pin]) -> None:
        """Keep some of what was noted, with all that is below it."""
        # What is gone from one name may be what stands at another: then it is needed whatever it turns out to be.
        files = {pin.cid for pin in pins if pin.scope is PinScope.FILE}
        # TREE stands last, and so wins where the same folder is pinned in two ways: it needs more than FOLDER.
        level = {pin.cid: pin.scope for pin in sorted(pins, key=lambda pin: pin.scope is PinScope.TREE)}
        optional: set[Cid] = set()
        while level:
            blocks = await self._blocks(level, optional)
            level, optional = await self._keep_level(blocks, level, optional, files)
        postponed = files & {pin.cid for pin in self._later}
        self._later.update((Pin(cid, PinScope.FILE), None) for cid in postponed)

    async def _keep_level(
        self, blocks: Mapping[Cid, bytes], level: Mapping[Cid, PinScope], optional: Collection[Cid], files: Collection[Cid]
    ) -> tuple[dict[Cid, PinScope], set[Cid]]:
        """Keep blocks, ``files`` whatever they are; those below them that are needed next, and which of these only when they are at
        hand."""
        kept: dict[Cid, bytes] = {}
        below: dict[Cid, PinScope] = {}
        only_at_hand: set[Cid] = set()
        for cid, scope in level.items():
            block = blocks.get(cid)
            if block is None:
                continue
            if cid in optional:
                self._looked_blocks += 1
                self._looked_bytes += len(block)
            inside = _inside(cid, block)
            if inside is None:
                if cid in files:
                    kept[cid] = block
                continue
            kept[cid] = block
            for shard in inside.shards:
                below[shard] = scope
                if cid in optional:
                    only_at_hand.add(shard)
            if scope is PinScope.TREE:
                self._trees.add(cid)
                for entry in self._folders_among(inside.entries):
                    if entry not in below:
                        below[entry] = scope
                        only_at_hand.add(entry)
        self._needed.update(kept)
        await self._volume.journal.pins.keep(kept)
        return below, only_at_hand

    def _folders_among(self, entries: Iterable[Cid]) -> list[Cid]:
        """Those of the entries of a tree that may be folders that were not looked into yet."""
        if self._looked_blocks > TREE_BLOCKS_MAX or self._looked_bytes > TREE_BYTES_MAX:
            return []
        base_tree, found = self._volume.tree.base_tree, []
        for cid in entries:
            if codec_of(cid) == DAG_PB and cid not in self._trees and identity_block(cid) is None:
                info = base_tree.known_info(cid)
                if info is None or info.kind is Kind.DIRECTORY:
                    found.append(cid)
        return found

    async def _blocks(self, level: Mapping[Cid, PinScope], optional: Collection[Cid]) -> dict[Cid, bytes]:
        """The blocks of a level that are on this machine. Others are put off, unless they are ``optional``."""
        found = await self._cache.at_hand(list(level))
        for cid in [cid for cid in level if cid not in found and cid not in optional]:
            if cid not in found:
                found |= await self._rebuilt(cid)
        lacking = [cid for cid in level if cid not in found and cid not in optional]
        self._later.update((Pin(cid, level[cid]), None) for cid in lacking)
        return found

    async def _rebuilt(self, cid: Cid) -> Mapping[Cid, bytes]:
        """The block of a folder that the base tree has decoded, while a small cache has lost it. Nothing when it does not come
        out as it was: another client wrote it in its own way."""
        directory = self._volume.tree.base_tree.known_directory(cid)
        if directory is None:
            return {}
        steps = edit_directory(None, directory.entries, directory.attributes)
        # On a thread: hashing a folder of a hundred thousand names would hold up every request of the mount.
        built = await trio.to_thread.run_sync(drive, steps, _nothing)
        if built.link.cid != cid:
            return {}
        self._cache.put_many(built.blocks.items())
        return {cid: built.blocks[cid]}


class _AtHand:
    """The blocks that are on this machine, as a Source that lacks all others."""

    def __init__(self, cache: KeepingSource) -> None:
        self._cache = cache

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found = await self._cache.at_hand(cids)
        if len(found) < len(set(cids)):
            raise NotFound("a block is not on this machine")
        return found

    def peek(self, cid: Cid) -> bytes | None:
        return self._cache.peek(cid)


def _inside(cid: Cid, block: bytes) -> DirectoryBlock | None:
    try:
        return directory_block(cid, block)
    except Corrupt:
        return None


def _nothing(cids: Sequence[Cid]) -> dict[Cid, bytes]:
    raise NotFound("a new directory needs no blocks")
