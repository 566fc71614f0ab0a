"""One bucket of a mount: every change to it, checked, recorded in the journal and made.

The methods that change something are attempts in the sense of `base_tree`: they look first, then write the journal record, then
change memory, and nothing can fail after the record. A replay of the record makes the same change without writing it again, so a
restart brings back what the live operation did.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from bucketfs.errors import (
    BucketfsError,
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
    TooLarge,
)
from bucketfs.journal import Journal, ops
from bucketfs.names import SEED, check_name
from bucketfs.types import BucketKey, Cid, Inode
from bucketfs.vfs.tree.file_io import CUT_BYTES_MIN, SIZE_MAX, bytes_beyond, free_cut_drafts
from bucketfs.vfs.tree.namespace import Namespace
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode, check_sound, is_below
from bucketfs.vfs.tree.pending import Made, Pending, content_record, stamp_of
from bucketfs.vfs.tree.stat_types import RenameFlags, SetAttr

T = TypeVar("T")

TARGET_MAX = 4095


class Volume:
    """One bucket: what it shows (``tree``), what was changed here (``pending``, and ``push``: how far that is at the Hub), and the
    ``journal`` that keeps the changes."""

    def __init__(
        self, key: BucketKey, tree: Namespace, pending: Pending, journal: Journal, *, read_only: bool = False
    ) -> None:
        self.key = key
        self.tree = tree
        self.pending = pending
        self.push = pending.push
        self.journal = journal
        self.read_only = read_only
        self.owes_checkpoint = False
        """Whether nothing can be recorded until the journal begins anew."""
        self._on_base_moved: Callable[[Cid, Cid, bool], None] = lambda old, new, ours: None

    @property
    def base(self) -> Cid:
        """The root that the Hub and this machine agreed on last."""
        return self.tree.base

    @property
    def root(self) -> DirectoryNode:
        """See `Namespace`."""
        return self.tree.root

    def now_ns(self) -> int:
        """The time by the clock of the mount."""
        return self.tree.owner.now_ns()

    async def load(self, attempt: Callable[[], T]) -> T:
        """See `BaseTree.load`."""
        return await self.tree.base_tree.load(attempt)

    async def decide(self, attempt: Callable[[], T], make_room: Callable[[], Awaitable[int]]) -> T:
        """As `load`; when the disk is full, once more after ``make_room`` has freed some bytes."""
        try:
            return await self.load(attempt)
        except NoSpace:
            if not await make_room():
                raise
        return await self.load(attempt)

    def listen(
        self,
        *,
        first_change: Callable[[], None] | None = None,
        garbage: Callable[[], None] | None = None,
        file_gone: Callable[[FileNode], None] | None = None,
        base_moved: Callable[[Cid, Cid, bool], None] | None = None,
    ) -> None:
        """Have each of these called: something waits that asks for a push, and nothing did before; drafts became garbage; a
        file lost its name; the base was one root and is another one, which was pushed from here or not."""
        self.push.on_first_change = first_change or self.push.on_first_change
        self.pending.on_garbage = garbage or self.pending.on_garbage
        self.pending.on_file_gone = file_gone or self.pending.on_file_gone
        self._on_base_moved = base_moved or self._on_base_moved

    # Names

    def create(self, parent: DirectoryNode, name: bytes, mode: int, uid: int, gid: int) -> FileNode:
        """A new empty file."""
        made = self._make(parent, name, ops.Create, mode & 0o7777, uid, gid)
        assert isinstance(made, FileNode)
        return made

    def make_directory(self, parent: DirectoryNode, name: bytes, mode: int, uid: int, gid: int) -> DirectoryNode:
        """A new empty directory."""
        inherited = (parent.attributes.mode or 0) & stat.S_ISGID
        made = self._make(parent, name, ops.MakeDirectory, mode & 0o7777 | inherited, uid, gid)
        assert isinstance(made, DirectoryNode)
        return made

    def make_symlink(self, parent: DirectoryNode, name: bytes, target: bytes, uid: int, gid: int) -> Node:
        """A new symbolic link."""
        if len(target) > TARGET_MAX:
            raise NameTooLong(f"a symlink target of {len(target)} bytes; at most {TARGET_MAX} fit")
        try:
            text = target.decode()
        except UnicodeDecodeError as error:
            raise NameInvalid("the symlink target is not UTF-8") from error
        return self._make(parent, name, ops.MakeSymlink, text, uid, gid)

    def _make(
        self,
        parent: DirectoryNode,
        name: bytes,
        op_of: Callable[[str, Inode, T, int | None, int | None, int, int], Made],
        what: T,
        uid: int,
        gid: int,
    ) -> Node:
        self._check_free(parent, name)
        owner, now_ns = self.tree.owner, self.now_ns()
        if (parent.attributes.mode or 0) & stat.S_ISGID:
            gid = owner.gid if parent.attributes.gid is None else parent.attributes.gid
        # An owner that is the mount's is not kept: another machine shows its own.
        own_uid, own_gid = (None if uid == owner.uid else uid), (None if gid == owner.gid else gid)
        op = op_of(parent.child_path(name), self.tree.numbers.fresh(), what, own_uid, own_gid, now_ns, now_ns)
        self.append(op)
        node = self.pending.make(op)
        self.pending.place(parent, name, node, now_ns)
        node.touch()
        return node

    def remove(self, parent: DirectoryNode, name: bytes, *, directory: bool) -> Node:
        """Take a name away: an empty directory's when ``directory``, else that of a file or symbolic link."""
        self._check_writable()
        node = self.tree.child(parent, name)
        if node.orphan:
            raise NotFound("the directory was removed elsewhere")
        if directory:
            if not isinstance(node, DirectoryNode):
                raise NotADirectory("not a directory")
            if not self.tree.is_empty(node):
                raise NotEmpty("the directory is not empty")
        elif isinstance(node, DirectoryNode):
            raise IsADirectory("a directory is removed with rmdir")
        self.tree.check_taking(node)
        now_ns = self.now_ns()
        self.append(ops.Remove(node.path(), now_ns))
        self.pending.take_away(parent, node, now_ns)
        return node

    def rename(
        self, old_parent: DirectoryNode, old_name: bytes, new_parent: DirectoryNode, new_name: bytes, flags: RenameFlags
    ) -> None:
        """Move a name, with the checks of rename(2)."""
        self._check_writable()
        self._check_carried(new_parent, new_name)
        node = self.tree.child(old_parent, old_name)
        if node.orphan:
            raise NotFound("the directory was removed elsewhere")
        target = self.tree.find(new_parent, new_name)
        exchange = RenameFlags.EXCHANGE in flags
        if exchange and target is None:
            raise NotFound("nothing to exchange with")
        if target is not None and RenameFlags.NOREPLACE in flags:
            raise Exists("the target exists")
        if target is node:
            return
        if is_below(new_parent, node) or (exchange and target is not None and is_below(old_parent, target)):
            raise InvalidArgument("a directory cannot move into itself")
        if target is not None and not exchange:
            self._check_replaceable(node, target)
        self.tree.check_placing(new_parent, new_name)
        if exchange:
            self.tree.check_placing(old_parent, old_name)
        else:
            self.tree.check_taking(node)
        # What was written and not closed goes with the name: rename(2) over an old file is how programs replace it for good.
        for moved in (node, target) if exchange else (node,):
            if isinstance(moved, FileNode) and moved in self.pending.unrecorded:
                self.record(moved)
        now_ns = self.now_ns()
        # One record for both names of an exchange: a kill must not leave a tree with one of them.
        self.append(ops.Rename(node.path(), new_parent.child_path(new_name), exchange, now_ns))
        self.pending.move(node, new_parent, new_name, target, exchange, now_ns)

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
        if self.tree.find(parent, name) is not None:
            raise Exists(f"{name.decode()!r} exists")
        self.tree.check_placing(parent, name)

    def _check_replaceable(self, node: Node, target: Node) -> None:
        if isinstance(target, DirectoryNode):
            if not isinstance(node, DirectoryNode):
                raise IsADirectory("the target is a directory")
            if not self.tree.is_empty(target):
                raise NotEmpty("the target directory is not empty")
        elif isinstance(node, DirectoryNode):
            raise NotADirectory("the target is not a directory")

    # Attributes

    def set_attributes(self, node: Node, change: SetAttr) -> None:
        """Change attributes, all but the size. Setting what a node shows already is no change. A ctime and an atime are kept
        here, and no push sends them."""
        self._check_writable()
        shown = self.tree.attr(node)
        now_ns = self.now_ns() if change.ctime_ns is None else change.ctime_ns
        mode = None if change.mode == shown.mode or isinstance(node, SymlinkNode) else change.mode
        uid = None if change.uid == shown.uid else change.uid
        gid = None if change.gid == shown.gid else change.gid
        mtime_ns = None if change.mtime_ns == shown.mtime_ns else change.mtime_ns
        if not (mode is uid is gid is mtime_ns is None):
            check_sound(node)
            # The record of what was written says the mtime along with it.
            if not node.orphan and not (mode is uid is gid is None and node in self.pending.unrecorded):
                self.append(ops.SetAttributes(node.path(), mode, uid, gid, mtime_ns, now_ns))
            self.pending.apply_attributes(node, mode, uid, gid, mtime_ns, now_ns)
        self.note_times(node, shown.atime_ns if change.atime_ns is None else change.atime_ns, now_ns)

    def note_times(self, node: Node, atime_ns: int, ctime_ns: int) -> None:
        """Take the times that no push sends from the kernel, and keep them over a kill. They are no reason to fail: what has no
        room now is kept by the next checkpoint, or the table of numbers."""
        if (atime_ns, ctime_ns) == (node.atime_ns, node.ctime_ns):
            return
        told = node in self.pending.unrecorded and atime_ns == node.atime_ns
        self.tree.stamp(node, atime_ns, node.fallback_ns, ctime_ns)
        if node.orphan or told:
            return
        if not node.dirty and not (node.parent is not None and node.name in node.parent.overrides):
            # No record leads a replay here, which must not need the base for it.
            self.tree.numbers.urge(node.inode)
            return
        with suppress(BucketfsError):
            self.append(stamp_of(node, node.path()))

    # Bytes

    def write(self, node: FileNode, offset: int, data: bytes) -> None:
        """Write ``data`` into the draft of a file. Raises NoSpace, DiskFailed or OverQuota with nothing changed."""
        self._check_writable()
        stop = offset + len(data)
        if stop > SIZE_MAX:
            raise TooLarge("the file would be larger than any size can say")
        if not data:
            return
        check_sound(node)
        # An unlinked file never goes to the Hub, and so takes none of its quota.
        orphan = node.orphan
        grown_bytes = 0 if orphan else max(0, stop - node.content.size_bytes)
        # Taken first, and given back when the write fails: OverQuota comes with nothing changed.
        self.push.grow(grown_bytes)
        try:
            node.content.write(offset, data, self.journal.drafts.new)
        except BucketfsError:
            self.push.grew(-grown_bytes)
            raise
        # The kernel keeps the times of a file that it caches writes for, and this may be a write of half a minute ago: its
        # mtime has come by setattr, or will come before the close. It does not come when it is the one that we know, as after
        # two writes within a tick of the kernel's clock; a time of our own would then differ from what programs see.
        if node.attributes.mtime_ns is None:
            node.attributes = replace(node.attributes, mtime_ns=node.mtime_ns)
        node.touch()
        if not orphan:
            self.pending.unrecorded.add(node)
            self.push.changed(self.now_ns())

    def truncate(self, node: FileNode, size_bytes: int, mtime_ns: int | None = None, ctime_ns: int | None = None) -> None:
        """Cut or grow a file; recorded at once, because what a cut took away must not come back by a later growth. The times
        are those that the kernel tells, or now. Raises NoSpace, DiskFailed or OverQuota with nothing changed."""
        self._check_writable()
        if size_bytes > SIZE_MAX:
            raise TooLarge("the file would be larger than any size can say")
        if size_bytes:
            check_sound(node)
        if size_bytes == node.content.size_bytes and not node.damaged:
            return
        # What was written before the cut must be recorded before it: a replay applies records in their order.
        self.record(node)
        content, now_ns, orphan = node.content, self.now_ns(), node.orphan
        mtime_ns, ctime_ns = now_ns if mtime_ns is None else mtime_ns, now_ns if ctime_ns is None else ctime_ns
        grown_bytes = 0 if orphan else size_bytes - content.size_bytes
        self.push.grow(grown_bytes)
        try:
            top = content.layers[-1] if content.layers else None
            cut_bytes = bytes_beyond(content, size_bytes)
            # Sealed bytes stay what they are: their draft can only go as a whole.
            anew = top is not None and cut_bytes > CUT_BYTES_MIN and top.draft.sealed_in(size_bytes, content.size_bytes)
            layer = content.begin(self.journal.drafts.new) if anew else content.writable(self.journal.drafts.new)
            if not orphan:
                # Memory changes behind the record: a cut that could not be recorded must not be seen, for a restart would undo it.
                limit = min(layer.lower_limit_bytes, size_bytes)
                op = ops.SetContent(node.path(), layer.draft.id, (), limit, size_bytes, mtime_ns, ctime_ns)
                self.append(op, frees_space=size_bytes < content.size_bytes)
        except BucketfsError:
            self.push.grew(-grown_bytes)
            raise
        content.truncate(layer, size_bytes)
        layer.draft.cut(size_bytes)
        node.damaged = False
        node.attributes = replace(node.attributes, mtime_ns=mtime_ns)
        node.ctime_ns = ctime_ns
        node.touch()
        if not orphan:
            self.tree.remember(node)
            self.push.changed(now_ns)
        self.pending.unrecorded.discard(node)
        if cut_bytes > CUT_BYTES_MIN:
            if layer is top:
                self.pending.leave_garbage(cut_bytes)
            else:
                free_cut_drafts(self.pending, node)

    def record(self, node: FileNode) -> None:
        """Write the journal record of what was written since the last one. Orphans have no records."""
        if not node.orphan:
            for layer in node.content.layers:
                if layer.unrecorded:
                    self.append(content_record(node, node.path(), layer, layer.unrecorded))
                    layer.unrecorded.clear()
        self.pending.unrecorded.discard(node)

    # The journal

    def append(self, op: ops.Op, *, frees_space: bool = False) -> None:
        """Write a journal record. Raises NoSpace, DiskFailed, with nothing recorded. ``frees_space``: as every removal does, so
        that it may use the room that is kept for these.

        After a rebase whose checkpoint found no room the journal still belongs to the old base, and a record of what was done
        on the new one would mean something else there. Until the checkpoint is made up for, nothing is recorded.
        """
        if self.pending.replaying:
            return
        if self.owes_checkpoint:
            raise NoSpace("the journal needs room to begin anew before it can take changes")
        self.journal.append(op, frees_space=frees_space or isinstance(op, ops.Remove))

    def propose(self, root: Cid) -> None:
        """The Hub is about to be asked for ``root``: remember it, also over a kill, in case the answer is lost."""
        self.append(ops.Proposed(root, self.now_ns()))
        self.push.propose(root)

    def arrive(self, root: Cid) -> None:
        """The Hub has taken ``root``: remember it over a kill, for the journal stays on the base before."""
        self.append(ops.Arrived(root, self.now_ns()))
        self.agree()

    def agree(self, still: Collection[Cid] = ()) -> None:
        """Of the roots that were proposed from here the Hub will turn out to have none any more but ``still``."""
        for node in self.push.agree(still):
            self.tree.reclaim(node)

    def base_moved(self, old: Cid) -> None:
        """The base was ``old`` and is another one now. To be called before `agree`, which forgets which roots were ours."""
        if old != self.base:
            self._on_base_moved(old, self.base, self.base in self.push.proposed)
        self.push.roots.leave(old, self.base)

    def owe_checkpoint(self) -> None:
        """The base is another one than the journal's: nothing is recorded until the journal begins anew."""
        self.owes_checkpoint = True

    def checkpointed(self) -> None:
        """The journal begins with all that is dirty now; nothing is left to record."""
        self.pending.recorded()
        self.owes_checkpoint = False
        # Behind the segment: until it is written the old journal needs what was pinned for it.
        self.tree.base_pins.restart()
