"""Sharded directories: a hash array mapped trie of shards (UnixFS specification, HAMTShard, as Go and JavaScript write it).

The name of an entry is hashed to 64 bits; with a fan-out of 256, level k of the tree looks at byte k. A bucket with one
entry holds it, one with more holds a child shard of the next level. So the tree depends on the set of names alone, and an
edit rewrites the shards on the way to what changed: a child left with a single entry is replaced by that entry.

    link name   two hex digits (the bucket), then the entry's name; only the digits for a child shard
    data        a bit for each bucket in use, one big number without leading zero bytes

An entry that does not sit where its hash says is refused. That also bounds the work on hostile trees: a shard can be right
in one place only, so a small DAG cannot unfold into a large one.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import mmh3

from bucketfs.dag.codec import (
    DAG_PB,
    MURMUR3_X64_64,
    Built,
    PbLink,
    UnixFs,
    UnixFsType,
    build_node,
    cid_text,
    codec_of,
    decode_node,
    multihash_of,
)
from bucketfs.dag.steps import BATCH_MAX, fetch
from bucketfs.errors import Corrupt, TooLarge
from bucketfs.types import Cid, Link, Steps

T = TypeVar("T")

FANOUT = 256
HASH_BITS = 64

CHILD_LINKS_BYTES_MIN = 10
"""What a child shard adds to the links-bytes at least: two entries with names of one byte and the shortest CID, of four."""

BUDGETED_BATCH = 32


class ShardEntry(NamedTuple):
    """An entry in a bucket. A tuple, because there are so many."""

    name: bytes
    link: Link


Bucket = ShardEntry | Link
"""What a bucket holds: an entry, or the link of a child shard."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A decoded shard: what is in each bucket in use."""

    fanout: int
    buckets: Mapping[int, Bucket]

    @property
    def bits(self) -> int:
        """The bits of a hash that one level takes."""
        return self.fanout.bit_length() - 1


class ShardPlace(NamedTuple):
    """Where a shard hangs: its level, and the bits of the hash that all names below it share."""

    depth: int
    prefix: int


TOP = ShardPlace(0, 0)


def name_hash(name: bytes) -> int:
    """The 64 bits that decide where a name goes: the first half of MurmurHash3 x64 128, seed 0."""
    return mmh3.hash64(name, signed=False)[0]


@functools.lru_cache(maxsize=8)
def _prefixes(fanout: int) -> tuple[bytes, ...]:
    """The hex digits of each bucket, as wide as those of the last."""
    width = len(f"{fanout - 1:X}")
    return tuple(f"{index:0{width}X}".encode() for index in range(fanout))


@functools.lru_cache(maxsize=8)
def _buckets_by_prefix(fanout: int) -> dict[bytes, int]:
    return {prefix: index for index, prefix in enumerate(_prefixes(fanout))}


# Reading


def open_shard(links: Iterable[PbLink], message: UnixFs) -> Shard:
    """The buckets of a decoded node of type SHARD. The links count, not the bit field. Raises Corrupt."""
    fanout = message.fanout or 0
    indices = _buckets_by_prefix(fanout)
    width = len(_prefixes(fanout)[0])
    buckets: dict[int, Bucket] = {}
    for cid, name, tsize in links:
        index = indices.get(name[:width])
        if index is None or index in buckets:
            raise Corrupt(f"directory shard with the link {name!r}, out of range or repeated")
        link = Link(cid, tsize)
        if len(name) > width:
            buckets[index] = ShardEntry(name[width:], link)
        elif codec_of(cid) != DAG_PB:
            raise Corrupt(f"directory shard with a child {cid_text(cid)} that is no shard")
        else:
            buckets[index] = link
    return Shard(fanout, buckets)


def open_child(cid: Cid, block: bytes, parent: Shard) -> Shard:
    """A child shard from its block. Raises Corrupt: no shard, another fan-out, or nothing in it."""
    links, message = decode_node(block)
    if message.type is not UnixFsType.SHARD or message.fanout != parent.fanout or not links:
        raise Corrupt(f"directory shard {cid_text(cid)}: empty, or of another kind than its parent")
    return open_shard(links, message)


