"""One-time transfers between a bucket and a local folder: push, pull, move, remove.

Trees are built bottom-up from local files (`build`) and walked top-down into them (`pulling`); a file is written aside and renamed.
The machine's disk is reached through `LocalFs` only.
"""

from bucketfs.transfer.build import LocalFile, WalkedFolder, walk
from bucketfs.transfer.local_fs import (
    NOT_CARRIED,
    ONE_FILE,
    ONE_PATH,
    PLAIN,
    SPECIAL_BITS,
    LocalEntry,
    LocalFs,
    Preserve,
    SystemCalls,
    real_path,
)
from bucketfs.transfer.move import move_by_path, move_path, remove_path
from bucketfs.transfer.options import (
    SEED_IS_TAKEN,
    Figures,
    Names,
    Progress,
    PullOptions,
    PushOptions,
    Skipped,
    left_out,
    path_text,
    unwatched,
)
from bucketfs.transfer.pulling import pull_folder
from bucketfs.transfer.pushing import push_folder
from bucketfs.transfer.temporaries import AsideFile, Temporaries, listed_temporaries
from bucketfs.transfer.write import BucketFile, FileFetch, LocalWriter, bucket_file, entry_windows

__all__ = [
    "NOT_CARRIED",
    "ONE_FILE",
    "ONE_PATH",
    "PLAIN",
    "SEED_IS_TAKEN",
    "SPECIAL_BITS",
    "AsideFile",
    "BucketFile",
    "Figures",
    "FileFetch",
    "LocalEntry",
    "LocalFile",
    "LocalFs",
    "LocalWriter",
    "Names",
    "Preserve",
    "Progress",
    "PullOptions",
    "PushOptions",
    "Skipped",
    "SystemCalls",
    "Temporaries",
    "WalkedFolder",
    "bucket_file",
    "entry_windows",
    "left_out",
    "listed_temporaries",
    "move_by_path",
    "move_path",
    "path_text",
    "pull_folder",
    "push_folder",
    "real_path",
    "remove_path",
    "unwatched",
    "walk",
]
