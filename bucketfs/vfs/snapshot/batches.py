"""Which part of a large backlog goes to the Hub next, so that a push holds a bounded part of it in memory. Pure.

A small backlog is pushed as a whole. Of a larger one each push takes a *batch*, the oldest changes first, and each batch is one
root at the Hub. A folder comes along with what is in it, as far as that is in the batch, and is filled by later ones, as a copy
that goes on would fill it. What must not be seen half done is one *lump*, however large:

- All names that were moved since the base, what stood or stands on their old names, and what they replaced. A move is known by
  the CID that it carried to another name: the same after a restart, when the rename is forgotten.
- A folder that was made here and then renamed, or that stands where the base has something else, with all that is in it: that
  is how a program shows a tree at once. (After a restart only the second is known.)

Lumps have the time of the latest change that belongs to them, and what is below a moved folder is no earlier than its move.
A folder's own turn, at the time when its names last changed, brings the names that were taken away in it. So the roots that
others see are states of some moment here, but for what was changed again since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from bucketfs.dag import RAW, codec_of
from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, Read, Volume, Wanted

NODES_MAX = 10_000
BYTES_MAX = 1 << 30

PAUSE_WITHIN = 0.1
"""How much smaller a batch may be to end at a pause."""

LACKING_MAX = 10_000
"""Blocks of the base that are asked for at once."""

Choice = dict[DirectoryNode, set[bytes]]
"""The changed names that are in a batch, by their folders; every folder above one is there, too."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How many nodes, and bytes of drafts, a batch holds; more only if a single lump, or file, is larger."""

    nodes: int = NODES_MAX
    bytes: int = BYTES_MAX


@dataclass(eq=False, slots=True)
class _Lump:
    """What goes together: nodes, names that were taken away, folders with all that is in them."""

    ctime_ns: int = 0
    nodes: list[Node] = field(default_factory=list)
    names: dict[DirectoryNode, set[bytes]] = field(default_factory=dict)
    whole: list[DirectoryNode] = field(default_factory=list)
    moves: bool = False

    def at(self, time_ns: int) -> None:
        self.ctime_ns = max(self.ctime_ns, time_ns)


class Batches:
    """The batches of one push. What changes while it runs may come along, or wait for the next one."""

    def __init__(self, volume: Volume, limits: BatchLimits) -> None:
        self._volume = volume
        self._limits = limits
        self._queue: deque[Node | _Lump] = deque()
        self._names: dict[DirectoryNode, set[bytes]] = {}
        self._known: dict[tuple[Cid, bytes], Link | None] = {}
        self._folders: dict[Cid, bool] = {}
        self._planned = -1
        self._until_ns = 0
        self._mark = 0

    @property
    def more(self) -> bool:
        """Whether something is left for a later batch."""
        return bool(self._queue)

    def anew(self) -> Batches:
        """Those of another push."""
        return Batches(self._volume, self._limits)

    def halved(self) -> bool:
        """Whether at most half is left of what there was when this was last true (or at the beginning)."""
        if len(self._queue) * 2 > self._mark:
            return False
        self._mark = len(self._queue)
        return True

    def forget(self) -> None:
        """The base is not a batch of ours: find anew what goes next."""
        self._planned = -1
        self._queue.clear()

    def next(self) -> Choice | None:
        """The next batch; None for everything that is pending, an empty one for nothing. An attempt."""
        # Something was taken away in a folder since the plan: it may stand elsewhere by now.
        if self._planned == self._volume.pending.moves and self._queue and self._changed_since(self._queue[0]):
            self._planned = -1
        if self._planned != self._volume.pending.moves:
            queue, names = _Planner(self._volume, self._limits, self._known, self._folders).plan()
            self._planned, self._queue, self._names = self._volume.pending.moves, deque(queue), names
            self._mark = max(self._mark, len(queue))
            if not queue:
                return None
            self._until_ns = max(item.ctime_ns for item in queue)
        choice: Choice = {}
        for item in self._fitting():
            self._take(item, choice)
        return choice

    def _fitting(self) -> list[Node | _Lump]:
        """As many from the head of the queue as fit a batch, at least one. Where there is a choice it ends at a pause: what was
        changed in one go stays together."""
        found: list[Node | _Lump] = []
        nodes = size_bytes = 0
        while self._queue and not self._changed_since(self._queue[0]):
            more_nodes, more_bytes = _cost(self._queue[0])
            nodes += more_nodes
            size_bytes += more_bytes
            if found and (nodes > self._limits.nodes or size_bytes > self._limits.bytes):
                break
            found.append(self._queue.popleft())
        # A pause between two changes is where a program ended what belongs together.
        if self._queue:
            times = [item.ctime_ns for item in (*found, self._queue[0])]
            first = max(1, round(len(found) * (1 - PAUSE_WITHIN)))
            end = max(range(first, len(found) + 1), key=lambda at: (times[at] - times[at - 1], at))
            self._queue.extendleft(reversed(found[end:]))
            del found[end:]
        return found

    def _changed_since(self, item: Node | _Lump) -> bool:
        """Whether names of a folder changed since the plan: what was taken away in it may stand elsewhere as something that is not
        in the plan, and must not go before that."""
        return isinstance(item, DirectoryNode) and item.ctime_ns > self._until_ns and None in item.overrides.values()

    def _take(self, item: Node | _Lump, choice: Choice) -> None:
        if isinstance(item, Node):
            if add_to(choice, item) and isinstance(item, DirectoryNode):
                kept = self._names.get(item, frozenset[bytes]())
                choice[item].update(name for name, node in item.overrides.items() if node is None and name not in kept)
            return
        for node in item.nodes:
            add_to(choice, node)
        for directory, names in item.names.items():
            if add_to(choice, directory):
                choice[directory].update(names & directory.overrides.keys())
                for name in names:
                    at = directory.overrides.get(name)
                    if at is not None:
                        _add_whole(choice, at)
        for directory in item.whole:
            _add_whole(choice, directory)
        if item.moves:
            # The moves go now: a name that was taken away has to wait for them no longer, and goes with its folder.
            self._names = {}


