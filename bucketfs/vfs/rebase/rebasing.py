"""Moving the overlay onto a newer base: what another client pushed meets what was changed here.

The work is done name by name, only where the base changed, and only where this mount has something in memory; everything else
is found at the new base when it is looked up. The rules are the table of `bucketfs.dag.judge`, told to users in docs/semantics.md.
What a mount has beyond two trees adds this:

=============================  ======================================================================================
the Hub's side                  and here
=============================  ======================================================================================
changed                         untouched: the Hub's shows; a file gets a new inode, a folder keeps its own
changed or removed              open for writing: as if unchanged, until something is written; then as changed
renamed                         changed, or open for writing: the node goes along, with its inode and what is open
changed                         renamed: the change goes to the new name
an older state of ours          ours is the newer one
=============================  ======================================================================================

A `Planner` makes a `RebasePlan`, which changes nothing yet and may lack something of the `TwoTrees`. Once nothing lacks, the plan
is made once more and carried out, without an await between: so it is right for what programs have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from bucketfs.types import Cid, Link
from bucketfs.vfs.rebase.limits import Unbounded
from bucketfs.vfs.rebase.plan import Rebased, RebasePlan
from bucketfs.vfs.rebase.planner import Planner
from bucketfs.vfs.rebase.renames import Unfollowed
from bucketfs.vfs.rebase.sides import TwoTrees
from bucketfs.vfs.snapshot import BuiltNode
from bucketfs.vfs.tree import Node, Volume, Wanted


async def rebase_onto(
    volume: Volume, new: Cid, built: Mapping[Node, BuiltNode], *, host: str, when: str, mine: bool = False
) -> Rebased:
    """Let the overlay rest on the root ``new``. ``built`` says what dirty nodes would be pushed as, where that is known.
    ``mine``: the root is one that was proposed from here, so what is here is the newer state of all that it changed.

    Awaits only while it fetches what the plan needs, one or two requests for each level of folders; the change itself is made at
    once. Raises Unavailable, TimedOut, Corrupt (for folders of the Hub's) with nothing changed.
    """
    trees = TwoTrees(volume.tree.base_tree.source)
    return await trees.load(_RebaseAttempt(volume, trees, new, built, host, when, mine))


@dataclass(slots=True)
class _RebaseAttempt:
    """Plans a rebase and carries it out. Where something lacks, the plan is *explored*: it goes on, level by level, only to find
    what else will lack. To begin anew for each level would take a time that grows with the square of the depth."""

    volume: Volume
    trees: TwoTrees
    new: Cid
    built: Mapping[Node, BuiltNode]
    host: str
    when: str
    mine: bool
    exploring: Planner | None = None

    def __call__(self) -> Rebased:
        if self.exploring is not None:
            with suppress(Unfollowed, Unbounded):  # the plan below meets them, too
                self.exploring.explore()
            self.exploring = None
        plan = self._plan()
        done = plan.carry_out(self.new)
        done.lost_count = len(self.trees.lost)
        return done

    def _plan(self) -> RebasePlan:
        alone: frozenset[Node] = frozenset()
        whole: frozenset[Node] = frozenset()
        while True:
            plan = RebasePlan(self.volume, self.host, self.when)
            planner = Planner(self.volume, self.trees, plan, self.built, mine=self.mine, alone=alone, whole=whole)
            try:
                planner.decide(Link(self.new, 0))
            except Wanted:
                self.exploring = planner
                raise
            # Either makes the next plan follow less or go into less, so the loop ends.
            except Unfollowed as unfollowed:
                assert not alone.issuperset(unfollowed.nodes), "each plan follows fewer renames"
                alone |= frozenset(unfollowed.nodes)
            except Unbounded as unbounded:
                assert unbounded.node not in whole, "what is whole is not gone into"
                whole |= {unbounded.node}
                # Children first: a folder is given up only when no child in memory needs it.
                for node in reversed(list(unbounded.node.walk())):
                    self.volume.tree.reclaim(node)
            else:
                return plan


__all__ = ["Rebased", "rebase_onto"]
