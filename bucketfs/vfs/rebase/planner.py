"""Deciding how the overlay comes to stand on a newer base: folder by folder, name by name, with nothing changed yet.

A folder that both sides have is a *meeting* of a node here with a directory there. Mostly the node rests on a directory of the old
base, and only the names that differ between that and the Hub's are looked at, and of these only those that are in memory here:
everything else is found at the new base when it is looked up. A folder that was made here, or came from elsewhere, *stands alone*:
then every name of it is looked at.

What becomes of a name is decided by `bucketfs.dag.judge`, and planned in a `RebasePlan`. Renames are followed first (see
`renames`): those made here where the Hub's side changed what was renamed, those made there where it was changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from bucketfs.dag import Entry, Outcome, Side, Verdict, judge
from bucketfs.errors import Corrupt
from bucketfs.names import SEED
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.rebase.limits import FolderLimits
from bucketfs.vfs.rebase.plan import RebasePlan
from bucketfs.vfs.rebase.renames import RenamedHere, RenamedThere
from bucketfs.vfs.rebase.resurrected import Resurrected
from bucketfs.vfs.rebase.sides import TwoTrees, against_memory, as_it_was, entry_here, rests_on
from bucketfs.vfs.rebase.truncated import TruncatedFiles
from bucketfs.vfs.snapshot import BuiltNode, agree
from bucketfs.vfs.tree import AttributesChanged, DirectoryNode, EntryChanged, FileNode, Node, Read, Volume, Wanted


class Planner:
    """One attempt to decide everything. ``alone`` are nodes whose renames are not followed, ``whole`` folders that are not compared
    with the Hub's name by name."""

    def __init__(
        self,
        volume: Volume,
        trees: TwoTrees,
        plan: RebasePlan,
        built: Mapping[Node, BuiltNode],
        *,
        mine: bool,
        alone: frozenset[Node],
        whole: frozenset[Node],
    ) -> None:
        self._volume = volume
        self._trees = trees
        self._plan = plan
        self._built = built
        self._mine = mine
        self._queue: list[Callable[[], None]] = []
        self._late: list[Callable[[], None]] = []
        self._again: list[Callable[[], None]] = []
        self._lacking: list[Read] = []
        self._theirs: dict[DirectoryNode, Link | None] = {}
        self._whole = whole
        self._limits = FolderLimits(volume, trees)
        self._here = RenamedHere(volume, trees, alone)
        self._there = RenamedThere(volume, trees, plan, alone)
        self._resurrected: Resurrected | None = None
        self._truncated = TruncatedFiles(volume, trees, plan, built, self._theirs, self._both)

    def decide(self, theirs: Link) -> None:
        """Plan for the whole tree. Raises Wanted when something was not looked at yet, Unfollowed with nodes whose renames lead
        into each other, or onto what else stands there, and Unbounded with a folder of which there is too much to be compared."""
        root = self._volume.root
        assert root.link is not None, "the root is always the base's"
        self._there.begin(root.link.cid, theirs.cid)
        self._try(partial(self._begin, theirs))
        if self._mine:
            self._late += self._truncated.tasks(theirs)
        self._go_on()
        # Behind the last read: these go by all that the plan has found, and an attempt that lacks something has not found
        # all.
        self._here.check()
        self._there.plan()
        if self._resurrected is not None:
            self._resurrected.decide()

    def explore(self) -> None:
        """After Wanted and a `TwoTrees.fetch`: go on from where the plan stood, to see what else will lack. Raises Wanted while
        something does. What was changed here meanwhile makes no difference to what the trees hold, but to what is to be done: a
        plan that was explored is not carried out."""
        self._go_on()

    def _begin(self, theirs: Link) -> None:
        root = self._volume.root
        if not self._trees.is_directory(theirs):
            raise Corrupt(
                "the bucket's root is not a directory that can be read",
                hint="local changes are kept; sync resumes when the root can be read",
            )
        self._meet(root, root.link, theirs, self._verdict(root, root.link, theirs))

    def _go_on(self) -> None:
        """Plan level by level. Folders inside folders wait in a list, for a path may have more levels than Python has frames; and
        all of a level is looked at before what lacks is fetched."""
        self._queue, self._again, self._lacking = [*self._again, *self._queue], [], []
        while self._queue or self._late:
            if not self._queue:
                if self._again:
                    break
                # What depends on how the folders around it met comes when they have.
                self._queue, self._late = self._late, []
            level, self._queue = self._queue, []
            for task in level:
                self._try(task)
            self._queue += [] if self._resurrected is None else self._resurrected.next()
        if self._again:
            raise Wanted(self._lacking)
        self._there.resolve(self._theirs, self._here.followed)

    def _try(self, task: Callable[[], None]) -> None:
        """Run a task, or put it off until what it lacks was fetched. A task queues others only after its last read, so that none
        is queued twice."""
        try:
            task()
        except Wanted as wanted:
            self._again.append(task)
            self._lacking += wanted.reads

    # Folders

    def _meet(self, node: DirectoryNode, base: Link | None, theirs: Link, verdict: Verdict) -> None:
        """A folder of both sides; ``base`` is what both began with."""
        self._theirs[node] = theirs
        there = self._trees.node(theirs)
        their_attributes = there.entry.attributes
        if (self._mine and node.changed) or verdict.outcome is Outcome.OURS:
            attributes = node.attributes
        else:
            attributes = verdict.attributes if verdict.outcome is Outcome.MERGE_INSIDE else their_attributes
        if base is not None and rests_on(node, base):
            self._queue.append(partial(self._resting, node, base.cid, theirs.cid))
        else:
            self._queue.append(partial(self._alone, node, self._directory(base), theirs.cid))
        self._plan.stand_on(node, there, attributes)
        if not rests_on(node, theirs):
            self._plan.forget(node.link)
        if node.lookups or node is self._volume.root:
            self._plan.invalidate(AttributesChanged(node.inode))

    def _resting(self, node: DirectoryNode, base: Cid, theirs: Cid) -> None:
        if base == theirs:
            return
        known = node.lookups > 0 or node is self._volume.root
        changes = self._trees.changes(base, theirs)
        lost = changes is None
        for name, (was, now) in (against_memory(node, self._trees.entries(theirs)) if changes is None else changes).items():
            if node is self._volume.root and name == SEED:
                continue
            self._plan.forget(was)
            if name in node.children or name in node.overrides:
                self._try(partial(self._name, node, name, was, now))
            elif was is None and self._mine and not lost:
                # It was proposed from here, and is not here any more.
                self._plan.remove(node, name)
            elif was is None and known:
                self._plan.invalidate(EntryChanged(node.inode, name))

    def _alone(self, node: DirectoryNode, base: Cid | None, theirs: Cid | None) -> None:
        """A folder that does not rest on the base: all its names are its own. ``theirs`` None: the Hub's side removed it."""
        old = {} if base is None else self._trees.base_entries(base)
        new = {} if theirs is None else self._trees.entries(theirs)
        self._limits.bring_in(node)
        for name in dict.fromkeys([*old, *new, *node.overrides, *node.children]):
            was, now, ours = old.get(name), new.get(name), node.children.get(name)
            if (was and was.cid) != (now and now.cid):
                self._try(partial(self._name, node, name, was, now, standing=True))
            elif ours is None and now is None:
                self._plan.drop(node, name)
            elif ours is None:
                self._plan.remove(node, name)
            elif not ours.dirty and rests_on(ours, now):
                self._here.contest(ours)
                self._plan.drop(node, name)
            else:
                self._plan.keep(node, ours)

    def _removed_there(self, node: DirectoryNode, base: Cid | None) -> None:
        """A folder that the Hub's side removed, as far as it rests on the base: each change in it stands for itself."""
        if base is None or not rests_on(node, Link(base, 0)):
            self._alone(node, base, None)
            return
        for child in list(node.children.values()):
            if child.name not in node.overrides:
                self._try(partial(self._name, node, child.name, child.link, None))
            else:
                self._try(partial(self._overridden_name, node, child.name, base))

    def _overridden_name(self, node: DirectoryNode, name: bytes, base: Cid) -> None:
        self._name(node, name, self._trees.base_entry(base, name), None)

    def _directory(self, link: Link | None) -> Cid | None:
        """The CID of what is a directory."""
        return link.cid if link is not None and self._trees.is_directory(link) else None

    # Names

    def _name(
        self, parent: DirectoryNode, name: bytes, was: Link | None, now: Link | None, *, standing: bool = False
    ) -> None:
        """Plan for one name whose base changed. ``standing``: the folder stands alone, so whatever it has there is an override."""
        ours = parent.children.get(name)
        overriding = standing or name in parent.overrides
        if was is not None and isinstance(ours, DirectoryNode) and rests_on(ours, was):
            self._trees.expect_folder(was.cid)
        if self._mine and (overriding or (ours is not None and ours.dirty)):
            self._newer(parent, ours, was, now, overriding)
        elif ours is None:
            self._gone_here(parent, name, was, now)
        elif now is not None and ours in self._built and self._built[ours].link.cid == now.cid:
            self._here.contest(ours)
            self._plan.add(partial(self._agree, parent, ours, now))
        elif overriding and rests_on(ours, now):
            # Both sides moved the same node here, or it was away and is back. So what stands at its old name now was not moved
            # here: it is another node, or one of two copies.
            self._here.contest(ours)
            self._plan.drop(parent, name)
            self._plan.perhaps_clean(ours)
        elif overriding and ours.link is not None and not rests_on(ours, was):
            self._came_here(parent, ours, was, now)
        elif not overriding and not ours.dirty:
            self._untouched(parent, ours, was, now)
        elif now is None and was is not None and self._there.follow(ours, was):
            if isinstance(ours, DirectoryNode) and not rests_on(ours, was):
                # Removed and made anew here, and moved as it was there.
                self._meet(ours, was, was, self._verdict(ours, was, was))
        else:
            self._judge(parent, ours, was, now)

    def _newer(self, parent: DirectoryNode, ours: Node | None, was: Link | None, now: Link | None, overriding: bool) -> None:
        """The Hub has an older state of ours: ours stands, as an override of it."""
        if ours is None or overriding:
            return
        if isinstance(ours, DirectoryNode) and now is not None and self._trees.is_directory(now):
            self._meet(ours, was, now, self._verdict(ours, was, now))
        else:
            self._plan.keep(parent, ours)

    def _gone_here(self, parent: DirectoryNode, name: bytes, was: Link | None, now: Link | None) -> None:
        """Removed here. What the Hub's side changed survives; where it removed it too, all agree."""
        if now is None:
            self._plan.drop(parent, name)
            return
        if was is not None and self._followed(was, now, parent, name):
            return
        verdict = judge(self._trees.entry_at(was), None, self._trees.entry_at(now))
        if was is not None and verdict.outcome is Outcome.THEIRS_INSIDE:
            self._resurrected = self._resurrected or Resurrected(self._trees, self._plan, self._followed)
            self._resurrected.add(parent, name, was, now, keep=verdict.keep)
        else:
            self._plan.drop(parent, name)
            self._plan.invalidate(EntryChanged(parent.inode, name))

    def _untouched(self, parent: DirectoryNode, ours: Node, was: Link | None, now: Link | None) -> None:
        """Only the Hub's side changed it."""
        if now is None:
            if not (self._volume.tree.may_be_written(ours) and was is not None and self._there.follow(ours, was)):
                self._follow_open(ours)
                self._plan.let_go(parent, ours)
            return
        writing = isinstance(ours, FileNode) and ours.writers > 0
        if isinstance(ours, DirectoryNode) or writing:
            there = self._trees.node(now)
            if isinstance(ours, DirectoryNode) and there.entry.kind is Kind.DIRECTORY:
                self._meet(ours, was, now, self._verdict(ours, was, now))
                return
            if writing and self._entry(ours).content == there.entry.content and there.entry.kind is Kind.FILE:
                self._plan.rest_on(parent, ours, there, there.entry.attributes, in_place=True)
                return
        self._plan.let_go(parent, ours)

    def _follow_open(self, folder: Node) -> None:
        """What is open for writing in a folder that the Hub's side removed, and was moved out of it before, goes along."""
        for node in folder.walk() if isinstance(folder, DirectoryNode) else ():
            if isinstance(node, FileNode) and node.writers and node.link is not None:
                self._there.follow(node, node.link)

    def _came_here(self, parent: DirectoryNode, ours: Node, was: Link | None, now: Link | None) -> None:
        """It was renamed to here, and the Hub's side made or changed something of the name."""
        if now is None:
            self._plan.keep(parent, ours)
            return
        self._here.contest(ours)

        def later() -> None:
            # When the Hub's side took it off its old name, too, both sides renamed the same node.
            base = ours.link if self._here.left_there(ours, self._theirs, self._there.left_one_name) else was
            self._judge(parent, ours, base, now)

        self._late.append(later)

    def _followed(self, was: Link, now: Link, parent: DirectoryNode | None, name: bytes) -> bool:
        """Whether what was at a name stands elsewhere here, so that what the Hub's side made of it is merged there."""
        node = self._here.target(was, parent, name)
        if node is None or node.parent is None:
            return False
        kind = self._trees.node(now).entry.kind
        if kind is not node.kind or self._trees.node(was).entry.kind is not kind:
            return False
        self._here.follow(node)
        if isinstance(node, DirectoryNode):
            if parent is not None:
                self._there.stands(parent, name, node)
            self._meet(node, was, now, self._verdict(node, was, now))
        else:
            self._late.append(partial(self._judge, node.parent, node, was, now, in_place=False))
        return True

    # Verdicts

    def _verdict(self, ours: Node, was: Link | None, now: Link | None) -> Verdict:
        return judge(self._trees.entry_at(was), self._entry(ours), self._trees.entry_at(now))

    def _judge(
        self, parent: DirectoryNode, ours: Node, was: Link | None, now: Link | None, *, in_place: bool = True
    ) -> None:
        """Changed on both sides. ``in_place``: the new base has ``now`` at this very name."""
        verdict = self._verdict(ours, was, now)
        if now is None:
            if isinstance(ours, DirectoryNode) and verdict.outcome is Outcome.OURS_INSIDE:
                self._plan.stand_alone(parent, ours, keep=verdict.keep)
                self._queue.append(partial(self._removed_there, ours, self._directory(was)))
            elif verdict.outcome is Outcome.OURS:
                self._plan.keep(parent, ours)
            else:
                self._plan.let_go(parent, ours)
        elif ours in self._whole:
            self._ours_beside(parent, ours, now, in_place)
        elif isinstance(ours, DirectoryNode) and self._trees.is_directory(now):
            if in_place:
                self._plan.drop(parent, ours.name)
            self._meet(ours, was, now, verdict)
        elif isinstance(ours, DirectoryNode) and was is not None and as_it_was(ours, was, self._trees, self._built):
            self._plan.let_go(parent, ours)
        else:
            self._two(parent, ours, now, verdict, in_place)

    def _both(self, parent: DirectoryNode, ours: FileNode, now: Link, in_place: bool) -> None:
        self._judge(parent, ours, None, now, in_place=in_place)

    def _two(self, parent: DirectoryNode, ours: Node, now: Link, verdict: Verdict, in_place: bool) -> None:
        """Both have something, of which at least one is no directory."""
        there, mine, outcome = self._trees.node(now), self._entry(ours), verdict.outcome
        theirs = there.entry
        if outcome is Outcome.THEIRS_BESIDE:
            self._plan.theirs_beside(parent, ours, self._copy_name(parent, ours.name), there)
            return
        if outcome is Outcome.OURS_BESIDE:
            self._ours_beside(parent, ours, now, in_place)
            return
        attributes = {Outcome.OURS: mine.attributes, Outcome.THEIRS: theirs.attributes}.get(outcome, verdict.attributes)
        if mine.kind is theirs.kind and mine.content == theirs.content:
            # With the write-back cache the kernel keeps the mtime of an inode that it knows; only a new inode gets a new one.
            stale = isinstance(ours, FileNode) and ours.lookups and attributes.mtime_ns != ours.attributes.mtime_ns
            if stale and not self._volume.tree.may_be_written(ours):
                self._plan.replace(parent, ours, there, attributes, in_place=in_place)
            else:
                self._plan.rest_on(parent, ours, there, attributes, in_place=in_place)
        elif outcome is Outcome.OURS:
            self._plan.keep(parent, ours)
        elif verdict.content is Side.OURS:
            self._plan.keep_with(parent, ours, attributes)
        else:
            self._plan.replace(parent, ours, there, attributes, in_place=in_place)

    def _ours_beside(self, parent: DirectoryNode, ours: Node, now: Link, in_place: bool) -> None:
        copy = self._copy_name(parent, ours.name)
        self._plan.ours_beside(parent, ours, copy, self._trees.node(now), in_place=in_place)

    def _copy_name(self, parent: DirectoryNode, name: bytes) -> bytes:
        theirs = self._theirs.get(parent, parent.link)

        def taken(candidate: bytes) -> bool:
            """Whether something in ``parent`` has the name, here or at the Hub."""
            return candidate in parent.children or (
                theirs is not None and self._trees.entry(theirs.cid, candidate) is not None
            )

        return self._plan.copy_name(parent, name, taken)

    def _agree(self, parent: DirectoryNode, ours: Node, theirs: Link) -> None:
        parent.overrides.pop(ours.name, None)
        self._plan.perhaps_clean(*agree(self._volume.tree, ours, theirs, self._built), parent)

    def _entry(self, node: Node) -> Entry:
        return entry_here(node, self._trees, self._built)