def add_to(choice: Choice, node: Node) -> bool:
    """Add a node and the folders above it, unless it is gone or is what the base has."""
    way: list[Node] = [node]
    while (above := way[-1].parent) is not None:
        way.append(above)
    # It was unlinked since the plan.
    if way[-1] is not node.tree.root:
        return False
    if node.parent is not None and not node.dirty and node.name not in node.parent.overrides:
        return False
    for at in way:
        if isinstance(at, DirectoryNode):
            choice.setdefault(at, set())
        if at.parent is not None:
            choice.setdefault(at.parent, set()).add(at.name)
    return True


def _add_whole(choice: Choice, node: Node) -> None:
    """Add a node with all that differs below it."""
    if not add_to(choice, node):
        return
    for directory in _directories(node):
        choice.setdefault(directory, set()).update(_changed_names(directory))


def _directories(node: Node) -> Iterator[DirectoryNode]:
    """The changed folders from ``node`` downwards."""
    waiting = [node]
    while waiting:
        at = waiting.pop()
        if isinstance(at, DirectoryNode):
            yield at
            waiting += _changed(at)


def _changed(directory: DirectoryNode) -> Iterator[Node]:
    """The nodes right under a folder that a push has to do with."""
    for node in directory.overrides.values():
        if node is not None:
            yield node
    for node in directory.dirty_children:
        if node.name not in directory.overrides:
            yield node


def _changed_names(directory: DirectoryNode) -> Iterator[bytes]:
    yield from directory.overrides
    yield from (node.name for node in directory.dirty_children)


def _cost(item: Node | _Lump) -> tuple[int, int]:
    """How many nodes and bytes of drafts an item brings into a batch."""
    if isinstance(item, Node):
        return 1, _draft_bytes(item)
    nodes = len(item.nodes)
    size_bytes = sum(_draft_bytes(node) for node in item.nodes)
    for directory in item.whole:
        for below in _directories(directory):
            nodes += len(below.overrides)
            size_bytes += sum(_draft_bytes(node) for node in _changed(below))
    return nodes, size_bytes


def _draft_bytes(node: Node) -> int:
    return sum(layer.extents.size_bytes for layer in node.content.layers) if isinstance(node, FileNode) else 0


