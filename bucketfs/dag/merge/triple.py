"""One name of which base, ours and theirs are all different: what a merge knows of it, and of the directory it may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bucketfs.dag.codec import DAG_PB, codec_of, node_info, same_node
from bucketfs.dag.dirs import OpenDirectory, TreePath, decode_directory
from bucketfs.dag.merge.rules import Entry, Outcome, Side, Verdict, entry_of, newer_side
from bucketfs.types import Cid, Kind, Link


@dataclass(slots=True, eq=False)
class MergedDirectory:
    """A directory that is being merged: theirs, to be edited, or, when one side removed it, what the other changed inside it.

    ``fields`` are to be set in what was edited, None when they are there.
    """

    triple: Triple
    verdict: Verdict
    fields: Fields | None
    changes: dict[bytes, Link | None] = field(default_factory=dict)
    beside: list[tuple[bytes, Side, Link]] = field(default_factory=list)

    @property
    def on_both_sides(self) -> bool:
        """Whether both sides have it."""
        return self.verdict.outcome is Outcome.MERGE_INSIDE


@dataclass(slots=True, eq=False)
class Triple:
    """A name of which base, ours and theirs are all different."""

    parent: MergedDirectory | None
    name: bytes
    depth: int
    base: Link | None
    ours: Link | None
    theirs: Link | None

    def side(self, side: Side) -> Link | None:
        return self.ours if side is Side.OURS else self.theirs

    @property
    def path(self) -> TreePath:
        names: list[bytes] = []
        at = self
        while at.parent is not None:
            names.append(at.name)
            at = at.parent.triple
        return tuple(reversed(names))


@dataclass(frozen=True, slots=True)
class OpenTriple:
    """A directory of the result with the three to compare; that of a side that has none is None."""

    target: MergedDirectory
    base: OpenDirectory | None
    ours: OpenDirectory | None
    theirs: OpenDirectory | None


Named = tuple[bytes, Link | None, Link | None, Link | None]
"""A name with what base, ours and theirs have there."""


def nodes_of(links: Iterable[Link | None]) -> list[Cid]:
    """The blocks that say what stands at some names: a raw leaf is a file, and needs none."""
    return [link.cid for link in links if link is not None and codec_of(link.cid) == DAG_PB]


def same(one: Link | None, other: Link | None) -> bool:
    if one is None or other is None:
        return one is other
    return same_node(one.cid, other.cid)


def base_matters(ours: Entry | None, theirs: Entry | None) -> bool:
    """Whether the verdict on two that are not the same depends on what was there before."""
    return ours is None or theirs is None or ours.kind is theirs.kind


def entry_at(link: Link | None, blocks: Mapping[Cid, bytes]) -> Entry | None:
    if link is None:
        return None
    block = blocks.get(link.cid, b"")
    if codec_of(link.cid) == DAG_PB and (info := node_info(link.cid, block)).kind is Kind.DIRECTORY:
        # Its content is compared name by name. To hash it once more without its attributes would tell nothing.
        return Entry(Kind.DIRECTORY, link.cid, info.attributes)
    return entry_of(link.cid, block)


def directory_at(link: Link | None, blocks: Mapping[Cid, bytes]) -> OpenDirectory | None:
    return None if link is None or link.cid not in blocks else decode_directory(link.cid, blocks[link.cid])


Fields = tuple[int, bytes]
"""What a directory's message says that is no attribute of ours: the high bits of its mode, the fields that we do not know."""


def fields_to_set(base: OpenDirectory | None, ours: OpenDirectory | None, theirs: OpenDirectory | None) -> Fields | None:
    """The fields that a merged directory has and the one that is edited has not; by the rule for attributes."""
    if ours is None or theirs is None:
        left = ours or theirs
        assert left is not None
        return None if (fields := _fields(left)) == (0, b"") else fields
    our_fields, their_fields = _fields(ours), _fields(theirs)
    was = None if base is None else _fields(base)
    if our_fields in (was, their_fields):
        return None
    if their_fields == was:
        return our_fields
    newer = newer_side(ours.message.mtime_ns, theirs.message.mtime_ns)
    ours_counts = our_fields < their_fields if newer is None else newer is Side.OURS
    return our_fields if ours_counts else None


def _fields(directory: OpenDirectory) -> Fields:
    return directory.message.mode_extra, directory.message.unknown
