"""Moving the overlay onto a newer base: what another client pushed meets what was changed here.

The work is done name by name, only where the base changed, and only where this mount has something in memory; everything else
is found at the new base when somebody looks. The rules are the table of `bucketfs.dag.judge`, told to users in docs/semantics.md.
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

First a plan is made (`plan`), which may want to see more of either tree (`sight`) and changes nothing; then it is carried out
(`acts`) without an await.
"""

from __future__ import annotations

from collections.abc import Mapping

from bucketfs.errors import Unavailable
from bucketfs.types import Cid, Link
from bucketfs.vfs.rebase.edits import Acts, Rebased
from bucketfs.vfs.rebase.limits import Unbounded
from bucketfs.vfs.rebase.plan import Plan
from bucketfs.vfs.rebase.renames import Unfollowed
from bucketfs.vfs.rebase.tree_reader import Sight, Unseen
from bucketfs.vfs.snapshot.proposal import BuiltNode, built_of, without_folders
from bucketfs.vfs.tree.node import Node
from bucketfs.vfs.tree.volume import Volume

ATTEMPTS_MAX = 1000
"""Each attempt but the first one met something that was changed here while the one before waited."""


async def rebase_onto(
    volume: Volume, new: Cid, built: Mapping[Node, BuiltNode], *, host: str, when: str, mine: bool = False
) -> Rebased:
    """Let the overlay rest on the root ``new``. ``built`` says what dirty nodes would be pushed as, where that is known.
    ``mine``: the root is one that was proposed from here, so what is here is the newer state of all that it changed.

    Awaits only while it fetches what the plan needs, one or two requests for each level of folders; the change itself is made at
    once. Raises Unavailable, TimedOut, Corrupt (for folders of the Hub's) with nothing changed.
    """
    sight = Sight(volume.base_tree.source, volume.base_tree.lost)
    for _ in range(ATTEMPTS_MAX):
        alone: frozenset[Node] = frozenset()
        whole: frozenset[Node] = frozenset()
        while True:
            acts = Acts(volume, host, when)
            plan = Plan(volume, sight, acts, built, host=host, when=when, mine=mine, alone=alone, whole=whole)
            try:
                plan.decide(Link(new, 0))
            except Unfollowed as unfollowed:
                assert not alone.issuperset(unfollowed.nodes), "each plan follows fewer renames"
                alone |= frozenset(unfollowed.nodes)
            except Unbounded as unbounded:
                assert unbounded.node not in whole, "what is whole is not gone into"
                whole |= {unbounded.node}
                for node in reversed(list(unbounded.node.walk())):
                    volume.reclaim(node)
            except Unseen:
                break
            else:
                done = acts.carry_out(new)
                done.lost_count = len(sight.lost)
                # Nothing stands on them any more, and should the Hub have them again they are what they are.
                volume.base_tree.lost.difference_update(sight.lost)
                return done
        await _explore(plan, sight)
    raise Unavailable("the folders change faster than they can be compared")


async def _explore(plan: Plan, sight: Sight) -> None:
    """Look at all that a plan lacks, level by level, without beginning it anew each time."""
    while True:
        await sight.supply()
        try:
            plan.explore()
        except Unseen:
            continue
        except (Unfollowed, Unbounded):
            pass
        return


__all__ = ["BuiltNode", "Rebased", "built_of", "rebase_onto", "without_folders"]
