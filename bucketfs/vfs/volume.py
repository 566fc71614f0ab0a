"""One bucket as base ⊕ overlay: its names, and every change to them.

The methods here are attempts in the sense of `lens`: they look first, then write the journal record, then change memory, and
nothing can fail after the record. Replaying a record runs the same change without writing it again, so what a restart brings
back is what the live operation did.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from bucketfs import ops
from bucketfs.errors import (
    Denied,
    Exists,
    InvalidArgument,
    IsADirectory,
    NameInvalid,
    NameTooLong,
    NoSpace,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotPermitted,
    ReadOnly,
)
from bucketfs.journal import Journal
from bucketfs.types import BucketKey, Cid, DraftId, Inode, NodeAttributes
from bucketfs.vfs.conflicts import Conflicts
from bucketfs.vfs.facts import RenameFlags
from bucketfs.vfs.files import record
from bucketfs.vfs.footing import Footing
from bucketfs.vfs.inodes import InodeNumbers, Number, print_of
from bucketfs.vfs.lens import Lens
from bucketfs.vfs.nodes import DirectoryNode, FileNode, Node, SymlinkNode, check_sound, is_below
from bucketfs.vfs.rights import Touch
from bucketfs.vfs.room import Growth
from bucketfs.vfs.stuck import beside
from bucketfs.vfs.view import SEED, Owner, Registry, View

NAME_MAX = 255
TARGET_MAX = 4095


def check_name(name: bytes) -> None:
    """Raise for names that the tree cannot carry."""
    if len(name) > NAME_MAX:
        raise NameTooLong(f"a name of {len(name)} bytes; at most {NAME_MAX} fit")
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise NameInvalid(f"the name {name!r} is not UTF-8") from error
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidArgument(f"{name!r} is not a name")


class Volume(View):
    """The names and attributes of one bucket, and the changes to them."""

    def __init__(
        self,
        key: BucketKey,
        *,
        journal: Journal,
        lens: Lens,
        numbers: InodeNumbers,
        registry: Registry,
        owner: Owner,
        updated_at_ns: int,
        read_only: bool = False,
    ) -> None:
        super().__init__(key, lens=lens, numbers=numbers, registry=registry, owner=owner, updated_at_ns=updated_at_ns)
        self.journal = journal
        self.read_only = read_only
        self.unrecorded: set[FileNode] = set()
        self.closed: deque[FileNode] = deque()
        """Files that were written to, closed, and wait for their checksums (see `sealing`)."""
        self.changed_since_ns: int | None = None
        self.changed_last_ns = 0
        self.replaying = False
        self.garbage_drafts = 0
        self.stuck: list[ops.Op] = []
        """What a replay could not do because of damage at the Hub, kept in the journal until it can be done (see `stuck`)."""
        self.stuck_root = Cid(b"")
        """The root that it was done on, or the oldest of these."""
        self.partless: list[ops.SetContent] = []
        """What a replay found written to parts of files whose other parts nobody has any more (see `salvage`)."""
        self.proposed: set[Cid] = set()
        self.arrived: Cid | None = None
        """The newest root of ours that the Hub is known to have taken, when a journal says so and the base is an older one."""
        self.short: dict[FileNode, list[str]] = {}
        """Files that a power loss took bytes of which the Hub may have, with the names that they may have there (see `short`)."""
        self.left: dict[Cid, int] = {}
        """Roots before the base, oldest first, with the time that the Hub told of the bucket then."""
        self.base_time_ns = 0
        """The time that the Hub told of the bucket while ``base`` was its root; 0 when it was not asked."""
        self.conflicts = Conflicts()
        self.owes_checkpoint = False
        self.growth = Growth()
        self.footing = Footing()
        self.moves = 0
        """Counts the renames that a plan of what to push in which order cannot outlive (see `slices`)."""
        self.on_change: Callable[[], None] = lambda: None
        # The base was one root and is another one, which was pushed from here or not.
        self.on_base: Callable[[Cid, Cid, bool], None] = lambda old, new, ours: None

    @property
    def volume(self) -> Volume:
        return self

    def forsake(self, node: FileNode) -> None:
        """The drafts of an unlinked file that nobody has open are garbage now.

        They are deleted behind the next checkpoint and not here: until the record of the unlink is on the disk, a power cut
        brings the name back, and then its bytes must be there.
        """
        self.garbage_drafts += len(node.content.layers)
        node.content.layers.clear()
        self.unrecorded.discard(node)

    # Changing names

    def create(self, parent: DirectoryNode, name: bytes, mode: int, uid: int, gid: int) -> FileNode:
        """A new empty file."""
        self._check_free(parent, name)
        now = self.owner.now_ns()
        own_uid, own_gid = self._ownership(parent, uid, gid)
        inode = self.numbers.fresh()
        path = self.path_under(parent, name)
        self.append(ops.Create(path, inode, mode & 0o7777, own_uid, own_gid, now, now))
        attributes = NodeAttributes(mode=mode & 0o7777, mtime_ns=now, uid=own_uid, gid=own_gid)
        node = FileNode(self, inode, None, attributes, now, now, 0)
        self.place(parent, name, node, now)
        node.touch()
        return node

    def make_directory(self, parent: DirectoryNode, name: bytes, mode: int, uid: int, gid: int) -> DirectoryNode:
        """A new empty directory."""
        self._check_free(parent, name)
        now = self.owner.now_ns()
        own_uid, own_gid = self._ownership(parent, uid, gid)
        if (parent.attributes.mode or 0) & stat.S_ISGID:
            mode |= stat.S_ISGID
        inode = self.numbers.fresh()
        self.append(ops.MakeDirectory(self.path_under(parent, name), inode, mode & 0o7777, own_uid, own_gid, now, now))
        attributes = NodeAttributes(mode=mode & 0o7777, mtime_ns=now, uid=own_uid, gid=own_gid)
        node = DirectoryNode(self, inode, None, attributes, now, now)
        self.place(parent, name, node, now)
        node.touch()
        return node

    def make_symlink(self, parent: DirectoryNode, name: bytes, target: bytes, uid: int, gid: int) -> SymlinkNode:
        """A new symbolic link."""
        self._check_free(parent, name)
        if len(target) > TARGET_MAX:
            raise NameTooLong(f"a symlink target of {len(target)} bytes; at most {TARGET_MAX} fit")
        try:
            text = target.decode()
        except UnicodeDecodeError as error:
            raise NameInvalid("the symlink target is not UTF-8") from error
        now = self.owner.now_ns()
        own_uid, own_gid = self._ownership(parent, uid, gid)
        inode = self.numbers.fresh()
        self.append(ops.MakeSymlink(self.path_under(parent, name), inode, text, own_uid, own_gid, now, now))
        node = SymlinkNode(self, inode, None, NodeAttributes(mtime_ns=now, uid=own_uid, gid=own_gid), now, now, target)
        self.place(parent, name, node, now)
        node.touch()
        return node

    def remove(self, parent: DirectoryNode, name: bytes, *, directory: bool) -> Node:
        """Take a name away: an empty directory's when ``directory``, else anything's that is none."""
        self._check_writable()
        node = self.child(parent, name)
        if node.orphan:
            raise NotFound("the directory was removed elsewhere")
        if directory:
            if not isinstance(node, DirectoryNode):
                raise NotADirectory("not a directory")
            if not self.is_empty(node):
                raise NotEmpty("the directory is not empty")
        elif isinstance(node, DirectoryNode):
            raise IsADirectory("a directory is removed with rmdir")
        self._check_taking(node)
        now = self.owner.now_ns()
        self.append(ops.Remove(node.path(), now))
        self.take_away(parent, node, now)
        return node

    def rename(
        self, old_parent: DirectoryNode, old_name: bytes, new_parent: DirectoryNode, new_name: bytes, flags: RenameFlags
    ) -> Node | None:
        """Move a name; the node that it replaced, if any. Checks are those of rename(2)."""
        self._check_writable()
        self._check_carried(new_parent, new_name)
        node = self.child(old_parent, old_name)
        if node.orphan:
            raise NotFound("the directory was removed elsewhere")
        target = self.find(new_parent, new_name)
        exchange = RenameFlags.EXCHANGE in flags
        if exchange and target is None:
            raise NotFound("nothing to exchange with")
        if target is not None and RenameFlags.NOREPLACE in flags:
            raise Exists("the target exists")
        if target is node:
            return None
        if isinstance(node, DirectoryNode) and is_below(new_parent, node):
            raise InvalidArgument("a directory cannot move into itself")
        if exchange and isinstance(target, DirectoryNode) and is_below(old_parent, target):
            raise InvalidArgument("a directory cannot move into itself")
        if target is not None and not exchange:
            self._check_replaceable(node, target)
        self.check_placing(new_parent, new_name)
        if exchange:
            self.check_placing(old_parent, old_name)
        else:
            self._check_taking(node)
        # What was written and not closed goes with the name: rename(2) over an old file is how programs replace it for good.
        for moved in (node, target) if exchange else (node,):
            if isinstance(moved, FileNode) and moved in self.unrecorded:
                record(moved)
        now = self.owner.now_ns()
        self.append(ops.Rename(node.path(), self.path_under(new_parent, new_name), exchange, now))
        self.move(node, new_parent, new_name, target, exchange, now)
        return None if exchange else target

    def set_attributes(self, node: Node, mode: int | None, uid: int | None, gid: int | None, mtime_ns: int | None) -> None:
        """Change attributes; ``None`` leaves one as it is."""
        self._check_writable()
        check_sound(node)
        now = self.owner.now_ns()
        if isinstance(node, SymlinkNode):
            mode = None
        if not node.orphan:
            self.append(ops.SetAttributes(node.path(), mode, uid, gid, mtime_ns, now))
        self.apply_attributes(node, mode, uid, gid, mtime_ns, now)

    def propose(self, root: Cid) -> None:
        """The Hub is about to be asked for ``root``: remember it, also over a kill, in case the answer is lost."""
        self.append(ops.Proposed(root, self.owner.now_ns()))
        self.proposed.add(root)

    def arrive(self, root: Cid) -> None:
        """The Hub has taken ``root``: remember it over a kill, for the journal stays on the base before."""
        self.append(ops.Arrived(root, self.owner.now_ns()))
        self.agree()

    def agree(self, still: frozenset[Cid] = frozenset()) -> None:
        """Of the roots that were proposed from here the Hub turns out to have none any more but ``still``."""
        self.proposed = set(still)
        if not still:
            self.short.clear()

    def checkpointed(self) -> None:
        """The journal begins with all that is dirty now; nothing is left to record."""
        for node in self.unrecorded:
            for layer in node.content.layers:
                layer.unrecorded.clear()
        self.unrecorded.clear()
        self.garbage_drafts = 0
        self.owes_checkpoint = False
        self.footing.begin()

    # The changes themselves: they cannot fail, and replay uses them too

    def place(self, parent: DirectoryNode, name: bytes, node: Node, now_ns: int) -> None:
        """Put a node on a free name."""
        self.registry[node.inode] = node
        parent.override(name, node)
        self._entries_changed(parent, now_ns)
        self.remember(node)

    def take_away(self, parent: DirectoryNode, node: Node, now_ns: int) -> None:
        """Take a node off its name. It stays alive while it is open or known to the kernel."""
        name = node.name
        self.footing.left(node)
        if len(self.conflicts):
            self.conflicts.settle(self.path_under(parent, name))
        self.numbers.drop(node.inode, parent.inode, name)
        if isinstance(node, FileNode):
            self.unrecorded.discard(node)
            self._gives_back(node)
        parent.detach(node)
        parent.override(name, None)
        node.ctime_ns = now_ns
        self._entries_changed(parent, now_ns)
        self.reclaim(node)

    def move(
        self, node: Node, new_parent: DirectoryNode, new_name: bytes, target: Node | None, exchange: bool, now_ns: int
    ) -> None:
        """Move a node onto a name, over or in exchange with what is there."""
        old_parent, old_name = node.parent, node.name
        assert old_parent is not None, "a root cannot be renamed"
        self.footing.left(node)
        if target is not None:
            self.footing.left(target)
        for moved in (node, target) if exchange and target is not None else (node,):
            if isinstance(moved, DirectoryNode):
                moved.renamed = moved.link is None
            if isinstance(moved, DirectoryNode) or moved.link is not None or old_parent is not new_parent:
                self.moves += 1
        if len(self.conflicts):
            self.conflicts.moved(node.path(), self.path_under(new_parent, new_name), exchange=exchange)
        old_parent.detach(node)
        if target is not None:
            self.numbers.drop(target.inode, new_parent.inode, new_name)
            new_parent.detach(target)
        self.numbers.drop(node.inode, old_parent.inode, old_name)
        old_parent.override(old_name, target if exchange else None)
        new_parent.override(new_name, node)
        node.ctime_ns = now_ns
        self.remember(node)
        self._entries_changed(old_parent, now_ns)
        self._entries_changed(new_parent, now_ns)
        if target is not None:
            target.ctime_ns = now_ns
            if exchange:
                self.remember(target)
            else:
                if isinstance(target, FileNode):
                    self._gives_back(target)
                self.reclaim(target)

    def _gives_back(self, node: FileNode) -> None:
        if not self.replaying:  # what a replay brings is counted when it is done
            self.growth.note(-node.content.size_bytes)

    def apply_attributes(
        self, node: Node, mode: int | None, uid: int | None, gid: int | None, mtime_ns: int | None, now_ns: int
    ) -> None:
        """Change attributes of a node in memory."""
        old = node.attributes
        node.attributes = replace(
            old,
            mode=old.mode if mode is None else mode & 0o7777,
            uid=_owner(old.uid, uid),
            gid=_owner(old.gid, gid),
            mtime_ns=old.mtime_ns if mtime_ns is None else mtime_ns,
        )
        node.ctime_ns = now_ns
        self.remember(node)
        node.touch()
        self.noted(now_ns)

    def noted(self, now_ns: int) -> None:
        """Take note of a change: the clock of the push begins to run."""
        if self.changed_since_ns is None:
            self.changed_since_ns = now_ns
        self.changed_last_ns = now_ns
        if not self.replaying:
            self.on_change()

    def remember(self, node: Node) -> None:
        """Keep the number and ctime of a node for the next mount."""
        if node.parent is not None:
            number = Number(node.inode, node.ctime_ns, node.fallback_ns, print_of(node.kind, node.link))
            self.numbers.keep(node.parent.inode, node.name, number)

    def remember_root(self, parent: Inode, name: bytes) -> None:
        """Keep the number of the root, which stands at the top of an all-buckets mount, for the next mount."""
        self.numbers.keep(parent, name, Number(self.root.inode, self.root.ctime_ns, self.root.fallback_ns))

    def _entries_changed(self, directory: DirectoryNode, now_ns: int) -> None:
        directory.attributes = replace(directory.attributes, mtime_ns=now_ns)
        directory.ctime_ns = now_ns
        directory.touch()
        self.noted(now_ns)

    def append(self, op: ops.Op) -> None:
        """Write a journal record. Raises NoSpace, DiskFailed, and Corrupt for what builds on something that is stuck, with nothing
        recorded.

        After a rebase whose checkpoint found no room the journal still stands on the old base, and a record of what was done
        on the new one would mean something else there. Until the checkpoint is made up for, nothing is recorded.
        """
        if self.replaying:
            return
        if self.owes_checkpoint:
            raise NoSpace("the journal needs room to begin anew before it can take changes")
        stuck = beside(self.stuck, op) if self.stuck else self.stuck
        self.journal.append(op, frees_space=isinstance(op, ops.Remove))
        self.stuck = stuck

    def check_unstuck(self, node: Node) -> None:
        """Raise Corrupt when other bytes of ``node`` would be mixed up with changes that are stuck. For what is recorded later."""
        if self.stuck and not node.orphan:
            beside(self.stuck, ops.SetContent(node.path(), DraftId(0), (), 1, 1, 0, 0))

    def _ownership(self, parent: DirectoryNode, uid: int, gid: int) -> tuple[int | None, int | None]:
        if (parent.attributes.mode or 0) & stat.S_ISGID:
            gid = self.owner.gid if parent.attributes.gid is None else parent.attributes.gid
        return (None if uid == self.owner.uid else uid), (None if gid == self.owner.gid else gid)

    def _check_writable(self) -> None:
        if self.read_only:
            raise ReadOnly("the mount is read-only")

    def _check_carried(self, parent: DirectoryNode, name: bytes) -> None:
        check_name(name)
        if parent is self.root and name == SEED:
            raise NotPermitted("the name .textileseed belongs to the Hub")
        if parent.orphan:
            raise NotFound("the directory was removed")

    def _check_free(self, parent: DirectoryNode, name: bytes) -> None:
        self._check_writable()
        self._check_carried(parent, name)
        if self.find(parent, name) is not None:
            raise Exists(f"{name.decode()!r} exists")
        self.check_placing(parent, name)

    def _check_replaceable(self, node: Node, target: Node) -> None:
        if isinstance(target, DirectoryNode):
            if not isinstance(node, DirectoryNode):
                raise IsADirectory("the target is a directory")
            if not self.is_empty(target):
                raise NotEmpty("the target directory is not empty")
        elif isinstance(node, DirectoryNode):
            raise NotADirectory("the target is not a directory")

    # What the roles at the Hub allow. Without rights to ask (the owner's case) each of these is one comparison.

    def check_changing(self, node: Node) -> None:
        """Raise Denied when the Hub would refuse other bytes or attributes of ``node``. What was made here was asked about
        when it was, and what is open was when it was opened."""
        if self.rights is not None and not node.orphan and _in_base(node):
            self._require(node.path(), Touch.REPLACE)

    def _check_taking(self, node: Node) -> None:
        if self.rights is not None and _in_base(node):
            self._require(node.path(), Touch.REMOVE)

    def check_placing(self, parent: DirectoryNode, name: bytes) -> None:
        if self.rights is not None:
            known = self.base_entry(parent, name) is not None
            self._require(self.path_under(parent, name), Touch.REPLACE if known else Touch.ADD)

    def _require(self, path: str, touch: Touch) -> None:
        if self.rights is not None and not self.rights.may(path, touch):
            raise Denied(f"{path!r} may not be {touch.value} by you", hint="the owner of the bucket grants roles")

    def dirty_nodes(self) -> Iterator[Node]:
        """Every dirty node below the root, parents first."""
        waiting: list[Node] = [self.root] if self.root.dirty else []
        while waiting:
            node = waiting.pop()
            yield node
            if isinstance(node, DirectoryNode):
                waiting += node.dirty_children


def _owner(old: int | None, new: int | None) -> int | None:
    return old if new is None else None if new == ops.NOBODY else new


def _in_base(node: Node) -> bool:
    """Whether the Hub has something at the path of ``node``, as far as this mount knows."""
    return node.link is not None and not is_new_here(node)


def is_new_here(node: Node) -> bool:
    """Whether ``node``, or a folder above it, was given its name here."""
    at: Node = node
    while at.parent is not None:
        if at.name in at.parent.overrides:
            return True
        at = at.parent
    return False
