"""The root of an all-buckets mount: which nodes programs come to while a bucket is opened, and after it was dropped."""

from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import Clock, RemoteSource

from bucketfs.disk import Disk
from bucketfs.errors import NotFound, Stale, Unavailable
from bucketfs.journal import Journal, Resources
from bucketfs.types import ROOT_INODE, BucketKey, Inode
from bucketfs.vfs import VFS, BaseTree, InodeNumbers, Namespace, Node, Owner, Pending, Volume, recover


async def test_a_bucket_is_a_folder_without_a_volume_until_it_is_added_and_its_nodes_outlive_its_folder(
    tmp_path: Path,
) -> None:
    """A program in the folder would change a bucket that is recovered by half, or get an error for a file that it has open."""
    remote, owner, registry = MemoryRemote(), Owner(1000, 1000, Clock()), dict[Inode, Node]()
    numbers = InodeNumbers(None)
    vfs = VFS(numbers=numbers, registry=registry, owner=owner, space=lambda: (1, 1))
    vfs.buckets.hold(b"bucket", Unavailable("the Hub is away"))
    inode = (await vfs.lookup(ROOT_INODE, b"bucket")).inode
    tree = Namespace(BaseTree(RemoteSource(remote)), numbers, registry, owner, updated_at_ns=1)
    journal = Journal.open(Disk(), tmp_path / "journal", Resources.below(Disk(), tmp_path))
    volume = Volume(BucketKey("bafzbeitest"), tree, Pending(tree), journal)
    await recover(volume, remote.at, inode)
    with pytest.raises(Unavailable, match="the Hub is away"):
        await vfs.lookup(inode, b"file")
    vfs.forget([(inode, 1)])

    vfs.buckets.add(b"bucket", volume)
    with pytest.raises(NotFound):
        await vfs.lookup(inode, b"file")
    assert (await vfs.lookup(ROOT_INODE, b"bucket")).inode == inode

    vfs.buckets.drop(b"bucket")
    assert (await vfs.getattr(inode)).inode == inode
    vfs.forget([(inode, 1)])
    with pytest.raises(Stale):
        await vfs.getattr(inode)
    journal.close()
    numbers.close()
