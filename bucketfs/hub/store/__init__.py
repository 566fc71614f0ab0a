"""The Hub's blocks: bytes by multihash in packs, their index, and how much an account may still upload.

`BlockStore` keeps the promises that its docstring numbers. Above `db`, whose usage limits `UploadQuota` counts against.
"""

from bucketfs.hub.store.blockindex import PackPlace
from bucketfs.hub.store.blockstore import NODES_RESERVE_BYTES, BlockStore, Receiving, UploadCheck
from bucketfs.hub.store.counts import StoredCounts
from bucketfs.hub.store.in_use import InUse
from bucketfs.hub.store.packs import PackWriter, open_pack, pack_path, punch
from bucketfs.hub.store.reserve import SCRATCH_BYTES, give_up_reserve, take_reserve
from bucketfs.hub.store.upload_quota import UploadQuota

__all__ = [
    "NODES_RESERVE_BYTES",
    "SCRATCH_BYTES",
    "BlockStore",
    "InUse",
    "PackPlace",
    "PackWriter",
    "Receiving",
    "StoredCounts",
    "UploadCheck",
    "UploadQuota",
    "give_up_reserve",
    "open_pack",
    "pack_path",
    "punch",
    "take_reserve",
]