def child_place(place: ShardPlace, index: int, bits: int) -> ShardPlace:
    """Where the child in a bucket hangs. Raises Corrupt when the hash has no bits left for it."""
    if (place.depth + 2) * bits > HASH_BITS:
        raise Corrupt("directory shards deeper than the hash of a name")
    return ShardPlace(place.depth + 1, place.prefix << bits | index)


def check_place(name: bytes, place: ShardPlace, index: int, bits: int) -> None:
    """Refuse an entry in a bucket where its name does not belong. Raises Corrupt."""
    if name_hash(name) >> HASH_BITS - bits * (place.depth + 1) != place.prefix << bits | index:
        raise Corrupt(f"directory shard with the entry {name!r} in a bucket where it does not belong")


def meet_once(shard: T, met: set[T]) -> None:
    """Note a child shard, or a pair of them, of one directory. Raises Corrupt for one that was met before: no shard is empty, so
    it can be right in one place only. Without this, shards that link to one shard many times unfold without end as long as none
    of their entries is looked at."""
    if shard in met:
        raise Corrupt("directory shard that stands in two places of its directory")
    met.add(shard)


def _index(hashed: int, depth: int, bits: int) -> int:
    return hashed >> HASH_BITS - bits * (depth + 1) & (1 << bits) - 1


def all_entries(
    shard: Shard,
    place: ShardPlace = TOP,
    *,
    loaded: Mapping[Cid, Shard] | None = None,
    budget: int | None = None,
    within: Container[Cid] | None = None,
) -> Steps[list[ShardEntry] | None]:
    """All entries below a shard, in no order; None when their links-bytes exceed ``budget``, as soon as that is known.

    Shards in ``loaded`` are not asked for, and those that are not ``within`` some are left out. Without a budget deepest shards
    come first, so that few are waiting at any moment. With one it is the other way round, and few at a time: upper shards tell
    most about how much there is.
    """
    found: list[ShardEntry] = []
    waiting: list[tuple[Cid, ShardPlace]] = []
    met: set[bytes] = set()
    known = loaded or {}
    spent = _take(shard, place, found, waiting)
    while waiting:
        if budget is None:
            batch = waiting[-BATCH_MAX:]
            del waiting[-BATCH_MAX:]
        elif spent + len(waiting) * CHILD_LINKS_BYTES_MIN > budget:
            return None
        else:
            batch = waiting[:BUDGETED_BATCH]
            del waiting[:BUDGETED_BATCH]
        if within is not None:
            batch = [(cid, child_at) for cid, child_at in batch if cid in within]
        blocks = yield from fetch(cid for cid, _ in batch if cid not in known)
        for cid, child_at in batch:
            meet_once(multihash_of(cid), met)
            child = known[cid] if cid in known else open_child(cid, blocks[cid], shard)
            spent += _take(child, child_at, found, waiting)
    return found if budget is None or spent <= budget else None


def _take(shard: Shard, place: ShardPlace, found: list[ShardEntry], waiting: list[tuple[Cid, ShardPlace]]) -> int:
    """Sort the buckets of a shard into entries and child shards; returns the links-bytes of the entries."""
    bits = shard.bits
    spent = 0
    for index, bucket in shard.buckets.items():
        if isinstance(bucket, ShardEntry):
            check_place(bucket.name, place, index, bits)
            found.append(bucket)
            spent += links_bytes(bucket.name, bucket.link)
        else:
            waiting.append((bucket.cid, child_place(place, index, bits)))
    return spent


def links_bytes(name: bytes, link: Link) -> int:
    """What an entry adds to the estimate that decides about sharding."""
    return len(name) + len(link.cid)


# Writing


