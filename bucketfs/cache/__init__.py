"""The cache: clean blocks by CID, in memory over on disk. It may be deleted at any moment.

A block never changes, so nothing here is ever stale: it is there or not. What is on disk is checked against its CID before a
reader gets it; a wrong block is dropped, counted and fetched again. The cache is a ``Source`` over a ``Source``, and no failure
of its disk reaches a reader: with a disk that is full, failing, deleted or locked it holds less.

A reader waits for nothing it does not need: what is on disk is known in memory (``disk_index``), so a miss asks no disk; disk reads
and checks run on threads (``disk_store``), writes happen behind the reader from a bounded queue (``disk_tier``), and concurrent
requests for one block are one fetch (``cache``).
"""

from bucketfs.cache.cache import BlockCache, CacheFigures
from bucketfs.cache.source import KeepingSource, Shelter, Source, run_steps

__all__ = ["BlockCache", "CacheFigures", "KeepingSource", "Shelter", "Source", "run_steps"]
