"""Renames that meet changes of the other side: the change goes with the name.

A rename is a name that is gone, and whose node, the very same CID, stands at another name of the same side. It is told from a copy
and from chance by there being one such node and one such name. The two sides are searched differently: here by the links of
overrides; there by comparing the Hub's tree with the base (`find_moved`), and only when something that was changed here has lost
its name there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from bucketfs.dag import TreePath
from bucketfs.types import Cid, Link
from bucketfs.vfs.rebase.plan import RebasePlan
from bucketfs.vfs.rebase.sides import TreeNode, TwoTrees, rests_on
from bucketfs.vfs.tree import DirectoryNode, Node, Volume, together


class Unfollowed(Exception):
    """The renames of these nodes cannot be followed: the plan is to be made anew without them. Internal to a rebase."""

    def __init__(self, nodes: Collection[Node]) -> None:
        super().__init__("renames that cannot be followed")
        self.nodes = nodes


class RenamedHere:
    """What was renamed here since the base. ``followed`` are the nodes that took in what the Hub's side changed."""

    def __init__(self, volume: Volume, trees: TwoTrees, alone: frozenset[Node]) -> None:
        self._trees = trees
        self._alone = alone
        self._placed: dict[Cid, list[Node]] = {}
        self._vanished: list[tuple[DirectoryNode, bytes]] = []
        self._left: Counter[Cid] | None = None
        self._contested: set[Node] = set()
        self._twice: set[Node] = set()
        self.followed: set[Node] = set()
        for node in volume.tree.dirty_nodes():
            if isinstance(node, DirectoryNode):
                for name, override in node.overrides.items():
                    if override is None:
                        self._vanished.append((node, name))
                    elif override.link is not None:
                        self._placed.setdefault(override.link.cid, []).append(override)

    def target(self, was: Link, parent: DirectoryNode | None, name: bytes) -> Node | None:
        """Where ``was`` stands now that was taken off ``name`` in ``parent`` (or, with None, went with the folder it was in)."""
        placed = self._placed.get(was.cid, [])
        if len(placed) != 1 or placed[0] in self._alone or placed[0].parent is None:
            return None
        node, home = placed[0], placed[0].parent
        # The base has the very same there, so it was not moved to this name.
        if rests_on(node, self._base_at(home, node.name)):
            return None
        if self._left is None:
            self._left = Counter(link.cid for link in self._vanished_links() if link is not None)
        # Of the names that this very node is gone from, the one that is asked about must be the only one: with more it would
        # be a guess which of them was moved. What went with its folder is not among them.
        itself = parent is not None and parent.overrides.get(name, parent) is None
        return node if self._left[was.cid] == itself else None

    def _vanished_links(self) -> list[Link | None]:
        return together(lambda place: self._base_at(*place), self._vanished)

    def left_there(
        self, node: Node, theirs: Mapping[DirectoryNode, Link | None], left_one_name: Callable[[Cid], bool]
    ) -> bool:
        """Whether the Hub's side took ``node`` off its old name, too. ``left_one_name`` answers for what was in a folder that was
        removed here."""
        if node.link is None or node in self._alone or len(self._placed.get(node.link.cid, [])) != 1:
            return False
        old = [place for place, link in zip(self._vanished, self._vanished_links(), strict=True) if rests_on(node, link)]
        if not old:
            return left_one_name(node.link.cid)
        if len(old) > 1:
            return False
        parent, name = old[0]
        there = theirs.get(parent, parent.link)
        return there is None or self._trees.entry(there.cid, name) is None

    def _base_at(self, parent: DirectoryNode, name: bytes) -> Link | None:
        return None if parent.link is None else self._trees.base_entry(parent.link.cid, name)

    def follow(self, node: Node) -> None:
        """``node`` is to take in what the Hub's side made of it at its old name."""
        if node in self.followed:
            self._twice.add(node)
        self.followed.add(node)

    def contest(self, node: Node) -> None:
        """The Hub's side has something at the name that ``node`` was given, be it the very same."""
        self._contested.add(node)

    def check(self) -> None:
        """Raise Unfollowed for nodes that are to take in a change and meet another at their own name, or that two names claim: of
        equal nodes in folders that were removed here only one was moved, and which is not known."""
        both = (self.followed & self._contested) | self._twice
        if both:
            raise Unfollowed(both)


@dataclass(frozen=True, slots=True)
class _Move:
    """A node that goes to ``path``, where the Hub's tree has ``link``."""

    node: Node
    path: TreePath
    link: Link