class _Planner:
    """One look over all that is dirty. ``known`` and ``folders`` keep what was learnt of the base from one attempt to the next."""

    def __init__(
        self,
        volume: Volume,
        limits: BatchLimits,
        known: dict[tuple[Cid, bytes], Link | None],
        folders: dict[Cid, bool],
    ) -> None:
        self._volume = volume
        self._limits = limits
        self._known = known
        self._folders = folders
        self._carried: set[Cid] = set()
        self._lacking: dict[Read, None] = {}
        self._moves = _Lump(moves=True)
        self._merged: set[_Lump] = set()
        self._queue: list[Node | _Lump] = [self._moves]
        self._behind: set[Node | _Lump] = set()

    def plan(self) -> tuple[list[Node | _Lump], dict[DirectoryNode, set[bytes]]]:
        """What is to be pushed, in order, and the taken names that go with the moves; nothing when all fits one batch. Raises
        Wanted."""
        if not self._survey():
            return [], {}
        waiting: list[tuple[DirectoryNode, _Lump | None, bool]] = [(self._volume.root, None, False)]
        self._queue.append(self._volume.root)
        while waiting:
            directory, lump, behind = waiting.pop()
            for name, node in directory.overrides.items():
                if node is None:
                    self._gone(directory, name, lump)
            for node in _changed(directory):
                inside = self._sort_in(directory, node, lump, behind)
                if isinstance(node, DirectoryNode) and node.dirty:
                    waiting.append((node, *inside))
        # All that lacks is asked for at once, and the plan made anew.
        if self._lacking:
            raise Wanted(islice(self._lacking, LACKING_MAX))
        return self._in_order(), self._moves.names

    def _survey(self) -> bool:
        """Whether there is more than a batch holds; and what was moved."""
        nodes = size_bytes = 0
        for directory in _directories(self._volume.root):
            nodes += 1
            for node in _changed(directory):
                if node.link is not None and node.name in directory.overrides:
                    self._carried.add(node.link.cid)
                if not isinstance(node, DirectoryNode):
                    nodes += 1
                    size_bytes += _draft_bytes(node)
        return nodes > self._limits.nodes or size_bytes > self._limits.bytes

    def _gone(self, directory: DirectoryNode, name: bytes, lump: _Lump | None) -> None:
        if lump is None and self._is_bound(directory, name):
            self._moves.names.setdefault(directory, set()).add(name)
            self._moves.at(directory.ctime_ns)

    def _sort_in(self, directory: DirectoryNode, node: Node, lump: _Lump | None, behind: bool) -> tuple[_Lump | None, bool]:
        """Where a node goes; the lump for what is below it, and whether that has to come behind the moves."""
        overriding = node.name in directory.overrides
        carried = overriding and node.link is not None
        bound = carried or (overriding and self._is_bound(directory, node.name))
        if lump is not None:
            lump.at(max(node.ctime_ns, directory.ctime_ns))
            if carried:
                self._merged.add(lump)
            return lump, behind
        if isinstance(node, DirectoryNode) and node.link is None and self._shows_at_once(directory, node):
            lump = _Lump(node.ctime_ns, whole=[node])
            if bound:
                self._merged.add(lump)
            self._append(lump, behind)
            return lump, behind
        if bound:
            self._moves.nodes.append(node)
            self._moves.at(max(node.ctime_ns, directory.ctime_ns))
            return None, True
        self._append(node, behind)
        return None, behind

    def _shows_at_once(self, directory: DirectoryNode, node: DirectoryNode) -> bool:
        return node.renamed or self._base_link(directory, node.name) is not None

    def _append(self, item: Node | _Lump, behind: bool) -> None:
        self._queue.append(item)
        if behind:
            self._behind.add(item)

    def _in_order(self) -> list[Node | _Lump]:
        for lump in self._merged:
            self._moves.whole += lump.whole
            self._moves.at(lump.ctime_ns)
        first = self._moves.ctime_ns

        def time_ns(item: Node | _Lump) -> int:
            return max(item.ctime_ns, first) if item in self._behind else item.ctime_ns

        # The moves stand first, and sorting keeps the order of equals.
        queue = sorted(self._queue, key=time_ns)
        moved = self._moves.nodes or self._moves.whole or self._moves.names
        return [item for item in queue if item not in self._merged and (item is not self._moves or moved)]

    def _is_bound(self, directory: DirectoryNode, name: bytes) -> bool:
        """Whether what the base has at a name may be what stands at another name now."""
        if not self._carried:
            return False
        link = self._base_link(directory, name)
        if link is None:
            return False
        return link.cid in self._carried or self._may_hold(link)

    def _may_hold(self, link: Link) -> bool:
        """Whether something that was moved may have been in it. What a removed folder held is not looked up."""
        cid = link.cid
        if codec_of(cid) == RAW:
            return False
        held = self._folders.get(cid)
        if held is None:
            try:
                info = self._volume.tree.base_tree.shown(link)
            except Wanted as wanted:
                self._lacking.update(dict.fromkeys(wanted.reads))
                # What is said now does not count: with anything lacking the plan is made anew.
                return False
            held = self._folders[cid] = info is None or info.kind is Kind.DIRECTORY
        return held

    def _base_link(self, directory: DirectoryNode, name: bytes) -> Link | None:
        if directory.link is None:
            return None
        key = (directory.link.cid, name)
        if key not in self._known:
            try:
                self._known[key] = self._volume.tree.base_tree.directory(directory.link.cid).entries.get(name)
            except Wanted as wanted:
                self._lacking.update(dict.fromkeys(wanted.reads))
                return None
        return self._known[key]
