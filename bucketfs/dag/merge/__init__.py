"""Trees compared and merged: what differs, what was moved, and the one table of rules for what two sides changed.

`rules` judges a single name from facts; it is shared with the rebase of a mount, which knows more than two trees. Imports `codec`
and `dirs`.
"""

from __future__ import annotations

from bucketfs.dag.merge.differences import Change, Comparison, Delta, compare, diff, directory_changes
from bucketfs.dag.merge.merging import Merge, merge_trees
from bucketfs.dag.merge.renames import find_moved
from bucketfs.dag.merge.rules import Entry, Outcome, Side, Verdict, content_of, entry_of, judge

__all__ = [
    "Change",
    "Comparison",
    "Delta",
    "Entry",
    "Merge",
    "Outcome",
    "Side",
    "Verdict",
    "compare",
    "content_of",
    "diff",
    "directory_changes",
    "entry_of",
    "find_moved",
    "judge",
    "merge_trees",
]
