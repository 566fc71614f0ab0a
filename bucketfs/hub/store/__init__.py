"""The Hub's blocks by CID: what is expected of a block store, and the one on the disk of this machine.

Services depend on the Protocols of `block_store`, whose docstring numbers the promises; `DiskBlockStore` keeps them with packs
(large blocks), an index (small blocks, places, leases), group commit (one sync for many uploads) and a sweep. A store knows
nothing of trees: the collector (`bucketfs.hub.gc`) marks what buckets need, the store sweeps the rest. Above `db`, whose usage
limits `UploadQuota` counts against."""

from bucketfs.hub.store.block_store import BlockStore, BlockWriter, Collected, Marks, StoredCounts, UploadCheck
from bucketfs.hub.store.disk_store import NODES_RESERVE_BYTES, DiskBlockStore
from bucketfs.hub.store.in_use import InUse
from bucketfs.hub.store.reserve import SCRATCH_BYTES, give_up_reserve, take_reserve
from bucketfs.hub.store.upload_quota import UploadQuota

__all__ = [
    "NODES_RESERVE_BYTES",
    "SCRATCH_BYTES",
    "BlockStore",
    "BlockWriter",
    "Collected",
    "DiskBlockStore",
    "InUse",
    "Marks",
    "StoredCounts",
    "UploadCheck",
    "UploadQuota",
    "give_up_reserve",
    "take_reserve",
]
