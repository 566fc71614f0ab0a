"""Trees of blocks as the Hub reads and edits them: public ones, private (encrypted) ones, and checks of what enters a bucket.

`WorkingSet` runs computations of `bucketfs.dag` over the block store. Above `db` and `store`.
"""

from bucketfs.hub.trees.access import nearest_entry, visible
from bucketfs.hub.trees.crypt import DAMAGED, encrypt, key_text, new_key
from bucketfs.hub.trees.entry_check import check_nodes
from bucketfs.hub.trees.private import PrivateTree, bucket_size
from bucketfs.hub.trees.public import (
    BucketTree,
    FileWriter,
    Item,
    Listing,
    PathNotFound,
    PublicTree,
    WorkingSet,
    total_size,
    unchecked,
)
from bucketfs.hub.trees.root_diff import Touches, entries_after
from bucketfs.hub.trees.size_check import SIZE_MAX, Scales, check_sizes

__all__ = [
    "DAMAGED",
    "SIZE_MAX",
    "BucketTree",
    "FileWriter",
    "Item",
    "Listing",
    "PathNotFound",
    "PrivateTree",
    "PublicTree",
    "Scales",
    "Touches",
    "WorkingSet",
    "bucket_size",
    "check_nodes",
    "check_sizes",
    "encrypt",
    "entries_after",
    "key_text",
    "nearest_entry",
    "new_key",
    "total_size",
    "unchecked",
    "visible",
]
