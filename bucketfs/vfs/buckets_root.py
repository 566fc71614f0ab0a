"""The root of an all-buckets mount: a folder whose folders are buckets.

A bucket that cannot be opened yet (the Hub is away and nothing is cached, a journal or a root block is damaged) stands there as a
folder without a volume. Its name and attributes are answered, all else is refused as Unavailable: were it missing, a program that
mirrors what it sees would take it for deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from bucketfs.errors import BucketfsError, Exists, NotEmpty, NotFound, ReadOnly, Stale, Unavailable
from bucketfs.names import check_name
from bucketfs.types import ROOT_INODE, Inode, Kind
from bucketfs.vfs.tree import (
    DIRECTORY_SIZE,
    Attr,
    DirEntry,
    EntryChanged,
    EntryGone,
    InodeNumbers,
    Invalidation,
    Node,
    NodeTree,
    Number,
    Owner,
    Registry,
    Volume,
)

PLACE = (Inode(0), b"")
"""Where the table of numbers keeps the top."""


class BucketMaker(Protocol):
    """Makes and removes the buckets that folders at the root of an all-buckets mount stand for."""

    async def create(self, name: str) -> None:
        """Make a bucket and `BucketsRoot.add` its volume. Raises what the Hub answers."""

    async def remove(self, volume: Volume) -> None:
        """Remove an empty bucket at the Hub and `BucketsRoot.drop` its volume."""


@dataclass(frozen=True, slots=True)
class Held:
    """A folder without a volume: the number that the kernel knows it by, and why it cannot be opened."""

    inode: Inode
    error: BucketfsError


class BucketsRoot:
    """The volumes of a mount: by their trees, and in an all-buckets mount by the names of their folders. ``notify`` takes what the
    kernel must be told of these; without a ``maker`` none can be made or removed."""

    def __init__(
        self,
        owner: Owner,
        numbers: InodeNumbers,
        registry: Registry,
        notify: Callable[[Invalidation], None],
        maker: BucketMaker | None,
    ) -> None:
        self.volumes: dict[bytes, Volume] = {}
        self.held: dict[bytes, Held] = {}
        self._owner = owner
        self._numbers = numbers
        self._registry = registry
        self._notify = notify
        self._maker = maker
        self._mounted: dict[NodeTree, Volume] = {}
        self._dropped: list[Volume] = []
        """Volumes whose folder is gone and whose nodes are in use."""
        known = numbers.at(*PLACE)
        self._changed_ns = owner.now_ns() if known is None else known.ctime_ns
        """When a folder came, went or was renamed, as far as this machine saw it."""
        self._keep_time()

    def _changed(self) -> None:
        self._changed_ns = self._owner.now_ns()
        self._keep_time()

    def _keep_time(self) -> None:
        self._numbers.keep(*PLACE, Number(ROOT_INODE, self._changed_ns, self._changed_ns))
        self._numbers.urge(ROOT_INODE)

    # Which volumes there are

    def mount(self, volume: Volume) -> None:
        """Programs come to see nodes of ``volume``."""
        self._mounted[volume.tree] = volume

    def volume_of(self, node: Node) -> Volume:
        """The volume that a node belongs to. Raises Unavailable, Stale for one that is not mounted."""
        volume = self._mounted.get(node.tree)
        if volume is None:
            # A bucket that is being opened has nodes already; to the kernel it is a folder without a volume until then.
            self.check_held(node.inode)
            raise Stale(f"inode {node.inode} is of no mounted bucket")
        return volume

    def is_mounted(self, node: Node) -> bool:
        """Whether programs may come to a node."""
        return node.tree in self._mounted

    def let_go(self) -> None:
        """Forget the dropped volumes that no node is in use of any more."""
        for volume in list(self._dropped):
            root = volume.root
            if root.lookups or root.opens or root.children:
                continue
            # Asked last, since it goes through all nodes of the mount. An unlinked file that is still open hangs below no
            # folder.
            if not any(node.tree is volume.tree and node is not root for node in self._registry.values()):
                self._registry.pop(root.inode, None)
                self._dropped.remove(volume)
                del self._mounted[volume.tree]

    # Which folders there are

    def add(self, name: bytes, volume: Volume) -> None:
        """A folder with its volume, new or in the place of one that was held."""
        if volume.tree.new_here:
            self._changed()
        self.mount(volume)
        # The number stays: the kernel goes on with the folder that it knows.
        self.held.pop(name, None)
        self.volumes[name] = volume
        self._notify(EntryChanged(ROOT_INODE, name))

    def hold(self, name: bytes, error: BucketfsError) -> None:
        """A folder whose bucket cannot be opened yet, or another reason why it cannot, until `add` or `drop`. All that is
        asked inside it fails with Unavailable."""
        held = self.held.get(name)
        if held is not None:
            self.held[name] = Held(held.inode, error)
            return
        number = self._numbers.at(ROOT_INODE, name)
        if number is None:
            now_ns = self._owner.now_ns()
            number = Number(self._numbers.fresh(), now_ns, now_ns)
            self._numbers.keep(ROOT_INODE, name, number)
            self._changed()
        self.held[name] = Held(number.inode, error)
        self._notify(EntryChanged(ROOT_INODE, name))

    def rename(self, names: Mapping[bytes, bytes]) -> None:
        """Other names for folders, all at once, for two may swap theirs; nodes in use stay what they are. Told as changes of
        names and not as a removal: the kernel finds the same number at the new name, with what is open below it."""
        if names:
            self._changed()
        volumes = {new: self.volumes.pop(old) for old, new in names.items() if old in self.volumes}
        held = {
            new: (self.held.pop(old), self._numbers.at(ROOT_INODE, old)) for old, new in names.items() if old in self.held
        }
        self.volumes.update(volumes)
        for new, (folder, number) in held.items():
            self.held[new] = folder
            if number is not None:
                self._numbers.keep(ROOT_INODE, new, number)
        for name in {*names, *names.values()}:
            self._notify(EntryChanged(ROOT_INODE, name))

    def drop(self, name: bytes) -> None:
        """A folder is gone; its nodes in use go on until they are closed."""
        self._changed()
        held = self.held.pop(name, None)
        if held is not None:
            inode = held.inode
        else:
            volume = self.volumes.pop(name)
            inode = volume.root.inode
            self._dropped.append(volume)
            self.let_go()
        self._notify(EntryGone(ROOT_INODE, name, inode))

    # What they are

    def volume(self, name: bytes) -> Volume:
        """The volume of a name; raises NotFound, or Unavailable for a folder without one."""
        volume = self.volumes.get(name)
        if volume is None:
            if name in self.held:
                self._refuse(name)
            raise NotFound(f"no bucket {name.decode(errors='replace')!r}")
        return volume

    @property
    def names(self) -> Collection[bytes]:
        """The names of all folders."""
        return self.volumes.keys() | self.held.keys()

    def is_held(self, inode: Inode) -> bool:
        """Whether a number stands for a folder without a volume."""
        return any(held.inode == inode for held in self.held.values())

    def check_held(self, inode: Inode) -> None:
        """Raise Unavailable, with the reason, for the number of a folder without a volume."""
        for name, held in self.held.items():
            if held.inode == inode:
                self._refuse(name)

    def _refuse(self, name: bytes) -> NoReturn:
        error = self.held[name].error
        raise Unavailable(f"bucket {name.decode()!r} cannot be opened now: {error}", hint=error.hint) from error

    def attr(self, inode: Inode = ROOT_INODE) -> Attr:
        """What ``stat`` shows for this folder, and for one in it without a volume."""
        times_ns = (self._changed_ns,) * 3
        return Attr(inode, Kind.DIRECTORY, 0o755, 1, self._owner.uid, self._owner.gid, DIRECTORY_SIZE, *times_ns)

    def entries(self, names: Sequence[bytes], start: int) -> Sequence[DirEntry]:
        """The folders of ``names`` that are still there, from position ``start`` on."""
        found: list[DirEntry] = []
        for index, name in enumerate(names[start:], start):
            if (volume := self.volumes.get(name)) is not None:
                found.append(DirEntry(name, volume.tree.attr(volume.root), index + 1))
            elif (held := self.held.get(name)) is not None:
                found.append(DirEntry(name, self.attr(held.inode), index + 1))
        return found

    async def create(self, name: bytes) -> Volume:
        """Make a bucket; raises Exists, ReadOnly and what the Hub answers."""
        check_name(name)
        if name in self.names:
            raise Exists("a bucket of this name exists")
        if self._maker is None:
            raise ReadOnly("buckets cannot be made here")
        await self._maker.create(name.decode())
        return self.volume(name)

    async def remove(self, name: bytes) -> None:
        """Remove an empty bucket; raises NotEmpty, ReadOnly and what the Hub answers."""
        volume = self.volume(name)
        if not await volume.load(lambda: volume.tree.is_empty(volume.root)):
            raise NotEmpty("the bucket is not empty")
        if self._maker is None:
            raise ReadOnly("buckets cannot be removed here")
        await self._maker.remove(volume)
