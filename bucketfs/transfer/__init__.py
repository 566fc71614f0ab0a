"""One-time transfers between a bucket and a local folder: push, pull, move, remove.

Trees are built bottom-up from local files and walked top-down into them; a file is written aside and renamed.
"""

from bucketfs.transfer.build import BuiltSmall, Emit, Plan, build_batch, is_small, small_batches, stream_large
from bucketfs.transfer.local_fs import PLAIN, SPECIAL_BITS, LocalEntry, Rights
from bucketfs.transfer.move import move_by_path, move_path, remove_path
from bucketfs.transfer.options import (
    SEED_IS_TAKEN,
    Figures,
    Names,
    NodeSource,
    Progress,
    PullOptions,
    PushOptions,
    Skipped,
    blocks_there,
    left_out,
    path_text,
    read_content,
    unwatched,
)
from bucketfs.transfer.pulling import pull_folder
from bucketfs.transfer.pushing import push_folder
from bucketfs.transfer.temporaries import Asides, listed_asides
from bucketfs.transfer.write import FileWriter, Item, LocalCopy, batches, blocks_of, copy_leaves, item_of, windows

__all__ = [
    "PLAIN",
    "SEED_IS_TAKEN",
    "SPECIAL_BITS",
    "Asides",
    "BuiltSmall",
    "Emit",
    "Figures",
    "FileWriter",
    "Item",
    "LocalCopy",
    "LocalEntry",
    "Names",
    "NodeSource",
    "Plan",
    "Progress",
    "PullOptions",
    "PushOptions",
    "Rights",
    "Skipped",
    "batches",
    "blocks_of",
    "blocks_there",
    "build_batch",
    "copy_leaves",
    "is_small",
    "item_of",
    "left_out",
    "listed_asides",
    "move_by_path",
    "move_path",
    "path_text",
    "pull_folder",
    "push_folder",
    "read_content",
    "remove_path",
    "small_batches",
    "stream_large",
    "unwatched",
    "windows",
]
