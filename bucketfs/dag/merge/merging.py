"""Three trees into one: what both sides changed since they agreed, name by name, by the rules of `rules`.

A walk from the root looks only where base, ours and theirs all differ. The result of a directory is theirs with what only ours
changed put in, and what had to be judged. Going down, names are judged; going up, from the deepest level, the directories are
written. Both directions ask for the blocks of many directories at once, and neither calls itself: a tree may be deeper than
Python's stack.

Files and folders that were renamed are followed (`renames`), but only once a name is found that one side removed and the other
changed: then the three trees are rewritten, so that the change stands where the file went, and walked again. Without such a name
it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bucketfs.dag.codec import Built, block_links, build_node, decode_node, same_node, with_attributes
from bucketfs.dag.dirs import (
    SHARD_THRESHOLD,
    OpenDirectory,
    TreePath,
    directory_differences,
    edit_directory,
    empty_directory,
    entries_named,
    is_possible,
    open_directory,
)
from bucketfs.dag.merge.differences import CHANGES_MAX, DEPTH_MAX
from bucketfs.dag.merge.renames import RemovedName, Three, follow
from bucketfs.dag.merge.rules import Entry, Outcome, Side, Verdict, judge
from bucketfs.dag.merge.triple import (
    Fields,
    MergedDirectory,
    Named,
    OpenTriple,
    Triple,
    base_matters,
    directory_at,
    entry_at,
    fields_to_set,
    nodes_of,
    same,
)
from bucketfs.dag.steps import fetch, fetch_one, gather
from bucketfs.dag.unfolding import check_unfolding
from bucketfs.errors import Corrupt, InvalidArgument, NotADirectory, TooLarge
from bucketfs.names import SEED
from bucketfs.types import Cid, Link, Steps

DIRECTORIES_MAX = 500_000
"""Directories that both sides changed. A small DAG that links a directory again and again can claim more."""

DIRECTORIES_FREE = 10_000
"""So many of them whatever they are; more only as long as they are not the same few again and again."""

TRIPLES_AT_ONCE = 128
"""Names that are judged at a time, each with up to three blocks. One request can ask for both sides of all."""

ConflictName = Callable[[bytes, Callable[[bytes], bool]], bytes]
"""Gives the name of a conflict copy for a name; it may ask of any candidate whether it is taken, and must not return such a one."""


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """A name that both sides claim: one side's stands at ``path``, that of ``side`` at ``copy``."""

    path: TreePath
    copy: TreePath
    side: Side


@dataclass(frozen=True, slots=True)
class Merge:
    """The tree of a merge: its link, the blocks that no side had, the conflicts in the order of their paths."""

    link: Link
    blocks: Mapping[Cid, bytes] = field(default_factory=dict)
    conflicts: tuple[MergeConflict, ...] = ()


def merge_trees(
    base: Cid | None, ours: Cid, theirs: Cid, conflict_name: ConflictName, *, threshold: int = SHARD_THRESHOLD
) -> Steps[Merge]:
    """What becomes of two trees that both came from ``base`` (None: they never agreed on anything).

    Of the base only what both sides changed is asked for, and, when one removed what the other changed, what that one removed.
    ``conflict_name`` gets a name and a function that says what names are taken beside it. Merging the other way round gives the
    same tree, but for which side keeps a name in conflict. ``threshold`` is as for `edit_directory`.

    Raises NotADirectory when a root is none, Corrupt, also beyond DEPTH_MAX levels, TooLarge beyond CHANGES_MAX changes or
    DIRECTORIES_MAX directories of both sides, InvalidArgument when ``conflict_name`` insists on a name that is taken.
    """
    walk = _Walk(conflict_name, threshold)
    merged = yield from _merge_three(walk, base, ours, theirs)
    if base is None or not walk.removed:
        return merged
    removed = [RemovedName(triple.path, side, triple.base.cid) for triple, side in walk.removed if triple.base is not None]
    followed = yield from follow(Three(base, ours, theirs), removed, threshold=threshold)
    if followed is None:
        return merged
    trees, made = followed
    again = _merge_three(_Walk(conflict_name, threshold), trees.base, trees.ours, trees.theirs)
    (merged,) = yield from gather([again], dict(made))
    return replace(merged, blocks=_reachable(merged.link.cid, {**made, **merged.blocks}))


