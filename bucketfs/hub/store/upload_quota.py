"""The upload quota: bytes sent for roots to come. An account may have no more of them than it may have bytes in buckets.

Without this an account could fill the disk with blocks that it never links. What its buckets hold already is not added: a push
may put new things in the place of old ones, and only the swap knows, which counts exactly. A block is counted before it is stored,
and redeemed when a root of its upload leads to it: by name, for a root that leads to something else pays for nothing. What no root
ever leads to stays counted until its lease has run out, after which it is collected.

The count is kept in memory and per process. Of a block 12 bytes are kept; beyond ACCOUNT_NAMES_MAX of an account they are only
counted, and wait for the end of their lease.

Nodes are counted by themselves, against the same limit: to remove something from a full bucket a client sends new nodes first.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bucketfs.dag import DAG_PB, codec_of, multihash_of
from bucketfs.errors import OverQuota
from bucketfs.hub.db import STORAGE
from bucketfs.hub.store.block_store import LEASE_S
from bucketfs.types import Cid

UPLOADS_MAX = 1000
"""Uploads of one account that are told apart; the oldest of more are one."""

NAMES_MAX = 4_000_000
"""Blocks whose names are kept, over all accounts."""

ACCOUNT_NAMES_MAX = 400_000
"""Of one account, so that an account that sends very many tiny blocks takes no other's."""

_NODE = 1 << 31
_THE_OLDEST = bytes(65)
"""The key of the uploads that are no longer told apart. No upload has so long a name."""


@dataclass(slots=True, eq=False)
class _Upload:
    """What one upload has sent: names and sizes of blocks side by side, and the sums, which count unnamed blocks too."""

    expires_s: float
    # The hash of a multihash as Python makes it, with the key of this process: it cannot be aimed at.
    names: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    leaf_bytes: int = 0
    node_bytes: int = 0

    def count(self, size_bytes: int, *, node: bool) -> None:
        if node:
            self.node_bytes += size_bytes
        else:
            self.leaf_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class QuotaCheck:
    """An ``UploadCheck`` (block_store.py): blocks count against the quota of the upload's account."""

    quota: UploadQuota
    account: str
    upload: bytes

    def admit(self, blocks: Mapping[Cid, int]) -> None:
        """See ``UploadQuota.add``."""
        self.quota.add(self.account, self.upload, blocks)

    def take_back(self, blocks: Iterable[Cid]) -> None:
        """They were not stored."""
        self.quota.redeem(self.account, self.upload, blocks)


class UploadQuota:
    """Thread-safe. A limit of 0 is none."""

    def __init__(self, account_bytes_max: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._max = account_bytes_max
        self._now_s = now_s
        self._lock = threading.Lock()
        self._uploads: dict[str, OrderedDict[bytes, _Upload]] = {}
        self._names_count = 0

    def of(self, account: str, upload: bytes) -> QuotaCheck | None:
        """What the block store asks before it stores something for an upload; ``None`` when there is no limit."""
        return QuotaCheck(self, account, upload) if self._max else None

    def add(self, account: str, upload: bytes, blocks: Mapping[Cid, int]) -> None:
        """These blocks, by their lengths, are about to be stored. Raises OverQuota, and counts none of them, when the account could
        not link all that it sent."""
        if not self._max or not blocks:
            return
        nodes = sum(size for cid, size in blocks.items() if codec_of(cid) == DAG_PB)
        leaves = sum(blocks.values()) - nodes
        with self._lock:
            self._expire()
            mine = self._uploads.get(account, OrderedDict())
            for total in (
                leaves and leaves + sum(sent.leaf_bytes for sent in mine.values()),
                nodes and nodes + sum(sent.node_bytes for sent in mine.values()),
            ):
                if total > self._max:
                    raise OverQuota(f"{STORAGE}: {total} bytes were sent for an account that may have {self._max}")
            self._uploads[account] = mine
            self._note(mine, upload, blocks)

    def redeem(self, account: str, upload: bytes, cids: Iterable[Cid]) -> None:
        """A root holds these blocks now, or they were not stored after all."""
        with self._lock:
            sent = self._find(account, upload)
            if sent is None:
                return
            self._let_go(sent, {hash(multihash_of(cid)) for cid in cids})
            if not sent.leaf_bytes and not sent.node_bytes:
                self._forget(account, upload)

    def drop(self, account: str, upload: bytes) -> None:
        """A root holds all of an upload, which was the hub's own: a client cannot have put anything else into it."""
        with self._lock:
            if self._find(account, upload) is not None:
                self._forget(account, upload)

    def renew(self, account: str, upload: bytes) -> None:
        """The lease of an upload begins anew, so what it sent stays."""
        with self._lock:
            sent = self._find(account, upload)
            if sent is not None:
                sent.expires_s = self._now_s() + LEASE_S

    def _find(self, account: str, upload: bytes) -> _Upload | None:
        mine = self._uploads.get(account)
        return None if mine is None else mine.get(upload)

    def _note(self, mine: OrderedDict[bytes, _Upload], upload: bytes, blocks: Mapping[Cid, int]) -> None:
        sent = mine.setdefault(upload, _Upload(0.0))
        sent.expires_s = self._now_s() + LEASE_S
        room = min(ACCOUNT_NAMES_MAX - sum(len(one.names) for one in mine.values()), NAMES_MAX - self._names_count)
        for cid, size_bytes in blocks.items():
            node = codec_of(cid) == DAG_PB
            sent.count(size_bytes, node=node)
            if room > 0:
                room -= 1
                self._names_count += 1
                sent.names.append(hash(multihash_of(cid)))
                sent.sizes.append(size_bytes | (_NODE if node else 0))
        if len(mine) > UPLOADS_MAX:
            self._merge_oldest(mine)

    def _let_go(self, sent: _Upload, names: Collection[int]) -> None:
        kept = [at for at, name in enumerate(sent.names) if name not in names]
        if len(kept) == len(sent.names):
            return
        left = set(kept)
        for at, size in enumerate(sent.sizes):
            if at not in left:
                sent.count(-(size & ~_NODE), node=bool(size & _NODE))
        self._names_count -= len(sent.names) - len(kept)
        sent.names = array("q", (sent.names[at] for at in kept))
        sent.sizes = array("I", (sent.sizes[at] for at in kept))

    def _merge_oldest(self, mine: OrderedDict[bytes, _Upload]) -> None:
        rest = mine.pop(_THE_OLDEST, None) or _Upload(0.0)
        _, oldest = mine.popitem(last=False)
        self._names_count -= len(oldest.names)
        rest.expires_s = max(rest.expires_s, oldest.expires_s)
        rest.leaf_bytes += oldest.leaf_bytes
        rest.node_bytes += oldest.node_bytes
        mine[_THE_OLDEST] = rest

    def _expire(self) -> None:
        now_s = self._now_s()
        over = [
            (account, upload)
            for account, mine in self._uploads.items()
            for upload, sent in mine.items()
            if sent.expires_s <= now_s
        ]
        for account, upload in over:
            self._forget(account, upload)

    def _forget(self, account: str, upload: bytes) -> None:
        sent = self._uploads[account].pop(upload)
        self._names_count -= len(sent.names)
        if not self._uploads[account]:
            del self._uploads[account]
