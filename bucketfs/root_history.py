"""Telling a Hub that went back to an older state from one that moved on. Pure.

A Hub that was restored from a copy, or lost its last second to a power cut, shows a root that was left behind here. Taken for news,
that would delete here whatever came after. The same root may be news, too: another client put things back as they were. But a Hub
gives each change of a bucket a later time than the one before; so only one that went back shows a time that is not past all those
that were seen.
"""

from __future__ import annotations

from bucketfs.types import Cid

LEFT_ROOTS_MAX = 64
"""So many roots are remembered: a Hub that loses more than the changes of some minutes loses more than roots."""


class RootHistory:
    """The Hub's time of a bucket while its root was the one that is known here (0 when it did not tell), and the roots ``left``
    behind, oldest first, with the time of each."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.left: dict[Cid, int] = {}

    def seen(self, time_ns: int) -> None:
        """The Hub shows the root that is known, with this time."""
        self.time_ns = time_ns
        # A Hub that was given its newer root again by a clock that is behind: what came before has no later time from now on.
        for root in [root for root, left_ns in self.left.items() if left_ns >= time_ns > 0]:
            del self.left[root]

    def leave(self, old: Cid, new: Cid) -> None:
        """The root that is known was ``old`` and is ``new`` now."""
        time_ns, self.time_ns = self.time_ns, 0
        self.left.pop(new, None)
        if time_ns and old != new:
            self.left[old] = time_ns
            while len(self.left) > LEFT_ROOTS_MAX:
                del self.left[next(iter(self.left))]

    def is_older(self, time_ns: int) -> bool:
        """Whether a Hub that shows another root with this time went back."""
        return time_ns > 0 and (time_ns < self.time_ns or time_ns <= max(self.left.values(), default=0))
