"""What one volume knows of its pushes: since when changes wait, which roots were proposed and arrived, which were left
behind. Pure.

All of it but the clock outlives a kill: `records` are in the head of every journal segment, and a replay notes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from bucketfs.journal import Arrived, Left, Op, Proposed
from bucketfs.root_history import RootHistory
from bucketfs.types import Cid
from bucketfs.vfs.tree.node import FileNode
from bucketfs.vfs.tree.quota import StorageLimit


class PushState:
    """Its fields are written by its methods only."""

    def __init__(self) -> None:
        self.on_first_change: Callable[[], None] = lambda: None
        self.limits: tuple[StorageLimit, ...] = ()
        """The limits of the Hub that this bucket counts in."""
        self.grown_bytes = 0
        """How much longer the files are than when the Hub last took them."""
        self._since_ns: int | None = None
        self._last_ns = 0
        self._proposed: set[Cid] = set()
        self._arrived: Cid | None = None
        self.roots = RootHistory()
        """The Hub's times of the base and of the roots before it."""
        self._truncated: dict[FileNode, list[str]] = {}

    # Since when changes wait

    @property
    def since_ns(self) -> int | None:
        """When the oldest change was made that asks for a push; None when none does."""
        return self._since_ns

    def changed(self, now_ns: int) -> None:
        """A change was made."""
        self._last_ns = now_ns
        if self._since_ns is None:
            self._since_ns = now_ns
            # Later ones only put the push off, so nothing has to wake up for them.
            self.on_first_change()

    def wait_since(self, since_ns: int | None) -> None:
        """The oldest change that asks for a push was made then; None: none does."""
        self._since_ns = since_ns

    def take(self, now_ns: int) -> int:
        """A snapshot has taken all that waits; since when it did."""
        # A change after the snapshot begins to wait anew, with a time of its own.
        since_ns, self._since_ns = self._since_ns or now_ns, None
        return since_ns

    def put_back(self, since_ns: int) -> None:
        """What a snapshot took waits again."""
        if self._since_ns is None or self._since_ns > since_ns:
            self._since_ns = since_ns

    def due_in_s(self, now_ns: int, quiet_s: float, oldest_s: float) -> float:
        """In how many seconds to push: ``quiet_s`` after the newest change, at the latest ``oldest_s`` after the oldest."""
        if self._since_ns is None:
            return float("inf")
        # A clock that was set back must not put a push off: a change from the future counts as made now, and once so.
        self._last_ns = min(self._last_ns, now_ns)
        self._since_ns = min(self._since_ns, now_ns)
        return max(0.0, min(quiet_s - (now_ns - self._last_ns) / 1e9, oldest_s - (now_ns - self._since_ns) / 1e9))

    # How much grew here

    @property
    def free_bytes(self) -> int | None:
        """What the Hub may still take of this bucket; None without a limit."""
        return min((limit.free_bytes for limit in self.limits if limit.free_bytes is not None), default=None)

    def grow(self, more_bytes: int) -> None:
        """Files get longer by ``more_bytes``, or (negative) shorter. Raises OverQuota with nothing counted."""
        if more_bytes > 0:
            for limit in self.limits:
                if limit.limit_bytes:
                    limit.check(more_bytes)
        self.grew(more_bytes)

    def grew(self, more_bytes: int) -> None:
        """Count what is there already."""
        self.grown_bytes += more_bytes
        for limit in self.limits:
            limit.grown_bytes += more_bytes

    def stored(self, taken_bytes: int) -> None:
        """The Hub has taken that much of it."""
        self.grown_bytes -= taken_bytes
        for limit in self.limits:
            limit.grown_bytes -= taken_bytes
            limit.used_bytes += taken_bytes

    # Roots proposed from here

    @property
    def proposed(self) -> frozenset[Cid]:
        """The roots that the Hub was asked for, and may have taken since."""
        return frozenset(self._proposed)

    def propose(self, root: Cid) -> None:
        """The Hub is about to be asked for ``root``, or was before a kill."""
        self._proposed.add(root)

    def agree(self, still: Collection[Cid] = ()) -> list[FileNode]:
        """The Hub will turn out to have none of the proposed roots any more but ``still``. The files that are no longer `truncated`
        by that."""
        # Also a lost answer may turn up later: a root that was proposed is ours until something newer has arrived.
        self._proposed = set(still)
        if still:
            return []
        files, self._truncated = list(self._truncated), {}
        for node in files:
            node.truncated = False
        return files

    @property
    def arrived(self) -> Cid | None:
        """The newest root of ours that the Hub is known to have taken, when the journal says so and the base is an older one."""
        return self._arrived

    def arrive(self, root: Cid) -> None:
        """The journal says that the Hub took ``root``, after which nothing was proposed yet."""
        self._arrived = root
        self._proposed.clear()

    def take_arrived(self) -> Cid | None:
        """The root that arrived, to be made the base now."""
        root, self._arrived = self._arrived, None
        return root

    def put_back_arrived(self, root: Cid) -> None:
        """``root`` could not be made the base now."""
        self._arrived = root

    # Files that a power loss took bytes of

    @property
    def truncated(self) -> Mapping[FileNode, list[str]]:
        """Files that the Hub may have more of, with the names that they may have there (see `bucketfs.vfs.rebase.truncated`)."""
        return self._truncated

    def truncate(self, node: FileNode, name: str) -> None:
        """A power loss took bytes of ``node``, which was called ``name`` in a root that was proposed."""
        names = self._truncated.setdefault(node, [])
        if name not in names:
            names.append(name)
        node.truncated = True

    def hand_on(self, node: FileNode, now: FileNode | None) -> None:
        """``now`` has the name of a truncated file; a later root may have more of it, too."""
        names = self._truncated.pop(node)
        node.truncated = False
        if now is not None:
            self._truncated[now] = names
            now.truncated = True

    # At the head of a journal segment

    def records(self, now_ns: int) -> Iterator[Op]:
        """What a journal segment says of this at its head."""
        # What was proposed before something arrived is over.
        if self._arrived is not None:
            yield Arrived(self._arrived, now_ns)
        yield from (Proposed(root, now_ns) for root in self._proposed)
        yield from (Left(root, time_ns) for root, time_ns in self.roots.left.items())