@dataclass(slots=True, eq=False)
class ShardEditor:
    """One edit of a sharded directory: shards read on the way, and the blocks it makes."""

    fanout: int = FANOUT
    cid_version: int = 1
    loaded: dict[Cid, Shard] = field(default_factory=dict)
    blocks: dict[Cid, bytes] = field(default_factory=dict)

    @property
    def bits(self) -> int:
        return self.fanout.bit_length() - 1

    def load(self, top: Shard, names: Iterable[bytes]) -> Steps[dict[bytes, Link]]:
        """Read the shards on the way to all these names, level by level; returns those of the names that exist."""
        existing: dict[bytes, Link] = {}
        level = [(top, [(name_hash(name), name) for name in names])]
        depth = 0
        while level:
            below: list[tuple[Shard, Cid, list[tuple[int, bytes]]]] = []
            for shard, hashed_names in level:
                for index, group in self._grouped(hashed_names, depth).items():
                    bucket = shard.buckets.get(index)
                    if isinstance(bucket, Link):
                        below.append((shard, bucket.cid, group))
                    elif bucket is not None and any(name == bucket.name for _, name in group):
                        existing[bucket.name] = bucket.link
            depth += 1
            if below and (depth + 1) * self.bits > HASH_BITS:
                raise Corrupt("directory shards deeper than the hash of a name")
            blocks = yield from fetch(cid for _, cid, _ in below)
            level = []
            for parent, cid, group in below:
                self.loaded[cid] = open_child(cid, blocks[cid], parent)
                level.append((self.loaded[cid], group))
        return existing

    def _grouped(self, hashed_names: list[tuple[int, bytes]], depth: int) -> dict[int, list[tuple[int, bytes]]]:
        groups: dict[int, list[tuple[int, bytes]]] = {}
        for hashed, name in hashed_names:
            groups.setdefault(_index(hashed, depth, self.bits), []).append((hashed, name))
        return groups

    def edit(self, top: Mapping[int, Bucket], changes: Mapping[bytes, Link | None], message: UnixFs) -> Built:
        """The root shard ``top`` with changes, each of which changes something and was looked up with ``load``."""
        names = [(name_hash(name), name) for name in changes]
        buckets = self._edit_buckets(top, 0, names, changes)
        link = self._store(buckets, message)
        return Built(link, self.blocks)

    def _edit_buckets(
        self, buckets: Mapping[int, Bucket], depth: int, names: list[tuple[int, bytes]], changes: Mapping[bytes, Link | None]
    ) -> dict[int, Bucket]:
        edited = dict(buckets)
        for index, group in self._grouped(names, depth).items():
            bucket = self._edit_bucket(edited.get(index), depth, group, changes)
            if bucket is None:
                edited.pop(index, None)
            else:
                edited[index] = bucket
        return edited

    def _edit_bucket(
        self, bucket: Bucket | None, depth: int, group: list[tuple[int, bytes]], changes: Mapping[bytes, Link | None]
    ) -> Bucket | None:
        """One bucket with the changes to the names that belong into it. None when nothing is left."""
        if isinstance(bucket, Link):
            return self._shard_or_less(self._edit_buckets(self.loaded[bucket.cid].buckets, depth + 1, group, changes))
        entries = {} if bucket is None else {bucket.name: bucket.link}
        for _, name in group:
            link = changes[name]
            if link is None:
                entries.pop(name, None)
            else:
                entries[name] = link
        if len(entries) < 2:
            return next((ShardEntry(name, link) for name, link in entries.items()), None)
        if (depth + 2) * self.bits > HASH_BITS:
            raise TooLarge("directory with names that hash to the same 64 bits: it cannot be sharded")
        return self._shard_or_less(self._edit_buckets({}, depth + 1, [(name_hash(name), name) for name in entries], entries))

    def _shard_or_less(self, buckets: dict[int, Bucket]) -> Bucket | None:
        """A child shard with these buckets; a single entry, or nothing, needs none."""
        if len(buckets) < 2:
            only = next(iter(buckets.values()), None)
            if only is None or isinstance(only, ShardEntry):
                return only
        return self._store(buckets, UnixFs(UnixFsType.SHARD))

    def _store(self, buckets: Mapping[int, Bucket], message: UnixFs) -> Link:
        """Encode a shard that carries what ``message`` says besides."""
        prefixes = _prefixes(self.fanout)
        bitfield = 0
        links: list[tuple[Cid, bytes, int]] = []
        for index, bucket in buckets.items():
            bitfield |= 1 << index
            if isinstance(bucket, ShardEntry):
                links.append((bucket.link.cid, prefixes[index] + bucket.name, bucket.link.tsize))
            else:
                links.append((bucket.cid, prefixes[index], bucket.tsize))
        data = bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big")
        shard = replace(
            message, type=UnixFsType.SHARD, data=data, filesize=None, hash_type=MURMUR3_X64_64, fanout=self.fanout
        )
        link, block = build_node(shard, links, self.cid_version)
        self.blocks[link.cid] = block
        return link
