"""Bytes that were sent for roots to come: an account may have no more of them than it may have bytes in buckets.

Without this an account could fill the disk with blocks that it never links. What its buckets hold already is not added: a push
may put new things in the place of old ones, and only the swap knows, which counts exactly. The count here is kept in memory and
per process; it forgets an upload when its root was swapped, or when its lease has run out, after which the blocks are collected.

Nodes are counted by themselves, against the same limit: whoever removes something from full buckets sends new nodes first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from cachetools import TTLCache

from bucketfs.errors import OverQuota
from bucketfs.hub.blockstore import LEASE_S
from bucketfs.hub.usage import STORAGE

UPLOADS_MAX = 10_000


class Pledges:
    """Thread-safe. A limit of 0 is none."""

    def __init__(self, account_bytes_max: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._max = account_bytes_max
        self._lock = threading.Lock()
        # (account, upload) -> bytes of leaves, bytes of nodes
        self._pledged: TTLCache[tuple[str, bytes], tuple[int, int]] = TTLCache(UPLOADS_MAX, LEASE_S, now_s)

    def add(self, account: str, upload: bytes, leaf_bytes: int, node_bytes: int = 0) -> None:
        """That many bytes more were sent. Raises OverQuota when the account cannot link all that it sent."""
        if not self._max or not (leaf_bytes or node_bytes):
            return
        with self._lock:
            leaves, nodes = self._pledged.get((account, upload), (0, 0))
            self._pledged[account, upload] = (leaves + leaf_bytes, nodes + node_bytes)
            mine = [sizes for (who, _), sizes in self._pledged.items() if who == account]
        for total in (sum(leaves for leaves, _ in mine), sum(nodes for _, nodes in mine)):
            if total > self._max:
                raise OverQuota(f"{STORAGE}: {total} bytes were sent for an account that may have {self._max}")

    def drop(self, account: str, upload: bytes) -> None:
        """The upload is over."""
        with self._lock:
            self._pledged.pop((account, upload), None)