@dataclass(frozen=True, slots=True)
class _Home:
    """A directory of the Hub's tree: the node ``top`` here, and those below it that are not in memory yet."""

    top: DirectoryNode
    below: tuple[tuple[bytes, TreeNode], ...]


class RenamedThere:
    """What the Hub's side renamed since the base, as far as it was changed here."""

    def __init__(self, volume: Volume, trees: TwoTrees, plan: RebasePlan, alone: frozenset[Node]) -> None:
        self._volume = volume
        self._trees = trees
        self._plan = plan
        self._alone = alone
        self._stands: dict[tuple[DirectoryNode, bytes], DirectoryNode] = {}
        self._homes: dict[Node, _Home] = {}
        self._moves: list[_Move] = []
        self._old = self._new = Cid(b"")

    def begin(self, old: Cid, new: Cid) -> None:
        """The roots of the two trees."""
        self._old, self._new = old, new

    def stands(self, parent: DirectoryNode, name: bytes, node: DirectoryNode) -> None:
        """What the Hub's tree has at ``name`` in ``parent`` is ``node``, which was renamed here."""
        self._stands[parent, name] = node

    def follow(self, ours: Node, was: Link) -> bool:
        """Whether the Hub's side moved to one other name what ``ours`` is a changed state of; then ours goes there, too."""
        if ours in self._alone:
            return False
        if not rests_on(ours, was) and self._trees.node(was).entry.kind is not ours.kind:
            return False
        came, left = self._trees.moved(self._old, self._new)
        places = came.get(was.cid, ())
        if len(places) != 1 or left.get(was.cid, 0) > 1:
            return False
        self._moves.append(_Move(ours, places[0], was))
        return True

    def left_one_name(self, cid: Cid) -> bool:
        """Whether the Hub's side took it off a name, and only one."""
        return self._trees.moved(self._old, self._new)[1].get(cid) == 1

    def resolve(self, theirs: Mapping[DirectoryNode, Link | None], followed: Collection[Node]) -> None:
        """Find where the moves go. Raises Unfollowed with those that cannot be made."""
        homes: dict[Node, _Home] = {}
        refused: set[Node] = set()
        taken: dict[TreePath, Node] = {}
        for move in self._moves:
            home = self._home(move, theirs)
            if home is None or move.path in taken:
                refused |= {move.node, taken.get(move.path, move.node)}
                continue
            taken[move.path] = move.node
            homes[move.node] = home
        for node in homes:
            refused |= _cycle(node, homes, followed)
        if refused:
            raise Unfollowed(refused)
        self._homes = homes

    def plan(self) -> None:
        """Plan the moves, which `resolve` found places for."""
        for move in self._moves:
            self._plan.move(move.node, partial(self._find, self._homes[move.node]), move.path[-1], move.link)

    def _home(self, move: _Move, theirs: Mapping[DirectoryNode, Link | None]) -> _Home | None:
        """The directory that the Hub's side moved something to; None when it was replaced or removed here, or its name is taken."""
        node = self._volume.root
        link = theirs[node]
        below: list[tuple[bytes, TreeNode]] = []
        for name in move.path[:-1]:
            link = None if link is None else self._trees.entry(link.cid, name)
            assert link is not None, "the Hub's tree has the path"
            if not below:
                found = self._stands.get((node, name), node.children.get(name))
                if isinstance(found, DirectoryNode):
                    meets = theirs.get(found, found.link)
                    if meets is not None and meets.cid == link.cid:
                        node = found
                        continue
                if name in node.overrides or (found is not None and found.dirty):
                    return None
            below.append((name, self._trees.node(link)))
        name = move.path[-1]
        there = None if below else node.children.get(name)
        if not below and name in node.overrides:
            return None
        if there is not None and (
            there.dirty or isinstance(there, DirectoryNode) or self._volume.tree.may_be_written(there)
        ):
            return None
        return _Home(node, tuple(below))

    def _find(self, home: _Home) -> DirectoryNode:
        at = home.top
        for name, there in home.below:
            child = at.children.get(name)
            at = child if isinstance(child, DirectoryNode) else self._plan.attach_directory(at, name, there)
        return at


def _cycle(node: Node, homes: Mapping[Node, _Home], followed: Collection[Node]) -> set[Node]:
    """The followed renames that together would put ``node`` below itself; none when they do not."""
    passed: list[Node] = []
    at: Node | None = node
    while at is not None:
        if at in passed:
            return {one for one in passed if one in homes or one in followed} if at is node else set()
        passed.append(at)
        at = homes[at].top if at in homes else at.parent
    return set()