def _merge_three(walk: _Walk, base: Cid | None, ours: Cid, theirs: Cid) -> Steps[Merge]:
    agreed = base or empty_directory().link.cid
    if same_node(ours, theirs) or same_node(agreed, ours):
        return Merge((yield from _root_link(theirs)))
    if same_node(agreed, theirs):
        return Merge((yield from _root_link(ours)))
    return (yield from walk.merge(base, ours, theirs))


def _root_link(cid: Cid) -> Steps[Link]:
    directory = yield from open_directory(cid)
    return directory.link


def _reachable(root: Cid, blocks: Mapping[Cid, bytes]) -> dict[Cid, bytes]:
    """Those of the new blocks that the result is made of: what a step on the way made may be in none."""
    found: dict[Cid, bytes] = {}
    waiting = [root]
    while waiting:
        cid = waiting.pop()
        if cid in blocks and cid not in found:
            found[cid] = blocks[cid]
            waiting += block_links(cid, blocks[cid])
    return found


# The walk


class _Walk:
    """One walk over three trees."""

    def __init__(self, conflict_name: ConflictName, threshold: int) -> None:
        self.removed: list[tuple[Triple, Side]] = []
        """Names that one side removed and the other changed."""
        self._conflict_name = conflict_name
        self._threshold = threshold
        self._conflicts: list[MergeConflict] = []
        self._made: dict[Cid, bytes] = {}
        self._waiting: list[Triple] = []
        self._levels: list[list[MergedDirectory]] = []
        self._held: dict[Cid, bytes] = {}
        """The blocks of directories that will be edited."""
        self._names_count = 0
        self._directories_count = 0
        self._distinct: set[tuple[Cid | None, ...]] = set()
        """The directories that were met, as threes of base, ours and theirs."""

    def merge(self, base: Cid | None, ours: Cid, theirs: Cid) -> Steps[Merge]:
        # The cumulative sizes of the roots are not known yet, and not used.
        links = [None if cid is None else Link(cid, 0) for cid in (base, ours, theirs)]
        self._waiting.append(Triple(None, b"", 0, *links))
        while self._waiting:
            batch = self._waiting[-TRIPLES_AT_ONCE:]
            del self._waiting[-TRIPLES_AT_ONCE:]
            opened = yield from self._judge_all(batch)
            names = yield from gather([self._differing(both) for both in opened])
            for one, found in zip(opened, names, strict=True):
                self._sort_out(one.target, found)
        link = yield from self._write_all(theirs)
        self._conflicts.sort(key=lambda conflict: conflict.path)
        return Merge(link, _reachable(link.cid, self._made), tuple(self._conflicts))

    # Going down

    def _judge_all(self, triples: Sequence[Triple]) -> Steps[list[OpenTriple]]:
        """Decide about names; returns the directories among them that have to be looked into."""
        blocks = yield from fetch(nodes_of(link for triple in triples for link in (triple.ours, triple.theirs)))
        sides = [(entry_at(triple.ours, blocks), entry_at(triple.theirs, blocks)) for triple in triples]
        # The base is not asked for where it makes no difference: the Hub may have collected it.
        asked = [triple.base for triple, both in zip(triples, sides, strict=True) if base_matters(*both)]
        base_blocks = yield from fetch(nodes_of(asked))
        opened: list[OpenTriple] = []
        putting: list[Steps[None]] = []
        for triple, (ours, theirs) in zip(triples, sides, strict=True):
            base = entry_at(triple.base, base_blocks) if base_matters(ours, theirs) else None
            verdict = judge(base, ours, theirs)
            if triple.parent is None and verdict.outcome is not Outcome.MERGE_INSIDE:
                raise NotADirectory("the root of a tree to be merged is not a directory")
            if base is not None and (ours is None or theirs is None):
                self._note_removed(triple, base, ours, theirs)
            if verdict.outcome in (Outcome.MERGE_INSIDE, Outcome.OURS_INSIDE, Outcome.THEIRS_INSIDE):
                opened.append(self._open(triple, verdict, base_blocks, blocks))
            else:
                putting.append(self._put(triple, verdict, blocks))
        yield from gather(putting)
        return opened

    def _note_removed(self, triple: Triple, base: Entry, ours: Entry | None, theirs: Entry | None) -> None:
        survivor = ours or theirs
        if survivor is not None and survivor.kind is base.kind:
            self.removed.append((triple, Side.OURS if ours is None else Side.THEIRS))

    def _open(
        self, triple: Triple, verdict: Verdict, base_blocks: Mapping[Cid, bytes], blocks: Mapping[Cid, bytes]
    ) -> OpenTriple:
        self._directories_count += 1
        if self._directories_count > DIRECTORIES_MAX:
            raise TooLarge(f"trees with more than {DIRECTORIES_MAX} directories that both sides changed")
        self._distinct.add(tuple(None if one is None else one.cid for one in (triple.base, triple.ours, triple.theirs)))
        check_unfolding(self._directories_count, len(self._distinct), DIRECTORIES_FREE)
        if triple.depth > DEPTH_MAX:
            raise Corrupt(f"directories more than {DEPTH_MAX} levels deep")
        base, ours, theirs = (
            directory_at(triple.base, base_blocks),
            directory_at(triple.ours, blocks),
            directory_at(triple.theirs, blocks),
        )
        if verdict.outcome is Outcome.MERGE_INSIDE:
            assert ours is not None and theirs is not None
            self._held[theirs.link.cid] = blocks[theirs.link.cid]
        target = MergedDirectory(triple, verdict, fields_to_set(base, ours, theirs))
        if triple.depth == len(self._levels):
            self._levels.append([])
        self._levels[triple.depth].append(target)
        return OpenTriple(target, base, ours, theirs)

    def _put(self, triple: Triple, verdict: Verdict, blocks: Mapping[Cid, bytes]) -> Steps[None]:
        """Put what a verdict says at a name that needs no look inside."""
        target, name = triple.parent, triple.name
        assert target is not None
        match verdict.outcome:
            case Outcome.NOTHING:
                target.changes[name] = None
            case Outcome.OURS | Outcome.THEIRS_BESIDE:
                target.changes[name] = triple.ours
            case Outcome.THEIRS | Outcome.OURS_BESIDE:
                target.changes[name] = triple.theirs
            case _:
                target.changes[name] = yield from self._with_attributes(triple, verdict, blocks)
        if verdict.outcome in (Outcome.OURS_BESIDE, Outcome.THEIRS_BESIDE):
            side = Side.OURS if verdict.outcome is Outcome.OURS_BESIDE else Side.THEIRS
            link = triple.side(side)
            assert link is not None
            target.beside.append((name, side, link))

    def _with_attributes(self, triple: Triple, verdict: Verdict, blocks: Mapping[Cid, bytes]) -> Steps[Link]:
        """One side's file or symlink with merged attributes."""
        link = triple.side(verdict.content or Side.THEIRS)
        assert link is not None
        # Only here a raw leaf is asked for: what was merged says more than it can hold.
        block = blocks[link.cid] if link.cid in blocks else (yield from fetch_one(link.cid))
        built = with_attributes(link.cid, block, verdict.attributes, link.tsize)
        self._made |= built.blocks
        return built.link

    def _differing(self, opened: OpenTriple) -> Steps[list[Named]]:
        """The names in a directory that matter: those whose result is not what theirs (or the only one that is left) has."""
        base, ours, theirs = opened.base, opened.ours, opened.theirs
        if ours is None or theirs is None:
            changed = ours or theirs
            assert base is not None and changed is not None
            differences = yield from directory_differences(base, changed)
            if ours is None:
                return [(name, was, None, now) for name, was, now in differences]
            return [(name, was, now, None) for name, was, now in differences]
        if base is None:
            differences = yield from directory_differences(theirs, ours)
            return [(name, None, our, their) for name, their, our in differences]
        differences = yield from directory_differences(base, ours)
        names = [name for name, _, _ in differences]
        # Shards of theirs are held: they are edited soon.
        (their_entries,) = yield from gather([entries_named(theirs, names)], self._held)
        return [(name, was, now, their_entries.get(name)) for name, was, now in differences]

    def _sort_out(self, target: MergedDirectory, names: Sequence[Named]) -> None:
        """Names that only one side changed are done; the others wait to be judged."""
        self._names_count += len(names)
        if self._names_count > CHANGES_MAX:
            raise TooLarge(f"trees with more than {CHANGES_MAX} differences")
        for name, base, ours, theirs in names:
            if (target.triple.parent is None and name == SEED) or same(ours, theirs) or not is_possible(name):
                # What stands at an impossible name in theirs stays there.
                continue
            if same(theirs, base):
                target.changes[name] = ours
            elif same(ours, base):
                if not target.on_both_sides and theirs is not None:
                    target.changes[name] = theirs
            else:
                self._waiting.append(Triple(target, name, target.triple.depth + 1, base, ours, theirs))

    # Going up

    def _write_all(self, theirs: Cid) -> Steps[Link]:
        """Write the directories, children first; returns the root's link."""
        for level in reversed(self._levels):
            for start in range(0, len(level), TRIPLES_AT_ONCE):
                batch = level[start : start + TRIPLES_AT_ONCE]
                links = yield from gather([self._write(target) for target in batch], self._held)
                for target, link in zip(batch, links, strict=True):
                    parent = target.triple.parent
                    if parent is None:
                        assert link is not None
                        return link
                    parent.changes[target.triple.name] = link
        raise AssertionError("a walk without a root")

    def _write(self, target: MergedDirectory) -> Steps[Link | None]:
        """What became of a directory; None when nothing in it is left that would keep it."""
        triple, attributes = target.triple, target.verdict.attributes
        if not target.on_both_sides:
            left = {name: link for name, link in target.changes.items() if link is not None}
            if not left and not target.verdict.keep:
                return None
            built = yield from edit_directory(None, left, attributes, threshold=self._threshold)
        else:
            assert triple.theirs is not None
            yield from self._place_copies(target)
            built = yield from edit_directory(triple.theirs.cid, target.changes, attributes, threshold=self._threshold)
        link = built.link if target.fields is None else (yield from self._with_fields(built, target.fields))
        self._made |= built.blocks
        if triple.parent is None:
            return link
        # The cumulative size is a hint that others may have written otherwise: what is theirs, or ours, is so to the last bit.
        return next((one for one in (triple.theirs, triple.ours) if one is not None and one.cid == link.cid), link)

    def _with_fields(self, built: Built, fields: Fields) -> Steps[Link]:
        """Write unknown fields of the UnixFS message into a directory."""
        link = built.link
        block = built.blocks[link.cid] if link.cid in built.blocks else (yield from fetch_one(link.cid))
        links, message = decode_node(block)
        new, new_block = build_node(replace(message, mode_extra=fields[0], unknown=fields[1]), list(links))
        self._made[new.cid] = new_block
        return Link(new.cid, link.tsize - len(block) + len(new_block))

    def _place_copies(self, target: MergedDirectory) -> Steps[None]:
        """Find names for what stands beside a name that both sides claim."""
        triple = target.triple
        if not target.beside:
            return
        assert triple.ours is not None and triple.theirs is not None
        blocks = yield from fetch((triple.ours.cid, triple.theirs.cid))
        sides = [one for link in (triple.ours, triple.theirs) if (one := directory_at(link, blocks)) is not None]
        taken: dict[bytes, bool] = {}
        path = triple.path
        for name, side, link in sorted(target.beside, key=lambda one: one[0]):
            copy = yield from self._free_name(name, sides, taken)
            taken[copy] = True
            target.changes[copy] = link
            self._conflicts.append(MergeConflict((*path, name), (*path, copy), side))

    def _free_name(self, name: bytes, sides: Sequence[OpenDirectory], taken: dict[bytes, bool]) -> Steps[bytes]:
        """A name for a copy that neither side has. ``taken`` says which names are known to be taken or free, and is filled.

        The function that makes names cannot wait for shards. So a name that was not looked up yet is called free; then it is
        looked up, and if it was taken the function is called again.
        """
        asked: list[bytes] = []

        def is_taken(candidate: bytes) -> bool:
            if candidate not in taken:
                asked.append(candidate)
            return taken.get(candidate, False)

        while True:
            copy = self._conflict_name(name, is_taken)
            if taken.get(copy, False):
                raise InvalidArgument(f"a conflict copy of {name!r} under a name that is taken: {copy!r}")
            asked.append(copy)
            found = yield from gather([entries_named(side, asked) for side in sides])
            taken.update((candidate, any(candidate in names for names in found)) for candidate in asked)
            asked.clear()
            if not taken[copy]:
                return copy
