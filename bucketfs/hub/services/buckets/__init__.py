"""The bucket service, ``api.bucketsd.pb.APIService``: the table of its methods.

``read`` changes nothing; ``create``, ``edit`` (by path, without content) and ``push`` (content) do, all through one
``BucketWriter``. ``paths`` are paths and what a write does to path entries, ``incoming`` seeds and DAGs that a client names by
CID, ``messages`` buckets as the protocol shows them. Archiving needs a Filecoin service behind the Hub, which this one has not."""

from __future__ import annotations

from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import BUCKETS, Service
from bucketfs.hub.services.buckets.create import create
from bucketfs.hub.services.buckets.edit import BucketEdits
from bucketfs.hub.services.buckets.paths import SEED_REFUSED, file_key, path_text, read_path
from bucketfs.hub.services.buckets.push import Pushes
from bucketfs.hub.services.buckets.read import BucketReads
from bucketfs.hub.services.buckets.writer import BucketWriter, later_ns

__all__ = ["SEED_REFUSED", "BucketWriter", "file_key", "later_ns", "path_text", "read_path", "service"]


def service(hub: Hub) -> Service:
    """The service over this Hub."""
    writer = BucketWriter(hub)
    reads, pushes, edits = BucketReads(writer), Pushes(writer), BucketEdits(writer)
    return Service(
        BUCKETS,
        {
            "List": reads.list_buckets,
            "Create": lambda request, context: create(writer, request, context),
            "Root": reads.root,
            "Links": reads.links,
            "ListPath": reads.list_path,
            "ListIpfsPath": reads.list_ipfs_path,
            "PushPath": pushes.push_path,
            "PushPaths": pushes.push_paths,
            "PullPath": reads.pull_path,
            "PullIpfsPath": reads.pull_ipfs_path,
            "SetPath": edits.set_path,
            "MovePath": edits.move_path,
            "Remove": edits.remove,
            "RemovePath": edits.remove_path,
            "PushPathAccessRoles": edits.push_roles,
            "PullPathAccessRoles": reads.pull_roles,
            "Archives": reads.archives,
        },
        unimplemented="is not offered: this hub has no archive (Filecoin) service",
    )
