"""One bucket as base ⊕ overlay: its names, and every change to them.

The methods here are attempts in the sense of `base_tree`: they look first, then write the journal record, then change memory, and
nothing can fail after the record. Replaying a record runs the same change without writing it again, so what a restart brings
back is what the live operation did.
"""

from __future__ import annotations

import stat
from contextlib import suppress

from bucketfs import ops
from bucketfs.errors import (
    BucketfsError,
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
from bucketfs.names import SEED, check_name
from bucketfs.roles import PathChange
from bucketfs.types import Cid, NodeAttributes
from bucketfs.vfs.tree.file_io import record
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode, check_sound, is_below
from bucketfs.vfs.tree.pending import Overlay
from bucketfs.vfs.tree.stat_types import RenameFlags, SetAttr

TARGET_MAX = 4095


class Volume(Overlay):
    """The names and attributes of one bucket, and the changes to them."""

    @property
    def volume(self) -> Volume:
        return self

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

    def set_attributes(self, node: Node, change: SetAttr) -> None:
        """Change attributes, all but the size. What a node shows already is no change; a ctime and an atime are, but none that a
        push sends."""
        self._check_writable()
        shown = self.attr(node)
        now = self.owner.now_ns() if change.ctime_ns is None else change.ctime_ns
        mode = None if change.mode == shown.mode or isinstance(node, SymlinkNode) else change.mode
        uid = None if change.uid == shown.uid else change.uid
        gid = None if change.gid == shown.gid else change.gid
        mtime_ns = None if change.mtime_ns == shown.mtime_ns else change.mtime_ns
        if not (mode is uid is gid is mtime_ns is None):
            check_sound(node)
            # The record of what was written says the mtime along with it.
            if not node.orphan and not (mode is uid is gid is None and node in self.unrecorded):
                self.append(ops.SetAttributes(node.path(), mode, uid, gid, mtime_ns, now))
            self.apply_attributes(node, mode, uid, gid, mtime_ns, now)
        self.note_times(node, shown.atime_ns if change.atime_ns is None else change.atime_ns, now)

    def note_times(self, node: Node, atime_ns: int, ctime_ns: int) -> None:
        """Take the times that no push sends from the kernel, and keep them over a kill. They are no reason to fail: what has no
        room now is kept by the next checkpoint, or the table of numbers."""
        if (atime_ns, ctime_ns) == (node.atime_ns, node.ctime_ns):
            return
        told = node in self.unrecorded and atime_ns == node.atime_ns
        self.stamp(node, atime_ns, node.fallback_ns, ctime_ns)
        if node.orphan or told:
            return
        if not node.dirty and not (node.parent is not None and node.name in node.parent.overrides):
            # No record leads a replay here, which must not need the base for it.
            self.numbers.urge(node.inode)
            return
        with suppress(BucketfsError):
            self.append(stamp_of(node, node.path()))

    def propose(self, root: Cid) -> None:
        """The Hub is about to be asked for ``root``: remember it, also over a kill, in case the answer is lost."""
        self.append(ops.Proposed(root, self.owner.now_ns()))
        self.proposed.add(root)

    def arrive(self, root: Cid) -> None:
        """The Hub has taken ``root``: remember it over a kill, for the journal stays on the base before."""
        self.append(ops.Arrived(root, self.owner.now_ns()))
        self.agree()

    def checkpointed(self) -> None:
        """The journal begins with all that is dirty now; nothing is left to record."""
        for node in self.unrecorded:
            for layer in node.content.layers:
                layer.unrecorded.clear()
        self.unrecorded.clear()
        self.garbage_drafts = self.garbage_bytes = 0
        self.owes_checkpoint = False
        self.footing.begin()

    def append(self, op: ops.Op, *, frees_space: bool = False) -> None:
        """Write a journal record. Raises NoSpace, DiskFailed, with nothing recorded. ``frees_space``: as every removal does, so
        that it may use the room that is kept for these.

        After a rebase whose checkpoint found no room the journal still stands on the old base, and a record of what was done
        on the new one would mean something else there. Until the checkpoint is made up for, nothing is recorded.
        """
        if self.replaying:
            return
        if self.owes_checkpoint:
            raise NoSpace("the journal needs room to begin anew before it can take changes")
        self.journal.append(op, frees_space=frees_space or isinstance(op, ops.Remove))

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
            self._require(node.path(), PathChange.REPLACE)

    def _check_taking(self, node: Node) -> None:
        if self.rights is not None and _in_base(node):
            self._require(node.path(), PathChange.REMOVE)

    def check_placing(self, parent: DirectoryNode, name: bytes) -> None:
        if self.rights is not None:
            known = self.base_entry(parent, name) is not None
            self._require(self.path_under(parent, name), PathChange.REPLACE if known else PathChange.ADD)

    def _require(self, path: str, change: PathChange) -> None:
        if self.rights is not None and not self.rights.may(path, change):
            raise Denied(f"{path!r} may not be {change.value} by you", hint="the owner of the bucket grants roles")


def stamp_of(node: Node, path: str) -> ops.Stamp:
    """The record of what only this machine knows of ``node``, which is at ``path``."""
    held = node.content.base_held_bytes if isinstance(node, FileNode) else None
    return ops.Stamp(path, node.atime_ns, node.fallback_ns, held, node.ctime_ns)


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
