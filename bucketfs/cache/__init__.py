"""The cache: clean blocks by CID, in memory over on disk. It may be deleted at any moment.

A block never changes, so nothing here is ever stale: it is there or not, and what is on disk is checked against its CID
before a reader sees it. A wrong block is dropped, counted and fetched again. The cache wears the face of what it caches
(``Source``), and no trouble of its disk reaches a reader: full, failing, deleted or locked, it then holds less.

Work is split so that readers wait for nothing they do not need: what is on disk is known in memory (``policy``), so a
miss asks no disk; disk reads and checks run on threads (``store``), writes behind the reader in a bounded queue
(``tier``), and concurrent wishes for one block are one fetch (``cache``).
"""

from bucketfs.cache.cache import BlockCache, CacheFigures
from bucketfs.cache.source import DictSource, Shelter, Source, run_steps

__all__ = ["BlockCache", "CacheFigures", "DictSource", "Shelter", "Source", "run_steps"]
