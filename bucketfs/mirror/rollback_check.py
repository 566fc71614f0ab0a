"""Telling a Hub that went back from one that moved on, for a mirror. Pure.

Two signs tell it. A root whose time is not past all those that we knew is an old one (`bucketfs.root_history`). And a Hub collects
nothing that is younger than an hour, so when it lacks the very root that we agreed on some minutes ago, it forgot that, even if
another client was quicker to give it something new.

What is merged against then: the old root itself when it is one that this folder had taken in, for then what is newer is here; else
nothing, so that all of both stays.
"""

from __future__ import annotations

import json

from bucketfs.dag import cid_from_text, cid_text
from bucketfs.remote import Look
from bucketfs.root_history import RootHistory
from bucketfs.types import Cid

FORGETS_NS = 45 * 60 * 10**9
"""A root that was agreed on longer ago may be gone because the Hub collected it."""

SLACK_NS = 2 * 60 * 10**9
"""By so much two clocks that are right may differ."""


class Agreed:
    """The Hub's root that this folder has taken in, when that was by our clock, and the roots before it."""

    def __init__(self) -> None:
        self.root: Cid | None = None
        self.at_ns = 0
        self.history = RootHistory()

    def is_older(self, seen: Look) -> bool:
        """Whether what the Hub shows is of a time before what we agreed on."""
        return seen.root != self.root and self.history.is_older(seen.updated_at_ns)

    def may_ask(self, seen: Look, now_ns: int, hub_now_ns: int) -> bool:
        """Whether the Hub must still have the root we agreed on, though it shows another. ``now_ns`` is our clock, and
        ``hub_now_ns`` the Hub's as far as we know: a sign is only what both do not speak against."""
        if self.root is None or seen.root == self.root or not 0 <= now_ns - self.at_ns < FORGETS_NS:
            return False
        # By the Hub's time, too, where it told it: a root may have been old already when we came to it. One from the future
        # shows that we do not know what time it is there.
        return not self.history.time_ns or -SLACK_NS <= hub_now_ns - self.history.time_ns < FORGETS_NS

    def agree(self, seen: Look, new: Cid, now_ns: int) -> None:
        """``new`` is agreed on; it was made from, or is, what was seen."""
        if self.root is not None:
            self.history.leave(self.root, new)
        if seen.root == new:
            self.history.seen(seen.updated_at_ns)
        else:
            self.history.time_ns = seen.updated_at_ns
            self.history.leave(seen.root, new)
        self.root, self.at_ns = new, now_ns

    def encode(self) -> str:
        """As text."""
        stored = {
            "root": None if self.root is None else cid_text(self.root),
            "time_ns": self.history.time_ns,
            "at_ns": self.at_ns,
            "left": [[cid_text(root), time_ns] for root, time_ns in self.history.left.items()],
        }
        return json.dumps(stored)


def decode_agreed(text: str | None) -> Agreed:
    """The inverse of `Agreed.encode`; None: nothing yet."""
    agreed = Agreed()
    if text is not None:
        stored = json.loads(text)
        agreed.root = None if stored["root"] is None else cid_from_text(stored["root"])
        agreed.at_ns = stored["at_ns"]
        agreed.history.time_ns = stored["time_ns"]
        agreed.history.left = {cid_from_text(root): int(time_ns) for root, time_ns in stored["left"]}
    return agreed
