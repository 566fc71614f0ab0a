"""Telling a Hub that went back from one that moved on, for a mirror. Pure.

A Hub may be restored from a copy. Its older tree, taken for news, would delete here whatever came after. It is known by two
signs: a Hub gives each change of a bucket a later time than the one before, so a root whose time is not past all those that we
knew is an old one; and a Hub collects nothing that is younger than an hour, so when it lacks the very root that we agreed on some
minutes ago, it forgot that, even if another client was quicker to give it something new.

What is merged against then: the old root itself when it is one that this folder had taken in, for then what is newer is here; else
nothing, so that all of both stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from bucketfs.dag import cid_from_text, cid_text
from bucketfs.remote import Look
from bucketfs.types import Cid

LEFT_MAX = 64
"""So many roots are remembered: a Hub that loses more than the changes of some minutes loses more than roots."""

FORGETS_NS = 45 * 60 * 10**9
"""A root that was agreed on longer ago may be gone because the Hub collected it."""

SLACK_NS = 2 * 60 * 10**9
"""By so much two clocks that are right may differ."""


@dataclass(slots=True)
class Agreed:
    """The Hub's root that this folder has taken in, with the Hub's time of it (0: not heard yet) and when that was by our clock;
    and those before it."""

    root: Cid | None = None
    time_ns: int = 0
    at_ns: int = 0
    left: dict[Cid, int] = field(default_factory=dict)

    def is_older(self, seen: Look) -> bool:
        """Whether what the Hub shows is of a time before what we agreed on."""
        if seen.root == self.root or not seen.updated_at_ns:
            return False
        return seen.updated_at_ns < self.time_ns or seen.updated_at_ns <= max(self.left.values(), default=0)

    def may_ask(self, seen: Look, now_ns: int, hub_now_ns: int) -> bool:
        """Whether the Hub must still have the root we agreed on, though it shows another. ``now_ns`` is our clock, and
        ``hub_now_ns`` the Hub's as far as we know: a sign is only what both do not speak against."""
        if self.root is None or seen.root == self.root or not 0 <= now_ns - self.at_ns < FORGETS_NS:
            return False
        # By the Hub's time, too, where it told it: a root may have been old already when we came to it. One from the future
        # shows that we do not know what time it is there.
        return not self.time_ns or -SLACK_NS <= hub_now_ns - self.time_ns < FORGETS_NS

    def agree(self, seen: Look, new: Cid, now_ns: int) -> None:
        """``new`` is agreed on; it was made from, or is, what was seen."""
        if self.root is not None and self.root != new and self.time_ns:
            self.left[self.root] = self.time_ns
        if seen.root != new and seen.updated_at_ns:
            self.left[seen.root] = seen.updated_at_ns
        self.left.pop(new, None)
        while len(self.left) > LEFT_MAX:
            del self.left[next(iter(self.left))]
        if seen.root == new:
            # A Hub that was given its newer root again by a clock that is behind: nothing before it counts as later.
            self.left = {root: time_ns for root, time_ns in self.left.items() if time_ns < seen.updated_at_ns}
        self.root, self.time_ns, self.at_ns = new, seen.updated_at_ns if seen.root == new else 0, now_ns

    def encode(self) -> str:
        """As text."""
        said = {
            "root": None if self.root is None else cid_text(self.root),
            "time_ns": self.time_ns,
            "at_ns": self.at_ns,
            "left": [[cid_text(root), time_ns] for root, time_ns in self.left.items()],
        }
        return json.dumps(said)


def decode_agreed(text: str | None) -> Agreed:
    """What `Agreed.encode` said; None: nothing yet."""
    if text is None:
        return Agreed()
    said = json.loads(text)
    left = {cid_from_text(root): int(time_ns) for root, time_ns in said["left"]}
    return Agreed(None if said["root"] is None else cid_from_text(said["root"]), said["time_ns"], said["at_ns"], left)
