"""Merging three trees: every rule as an example, read back from the result's blocks, and properties over many small trees."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from support.store import Store
from support.unixfs import build_file

from bucketfs.dag import (
    Entry,
    Merge,
    Outcome,
    Side,
    UnixFs,
    UnixFsType,
    edit_directory,
    judge,
    list_directory,
    merge_trees,
    node_info,
    reachable,
    symlink,
)
from bucketfs.dag.codec.nodes import built_node, decode_node
from bucketfs.dag.files.read import read_file
from bucketfs.dag.merge import merging, renames
from bucketfs.dag.merge.differences import DEPTH_MAX
from bucketfs.dag.merge.merging import MergeConflict
from bucketfs.errors import Corrupt, InvalidArgument, NotADirectory, TooLarge
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes, Steps

A = NodeAttributes


@dataclass(frozen=True)
class F:
    """A file."""

    data: bytes
    attributes: A = NO_ATTRIBUTES


@dataclass(frozen=True)
class L:
    """A symlink."""

    target: bytes
    attributes: A = NO_ATTRIBUTES


@dataclass(frozen=True)
class D:
    """A directory."""

    entries: dict[str, Any] = field(default_factory=dict)
    attributes: A = NO_ATTRIBUTES


Shape = F | L | D
THRESHOLD = 262_144


def f(text: str, **attributes: int) -> F:
    return F(text.encode(), A(**attributes))


def d(**entries: Shape) -> D:
    return D(entries)


def put(store: Store, shape: Shape, threshold: int = THRESHOLD) -> Link:
    match shape:
        case F():
            return store.keep(build_file(shape.data, shape.attributes))
        case L():
            return store.keep(symlink(shape.target, shape.attributes))
        case D():
            links = {name.encode(): put(store, below, threshold) for name, below in shape.entries.items()}
            return store.make(edit_directory(None, links, shape.attributes, threshold=threshold))


def get(store: Store, cid: Cid) -> Shape:
    info = node_info(cid, store.blocks[cid])
    match info.kind:
        case Kind.FILE:
            return F(store.run(read_file(cid)), info.attributes)
        case Kind.SYMLINK:
            assert info.target is not None
            return L(info.target, info.attributes)
        case Kind.DIRECTORY:
            entries = store.run(list_directory(cid)).entries
            return D({name.decode(): get(store, link.cid) for name, link in entries.items()}, info.attributes)


def copy_name(name: bytes, taken: Callable[[bytes], bool]) -> bytes:
    copy = name + b"~"
    while taken(copy):
        copy += b"~"
    return copy


def merge_roots(roots: Iterable[Cid]) -> Steps[Merge]:
    base, ours, theirs = roots
    return merge_trees(base, ours, theirs, copy_name)


class Merger:
    """Merges shapes through a store, and says what came out."""

    def __init__(self, store: Store, threshold: int = THRESHOLD) -> None:
        self.store = store
        self.threshold = threshold

    def run(self, base: Shape | None, ours: Shape, theirs: Shape) -> Merge:
        roots = [put(self.store, one, self.threshold).cid for one in (ours, theirs)]
        return self.of(None if base is None else put(self.store, base, self.threshold).cid, *roots)

    def of(self, base: Cid | None, ours: Cid, theirs: Cid) -> Merge:
        self.store.forget_questions()
        result: Merge = self.store.run(merge_trees(base, ours, theirs, copy_name, threshold=self.threshold))
        assert not result.blocks.keys() & self.store.blocks.keys() or all(
            self.store.blocks[cid] == block for cid, block in result.blocks.items() if cid in self.store.blocks
        )
        self.store.blocks |= result.blocks
        everything = self.store.run(reachable(result.link.cid))
        assert result.blocks.keys() <= everything
        assert everything <= self.store.blocks.keys()
        return result

    def __call__(self, base: Shape | None, ours: Shape, theirs: Shape) -> Shape:
        return get(self.store, self.run(base, ours, theirs).link.cid)


@pytest.fixture
def merger(store: Store) -> Merger:
    return Merger(store)


# The rules, one by one


def test_what_one_side_changed_is_taken_to_the_last_bit(merger: Merger) -> None:
    """A change of one side survives a merge with attributes and foreign fields."""
    base = D({"a": f("1"), "b": d(c=f("2"))}, A(mtime_ns=5))
    new = D({"a": f("9"), "n": L(b"t"), "e": D()}, A(mtime_ns=7))
    cid = put(merger.store, new).cid
    assert merger.run(base, new, base) == merger.run(base, base, new) == merger.run(base, new, new)
    assert merger.run(base, new, base).link == put(merger.store, new)
    assert merger.run(None, new, D()).link.cid == merger.run(None, D(), new).link.cid == cid
    assert merger.run(base, new, base).blocks == {}


def test_changes_in_different_places_meet(merger: Merger) -> None:
    """Two people who work in different folders lose nothing and get no conflict."""
    base = d(a=f("1"), b=f("2"), c=f("3"), x=d(y=d(o=f("1"), t=f("1"), gone=f("1"))))
    ours = d(a=f("ours"), c=f("3"), new=f("n"), x=d(y=d(o=f("2"), t=f("1"), gone=f("1"))))
    theirs = d(a=f("1"), b=f("2"), other=L(b"to"), x=d(y=d(o=f("1"), t=f("2")), z=D()))
    expected = d(a=f("ours"), new=f("n"), other=L(b"to"), x=d(y=d(o=f("2"), t=f("2")), z=D()))
    merged = merger.run(base, ours, theirs)
    assert merged.link == put(merger.store, expected)
    assert merged.conflicts == ()


def test_two_that_never_agreed(merger: Merger) -> None:
    """Two trees without a common base are merged without losing a file."""
    ours = d(same=f("s"), mine=f("m"), both=f("one"), dir=d(a=f("1")))
    theirs = d(same=f("s"), its=f("t"), both=f("two"), dir=d(b=f("2")))
    merged = merger.run(None, ours, theirs)
    expected = {
        "same": f("s"),
        "mine": f("m"),
        "its": f("t"),
        "both": f("two"),
        "both~": f("one"),
        "dir": d(a=f("1"), b=f("2")),
    }
    assert get(merger.store, merged.link.cid) == D(expected)
    assert merged.conflicts == (MergeConflict((b"both",), (b"both~",), Side.OURS),)


def test_a_directory_has_its_attributes_field_by_field(merger: Merger) -> None:
    """A chmod here and a chown there of one folder both survive."""
    base = D({"x": D({"a": f("1")}, A(mtime_ns=1))})
    ours = D({"x": D({"a": f("1"), "o": f("o")}, A(mtime_ns=3, mode=0o700))})
    theirs = D({"x": D({"a": f("1"), "t": f("t")}, A(mtime_ns=2, uid=4))})
    expected = D({"x": D({"a": f("1"), "o": f("o"), "t": f("t")}, A(mtime_ns=3, mode=0o700, uid=4))})
    assert merger(base, ours, theirs) == merger(base, theirs, ours) == expected


def test_a_chmod_here_and_a_write_there(merger: Merger) -> None:
    """A chmod does not undo another client's write, nor the other way round."""
    base = d(x=f("1", mtime_ns=1))
    merged = merger.run(base, d(x=f("1", mtime_ns=1, mode=0o600)), d(x=f("2", mtime_ns=2)))
    assert get(merger.store, merged.link.cid) == d(x=f("2", mtime_ns=2, mode=0o600))
    assert merged.conflicts == ()


def test_a_file_without_attributes_gets_some(merger: Merger) -> None:
    """Its root is a raw leaf, which can carry none."""
    base = d(x=f("1", uid=3))
    merged = merger(base, d(x=f("1", uid=3, mode=0o600)), d(x=f("2")))
    assert merged == d(x=f("2", mode=0o600))


def test_the_same_content_in_two_forms(merger: Merger) -> None:
    """The same bytes written by another client in another layout are no conflict."""
    data = b"content" * 1000
    merged = merger.run(d(), d(x=F(data, A(mode=0o600, mtime_ns=1))), d(x=F(data, A(mtime_ns=2, mode=0o640))))
    assert get(merger.store, merged.link.cid) == d(x=F(data, A(mode=0o640, mtime_ns=2)))
    assert merged.conflicts == ()


def test_an_edit_survives_a_removal_with_its_folders(merger: Merger) -> None:
    """`rm -r` on one side never takes what the other side just changed."""
    base = d(a=d(b=d(x=f("1"), y=f("1")), c=f("1")), z=f("z"))
    ours = d(z=f("z"))
    theirs = d(a=d(b=d(x=f("2"), y=f("1")), c=f("1")), z=f("z"))
    expected = d(a=d(b=d(x=f("2"))), z=f("z"))
    assert merger(base, ours, theirs) == merger(base, theirs, ours) == expected


def test_a_touched_folder_does_not_survive_a_removal_but_one_with_a_new_mode_does(merger: Merger) -> None:
    """A removed folder stays removed unless it was really changed elsewhere."""

    def tree(**attributes: int) -> D:
        return D({"x": D({"a": f("1")}, A(**attributes)), "z": f("z")})

    gone = d(z=f("z"))
    assert merger(tree(mtime_ns=1), gone, tree(mtime_ns=2)) == gone
    assert merger(tree(mtime_ns=1), tree(mtime_ns=2, mode=0o700), gone) == D(
        {"x": D({}, A(mtime_ns=2, mode=0o700)), "z": f("z")}
    )
    emptied = D({"x": D({}, A(mtime_ns=2)), "z": f("z")})
    assert merger(tree(mtime_ns=1), emptied, gone) == gone


def test_a_folder_made_anew_survives_whole(merger: Merger) -> None:
    """A folder that was removed and made anew is kept with all that is in it."""
    base = d(x=f("1"), z=f("z"))
    theirs = D({"x": D({"a": D()}), "z": f("z")})
    assert merger(base, d(z=f("z")), theirs) == merger(base, theirs, d(z=f("z"))) == theirs


def test_written_beats_empty(merger: Merger) -> None:
    """An empty file of the same name does not displace written bytes."""
    base = d(x=f("1"), y=f("1"))
    assert merger(base, d(x=f(""), y=f("2")), d(x=f("2"), y=f(""))) == d(x=f("2"), y=f("2"))


def test_a_folder_keeps_its_name(merger: Merger) -> None:
    """Where a folder meets a file, the paths below the folder stay valid."""
    for base in (d(x=f("1")), d(), d(x=L(b"1"))):
        merged = merger.run(base, d(x=f("2")), d(x=d(a=f("3"))))
        assert get(merger.store, merged.link.cid) == D({"x": d(a=f("3")), "x~": f("2")})
        assert merged.conflicts == (MergeConflict((b"x",), (b"x~",), Side.OURS),)
        merged = merger.run(base, d(x=d(a=f("3"))), d(x=L(b"2")))
        assert get(merger.store, merged.link.cid) == D({"x": d(a=f("3")), "x~": L(b"2")})
        assert merged.conflicts == (MergeConflict((b"x",), (b"x~",), Side.THEIRS),)


def test_two_edits_stand_beside_one_another(merger: Merger) -> None:
    """Two edits of one file are both kept."""
    base = d(p=d(x=f("1"), y=L(b"1"), z=f("1")))
    ours = d(p=d(x=f("2"), y=L(b"2"), z=L(b"2")))
    theirs = d(p=d(x=f("3"), y=L(b"3"), z=f("3")))
    merged = merger.run(base, ours, theirs)
    expected = {"x": f("3"), "x~": f("2"), "y": L(b"3"), "y~": L(b"2"), "z": f("3"), "z~": L(b"2")}
    assert get(merger.store, merged.link.cid) == D({"p": D(expected)})
    assert [conflict.path for conflict in merged.conflicts] == [(b"p", b"x"), (b"p", b"y"), (b"p", b"z")]


def test_a_copy_takes_no_name_that_anybody_has(merger: Merger) -> None:
    """A conflict copy overwrites no file of either side."""
    base = D({"x": f("1"), "x~": f("gone here")})
    ours = D({"x": f("2"), "x~~": f("ours")})
    theirs = D({"x": f("3"), "x~": f("gone here"), "x~~~": f("theirs")})
    merged = merger(base, ours, theirs)
    assert merged == D({"x": f("3"), "x~~": f("ours"), "x~~~": f("theirs"), "x~~~~": f("2")})


def test_copies_of_two_names_that_would_be_one(merger: Merger) -> None:
    """What is given to the first copy is taken for the second."""
    store = merger.store
    base, ours, theirs = (put(store, d(x=f(n), y=f(n))).cid for n in "123")

    def always_the_same(name: bytes, taken: Callable[[bytes], bool]) -> bytes:
        return next(copy for copy in (b"c1", b"c2", b"c3") if not taken(copy))

    merged = store.run(merge_trees(base, ours, theirs, always_the_same))
    assert [conflict.copy for conflict in merged.conflicts] == [(b"c1",), (b"c2",)]


def test_who_insists_on_a_name_that_is_taken(merger: Merger) -> None:
    """A broken maker of names is an error, not a lost file."""
    store = merger.store
    base, ours, theirs = (put(store, d(x=f(n), y=f("s"))).cid for n in "123")
    with pytest.raises(InvalidArgument):
        store.run(merge_trees(base, ours, theirs, lambda name, taken: name))
    with pytest.raises(InvalidArgument):
        store.run(merge_trees(base, ours, theirs, lambda name, taken: b"y"))


def test_the_seed_is_the_hubs(merger: Merger) -> None:
    """The bucket's own seed is never merged away."""
    base = D({".textileseed": f("1"), "x": d(x=f("1"))})
    ours = D({".textileseed": f("2"), "x": D({".textileseed": f("in a folder it is a name")})})
    theirs = D({".textileseed": f("1"), "x": d(x=f("1"), y=f("1"))})
    expected = D({".textileseed": f("in a folder it is a name"), "y": f("1")})
    assert merger(base, ours, theirs) == D({".textileseed": f("1"), "x": expected})
    assert merger(base, ours, D({".textileseed": f("3")})) == D(
        {".textileseed": f("3"), "x": d(**{".textileseed": f("in a folder it is a name")})}
    )


def with_fields(store: Store, link: Link, unknown: bytes) -> Link:
    """The same directory with a field that nobody here knows."""
    links, message = decode_node(store.blocks[link.cid])
    return store.keep(built_node(replace(message, unknown=unknown), list(links)))


def test_fields_nobody_knows_stay_on_a_merged_directory(merger: Merger) -> None:
    """By the rule for attributes: who changed them, else the later mtime, else the smaller."""
    store = merger.store
    old, new, other = b"\xf8\x3f\x01", b"\xf8\x3f\x02", b"\xf8\x3f\x03"

    def merged(fields: tuple[bytes, bytes, bytes], ours_ns: int = 1, theirs_ns: int = 1) -> Cid:
        shapes = D({}, A(mtime_ns=1)), D({"o": f("o")}, A(mtime_ns=ours_ns)), D({"t": f("t")}, A(mtime_ns=theirs_ns))
        roots = [with_fields(store, put(store, shape), one).cid for shape, one in zip(shapes, fields, strict=True)]
        return merger.of(*roots).link.cid

    def expected(unknown: bytes, mtime_ns: int = 1) -> Cid:
        return with_fields(store, put(store, D({"o": f("o"), "t": f("t")}, A(mtime_ns=mtime_ns))), unknown).cid

    assert merged((old, new, old)) == merged((old, old, new)) == merged((old, new, new)) == expected(new)
    assert merged((old, new, other)) == merged((old, other, new)) == expected(new)
    assert merged((old, new, other), 2, 3) == merged((old, other, new), 3, 2) == expected(other, 3)
    assert merged((old, b"", old)) == merged((old, old, b"")) == expected(b"")


def test_fields_nobody_knows_stay_on_a_folder_that_survives(merger: Merger) -> None:
    """What another program wrote into a folder's node is kept."""
    store = merger.store
    inner = [with_fields(store, put(store, shape), b"\xf8\x3f\x01") for shape in (d(x=f("1")), d(x=f("2")))]
    base, theirs = (store.make(edit_directory(None, {b"p": link, b"k": inner[0]})).cid for link in inner)
    ours = store.make(edit_directory(None, {b"k": inner[0]})).cid
    assert merger.of(base, ours, theirs).link.cid == theirs
    assert merger.of(base, theirs, ours).link.cid == theirs


def test_trees_of_an_older_node(merger: Merger) -> None:
    """CIDv0, files in dag-pb leaves. A node is the same by either version of CID."""
    store = merger.store

    def old(**texts: str) -> Cid:
        files = {
            name.encode(): store.keep(build_file(text.encode(), raw_leaves=False, cid_version=0))
            for name, text in texts.items()
        }
        return store.make(edit_directory(None, files, cid_version=0)).cid

    merged = merger.of(old(a="1", b="1", c="1"), old(a="2", b="1", c="2"), put(store, d(a=f("1"), b=f("2"), c=f("2"))).cid)
    assert get(store, merged.link.cid) == d(a=f("2"), b=f("2"), c=f("2"))
    assert merged.conflicts == ()
    same = Cid(b"\x01\x70" + old(a="1"))
    store.blocks[same] = store.blocks[old(a="1")]
    assert merger.of(old(a="1"), same, old(a="2")).link.cid == old(a="2")


def test_only_directories_are_merged(merger: Merger) -> None:
    """A root that is no folder is refused before anything is changed."""
    with pytest.raises(NotADirectory):
        merger.run(d(), f("1"), d(x=f("2")))
    with pytest.raises(NotADirectory):
        merger.run(d(), d(x=f("2")), f("1"))
    with pytest.raises(NotADirectory):
        merger.run(d(), d(), L(b"x"))


# Renames


def both_ways(merger: Merger, base: Shape, one: Shape, other: Shape) -> Shape:
    """A merge without conflicts, whose result is the same the other way round."""
    merged, mirrored = merger.run(base, one, other), merger.run(base, other, one)
    assert merged.conflicts == mirrored.conflicts == ()
    assert merged.link == mirrored.link
    return get(merger.store, merged.link.cid)


def test_a_file_renamed_here_and_written_there(merger: Merger) -> None:
    """What was written to a file follows its rename."""
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=f("2"), k=f("k"))) == d(b=f("2"), k=f("k"))


def test_a_file_moved_into_a_new_folder_and_its_old_one_removed(merger: Merger) -> None:
    """A change follows a file out of a folder that was removed."""
    base = d(p=d(a=f("1"), z=f("z")), k=f("k"))
    moved = d(q=d(r=d(a=f("1")), n=f("n")), k=f("k"))
    written = d(p=d(a=f("1", mode=0o600), z=f("z")), k=f("k"))
    assert both_ways(merger, base, moved, written) == d(q=d(r=d(a=f("1", mode=0o600)), n=f("n")), k=f("k"))


def test_a_folder_renamed_here_and_changed_inside_there(merger: Merger) -> None:
    """A change inside a folder follows the folder's rename."""
    base = d(p=d(a=f("1"), b=f("2"), c=d(e=f("3"))), k=f("k"))
    renamed = d(q=d(a=f("1"), b=f("2"), c=d(e=f("3"))), k=f("k"))
    changed = d(p=d(a=f("9"), c=d(e=f("3"), n=f("new"))), k=f("k"))
    assert both_ways(merger, base, renamed, changed) == d(q=d(a=f("9"), c=d(e=f("3"), n=f("new"))), k=f("k"))


def test_many_files_of_a_folder_that_was_renamed_and_changed(merger: Merger) -> None:
    """The folder itself cannot be known again, each of its files can."""
    files = {f"n{n}": f(str(n)) for n in range(50)}
    base = D({"p": D(files)})
    renamed = D({"q": D({**files, "new": f("new")})})
    changed = D({"p": D({name: replace(file, attributes=A(mode=0o600)) for name, file in files.items()})})
    expected = D({"q": D({**changed.entries["p"].entries, "new": f("new")})})
    assert both_ways(merger, base, renamed, changed) == expected


def test_both_renamed_it(merger: Merger) -> None:
    """A file that both sides renamed is kept under both names."""
    base = d(a=f("1"), p=d(x=f("2")))
    one, other = d(b=f("1"), q=d(x=f("2"))), d(c=f("1"), r=d(x=f("2")))
    assert both_ways(merger, base, one, other) == d(b=f("1"), c=f("1"), q=d(x=f("2")), r=d(x=f("2")))
    assert both_ways(merger, base, one, one) == one


def test_moved_and_written_on_one_side_keeps_both(merger: Merger) -> None:
    """A file that was moved and rewritten is not taken for a move."""
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1 more"), k=f("k")), d(a=f("2"), k=f("k"))) == d(a=f("2"), b=f("1 more"), k=f("k"))


def test_two_candidates_keep_both(merger: Merger) -> None:
    """A change is never put into the wrong one of two equal files."""
    base = d(a=f("1"), k=f("k"))
    copied = d(b=f("1"), c=d(b=f("1")), k=f("k"))
    assert both_ways(merger, base, copied, d(a=f("2"), k=f("k"))) == d(a=f("2"), b=f("1"), c=d(b=f("1")), k=f("k"))
    base = d(a=f("1"), p=d(a=f("1")), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=f("2"), p=d(a=f("1")), k=f("k"))) == d(
        a=f("2"), b=f("1"), k=f("k")
    )


def test_an_empty_file_is_no_other(merger: Merger) -> None:
    """An empty file tells nothing: a change is never moved onto an unrelated one."""
    base = d(a=f(""), e=D(), k=f("k"))
    other = d(a=f("2"), e=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, d(b=f(""), h=D(), k=f("k")), other) == d(
        a=f("2"), b=f(""), e=d(x=f("x")), h=D(), k=f("k")
    )


def test_a_file_that_became_a_folder_did_not_move_on(merger: Merger) -> None:
    """A name that changed its kind is not followed."""
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=d(x=f("2")), k=f("k"))) == d(a=d(x=f("2")), b=f("1"), k=f("k"))


def test_the_new_name_is_taken_on_the_other_side(merger: Merger) -> None:
    """A rename onto a name that the other side took loses neither file."""
    base = d(a=f("1"), p=d(x=f("1x")))
    one, other = d(b=f("1"), q=d(x=f("1x"))), d(a=f("2"), b=f("3"), p=d(x=f("2x")), q=d(y=f("y")))
    merged = merger.run(base, one, other)
    assert get(merger.store, merged.link.cid) == D({"b": f("3"), "b~": f("2"), "q": d(x=f("2x"), y=f("y"))})
    assert merged.conflicts == (MergeConflict((b"b",), (b"b~",), Side.OURS),)


def test_the_folder_it_moved_into_was_removed(merger: Merger) -> None:
    """A file that was moved into a folder survives the folder's removal."""
    base = d(a=f("1"), p=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, d(p=d(x=f("x"), a=f("1")), k=f("k")), d(a=f("2"), k=f("k"))) == d(p=d(a=f("2")), k=f("k"))


def test_the_folder_it_moved_into_moved_on(merger: Merger) -> None:
    """One side moved a file into a folder, the other wrote to it and renamed the folder: it goes along."""
    base = d(a=f("1"), p=d(x=f("x")), k=f("k"))
    into = d(p=d(x=f("x"), a=f("1")), k=f("k"))
    on = d(a=f("2"), q=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, into, on) == d(q=d(x=f("x"), a=f("2")), k=f("k"))


def test_three_moves_in_turns(merger: Merger) -> None:
    """Renames that depend on one another are followed to the end."""
    base = D({"a": f("1"), "p": d(x=f("x")), "q": d(y=f("y")), "k": f("k")})
    one = D({"p": d(x=f("x"), a=f("1")), "r": d(y=f("y")), "k": f("k")})
    other = D({"a": f("2"), "q": D({"y": f("y"), "p": d(x=f("x"))}), "k": f("k")})
    expected = D({"r": D({"y": f("y"), "p": d(x=f("x"), a=f("2"))}), "k": f("k")})
    assert both_ways(merger, base, one, other) == expected


def test_folders_moved_into_one_another(merger: Merger) -> None:
    """Each side's would end up below itself. Nothing is followed: what each moved stands where it put it."""
    base = d(p=d(x=f("x")), q=d(y=f("y")), k=f("k"))
    one = d(q=d(y=f("y"), p=d(x=f("x"))), k=f("k"))
    other = d(p=d(x=f("x"), q=d(y=f("y"))), k=f("k"))
    assert both_ways(merger, base, one, other) == d(p=d(q=d(y=f("y"))), q=d(p=d(x=f("x"))), k=f("k"))


def test_a_ring_of_four_and_who_leads_into_it(merger: Merger) -> None:
    """Folders that were moved into each other stay reachable."""
    base = D({n: d(**{n: f(n)}) for n in "pqrs"} | {"a": f("1")})
    one = D({"q": D({"q": f("q"), "p": d(p=f("p"))}), "s": D({"s": f("s"), "r": d(r=f("r")), "a": f("1")})})
    other = D({"r": D({"r": f("r"), "q": d(q=f("q"))}), "p": D({"p": f("p"), "s": d(s=f("s"))}), "a": f("2")})
    expected = D(
        {
            "p": d(s=d(s=f("s"))),
            "q": d(p=d(p=f("p"))),
            "r": d(q=d(q=f("q"))),
            "s": D({"r": d(r=f("r")), "a": f("2")}),
        }
    )
    assert both_ways(merger, base, one, other) == expected


# What it costs, and what it cannot be made to do


def test_only_what_all_three_have_otherwise_is_asked_for(merger: Merger) -> None:
    """A merge reads only what both sides changed."""
    store = merger.store
    big = {f"n{n}": f(str(n), mtime_ns=n) for n in range(60)}
    base = D({"both": D({**big, "deep": d(o=f("1"), t=f("1"))}), "ours": D(big), "theirs": d(x=D(big)), "none": D(big)})
    ours = D(
        {
            "both": D({**big, "deep": d(o=f("2"), t=f("1"))}),
            "ours": D({**big, "a": f("a")}),
            "theirs": d(x=D(big)),
            "none": D(big),
        }
    )
    theirs = D(
        {
            "both": D({**big, "deep": d(o=f("1"), t=f("2"))}),
            "ours": D(big),
            "theirs": d(x=D(big | {"n1": f("x")})),
            "none": D(big),
        }
    )
    merged = merger.run(base, ours, theirs)
    allowed = set()
    for shape in (base, ours, theirs):
        both = shape.entries["both"]
        allowed |= {put(store, one).cid for one in (shape, both, both.entries["deep"])}
    store.forget_questions()
    store.run(merge_roots(put(store, one).cid for one in (base, ours, theirs)))
    assert set(store.asked) == allowed
    assert len(store.asked) == len(allowed)
    assert store.requests == 6
    expected = D(
        {
            "both": D({**big, "deep": d(o=f("2"), t=f("2"))}),
            "ours": ours.entries["ours"],
            "theirs": theirs.entries["theirs"],
            "none": D(big),
        }
    )
    assert merged.link == put(store, expected)


def test_the_base_is_left_alone_where_it_makes_no_difference(merger: Merger) -> None:
    """Nobody may have it any more."""
    store = merger.store
    shapes = d(x=f("1", mtime_ns=1)), d(x=f("2", mtime_ns=2)), d(x=d(y=f("3", mtime_ns=3)))
    roots = [put(store, shape).cid for shape in shapes]
    store.run(merge_roots(roots))
    assert put(store, shapes[0].entries["x"]).cid not in store.asked
    assert {put(store, shape.entries["x"]).cid for shape in shapes[1:]} <= set(store.asked)


def test_a_directory_that_becomes_theirs_keeps_the_size_they_wrote(merger: Merger) -> None:
    """The cumulative size in a link is a hint, and differs among writers: it must not make another tree of the same content."""
    store = merger.store
    folders = [put(store, shape) for shape in (d(x=f("1")), d(x=f("2")), d(x=f("2"), y=f("y")))]
    k = put(store, f("k"))
    odd = [replace(link, tsize=link.tsize + 7) for link in folders]
    base, ours, theirs = (
        store.make(edit_directory(None, {b"p": link, **more})).cid
        for link, more in zip(odd, ({}, {}, {b"k": k}), strict=True)
    )
    assert merger.of(base, ours, theirs).link.cid == theirs


def test_a_name_deleted_in_vain_costs_no_search(merger: Merger) -> None:
    """Without a name that one side removed and the other changed nobody looks for what was moved."""
    store = merger.store
    made = D({f"n{n}": D({"x": f(str(n), mtime_ns=n)}) for n in range(100)})
    shapes = d(a=f("1"), b=f("1")), D({"b": f("1"), "new": made}), d(a=f("1"), b=f("2"))
    roots = [put(store, shape).cid for shape in shapes]
    store.run(merge_roots(roots))
    assert store.asked == [*roots[1:], roots[0]]


def test_a_large_directory_costs_the_shards_that_changed(merger: Merger) -> None:
    """A merge in a folder of many names reads a few shards."""
    store = merger.store
    names = {b"n%d" % n: Link(build_file(b"x").link.cid, 1) for n in range(8_000)}
    store.keep(build_file(b"x"))
    new = {text: store.keep(build_file(text.encode())) for text in "12"}
    base = store.make(edit_directory(None, names))
    ours = store.make(edit_directory(base.cid, {b"n7": new["1"], b"o": new["1"], b"n9": None}))
    theirs = store.make(edit_directory(base.cid, {b"n70": new["2"], b"t": new["2"], b"n9": new["2"]}))
    store.forget_questions()
    merged = store.run(merge_trees(base.cid, ours.cid, theirs.cid, copy_name))
    asked = len(store.asked)
    store.keep(merged)
    expected = {**names, b"n7": new["1"], b"o": new["1"], b"n70": new["2"], b"t": new["2"], b"n9": new["2"]}
    assert merged.link == store.make(edit_directory(None, expected))
    assert asked < 40


def test_a_conflict_in_a_sharded_directory(store: Store) -> None:
    """Conflicts in very large folders are kept as in small ones."""
    merger = Merger(store, threshold=700)
    many = {f"n{n}": f(str(n)) for n in range(60)}
    merged = merger.run(D(many), D({**many, "n5": f("ours"), "n5~": f("o")}), D({**many, "n5": f("theirs"), "n5~~": f("t")}))
    expected = D({**many, "n5": f("theirs"), "n5~": f("o"), "n5~~": f("t"), "n5~~~": f("ours")})
    assert merged.link == put(store, expected, 700)
    assert merged.conflicts == (MergeConflict((b"n5",), (b"n5~~~",), Side.OURS),)


def chain(store: Store, levels: int, **leaves: str) -> Cid:
    """A directory below a directory below … with some files at the end."""
    link = put(store, D({name: f(text) for name, text in leaves.items()}))
    for _ in range(levels):
        built = built_node(UnixFs(UnixFsType.DIRECTORY), [(link.cid, b"d", link.tsize)])
        link = store.keep(built)
    return link.cid


def test_a_tree_deeper_than_the_stack(merger: Merger) -> None:
    """Deep paths are merged, whatever depth Python's stack has."""
    levels = sys.getrecursionlimit() + 100
    roots = [chain(merger.store, levels, **leaves) for leaves in ({"x": "1"}, {"x": "1", "o": "o"}, {"x": "2"})]
    assert merger.store.run(merge_roots(roots)).link.cid == chain(merger.store, levels, x="2", o="o")


def test_a_tree_deeper_than_is_allowed(merger: Merger) -> None:
    """An absurdly deep tree of another client is refused with an error."""
    roots = [chain(merger.store, DEPTH_MAX + 1, x=text) for text in "123"]
    with pytest.raises(Corrupt):
        merger.store.run(merge_roots(roots))


def test_a_small_dag_that_claims_to_be_a_large_tree(merger: Merger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty levels that each link the next one twice: 2⁴⁰ directories, all different on both sides."""
    monkeypatch.setattr(merging, "DIRECTORIES_MAX", 2000)
    roots = [doubled(merger.store, text) for text in "123"]
    with pytest.raises(TooLarge):
        merger.store.run(merge_roots(roots))
    monkeypatch.setattr(merging, "CHANGES_MAX", 1000)
    with pytest.raises(TooLarge):
        merger.store.run(merge_roots(roots))


def doubled(store: Store, text: str) -> Cid:
    link = put(store, d(x=f(text)))
    for _ in range(40):
        link = store.make(edit_directory(None, {b"a": link, b"b": link}))
    return link.cid


def test_a_search_for_what_moved_ends(merger: Merger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one side made is far too much to look for a moved file in: it is kept at both names."""
    monkeypatch.setattr(renames, "LOOKED_INTO_MAX", 1000)
    store = merger.store
    links = {name: put(store, f(text)) for name, text in ((b"a", "1"), (b"a2", "2"), (b"k", "k"))}
    base = store.make(edit_directory(None, {b"a": links[b"a"], b"k": links[b"k"]}))
    made = {b"b": links[b"a"], b"k": links[b"k"], b"made": Link(doubled(store, "x"), 0)}
    ours = store.make(edit_directory(None, made))
    theirs = store.make(edit_directory(None, {b"a": links[b"a2"], b"k": links[b"k"]}))
    merged = store.run(merge_trees(base.cid, ours.cid, theirs.cid, copy_name))
    assert merged.link.cid == store.make(edit_directory(None, {**made, b"a": links[b"a2"]})).cid


# Properties over many small trees

relaxed = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
Path = tuple[str, ...]


@dataclass(frozen=True)
class Edit:
    """One thing that a side does to what stands at one of its paths, or under ``name`` in one of its directories."""

    what: str
    at: int
    into: int
    name: str
    number: int


def edits(*whats: str) -> st.SearchStrategy[list[Edit]]:
    some = st.integers(0, 11)
    names = st.sampled_from(["a", "b", "c", "d"])
    return st.lists(st.builds(Edit, st.sampled_from(whats), some, some, names, st.integers(0, 3)), max_size=8)


CHANGING = ("make", "make", "make directory", "link", "write", "write", "chmod", "touch", "remove", "remove")
MOVING = (*CHANGING, "write", "move", "move", "move", "move", "swap")


def done(tree: D, todo: list[Edit]) -> D:
    """The tree after some edits; one that makes no sense does nothing. Contents tell where they were first made, so that without
    moves no node is the same at two names."""
    for edit in todo:
        tree = _done(tree, edit)
    return tree


def _done(tree: D, edit: Edit) -> D:
    paths = all_paths(tree)
    folders = [(), *(path for path in paths if isinstance(look(tree, path), D))]
    new = (*folders[edit.into % len(folders)], edit.name)
    old = paths[edit.at % len(paths)] if paths else new
    path = new if edit.what in ("make", "make directory", "link") else old
    here, where = look(tree, path), "/".join(path)
    now = {"mtime_ns": zlib.crc32(where.encode()) * 8 + edit.number}
    match edit.what:
        case "make" | "write" if not isinstance(here, D):
            data = f"{where} {edit.number}".encode() if edit.number else b""
            attributes = replace(here.attributes, **now) if isinstance(here, F) and data else NO_ATTRIBUTES
            return planted(tree, path, F(data, attributes))
        case "link":
            return planted(tree, path, L(f"{where} {edit.number}".encode()))
        case "make directory" if not isinstance(here, D):
            return planted(tree, path, D({}, A(**now)))
        case "chmod" if here not in (None, F(b"")) and not isinstance(here, L):
            return planted(tree, path, replace(here, attributes=A(mode=0o600 + edit.number, **now)))
        case "touch" if here not in (None, F(b"")):
            return planted(tree, path, replace(here, attributes=replace(here.attributes, **now)))
        case "remove":
            return planted(tree, path, None)
        case "move" if here is not None and new[: len(path)] != path and path[: len(new)] != new:
            return planted(planted(tree, new, here), path, None)
        case "swap" if look(tree, new) and here is not None and new[: len(path)] != path and path[: len(new)] != new:
            return planted(planted(tree, path, look(tree, new)), new, here)
    return tree


def look(tree: Shape | None, path: Path) -> Any:
    for name in path:
        tree = tree.entries.get(name) if isinstance(tree, D) else None
    return tree


def planted(tree: D, path: Path, shape: Shape | None) -> D:
    """The tree with something at a path; as it was where that is no place."""
    name, *rest = path
    if not rest:
        entries = {key: value for key, value in tree.entries.items() if key != name}
        return replace(tree, entries=entries if shape is None else {**entries, name: shape})
    below = tree.entries.get(name)
    if not isinstance(below, D):
        return tree
    changed = planted(below, tuple(rest), shape)
    return tree if changed is below else replace(tree, entries={**tree.entries, name: changed})


def all_paths(tree: D, above: Path = ()) -> list[Path]:
    found = []
    for name, below in tree.entries.items():
        found.append((*above, name))
        if isinstance(below, D):
            found += all_paths(below, (*above, name))
    return found


SKELETON = done(
    D({"a": D({"a": D(), "b": D()}), "b": D({"c": D({"c": D()})}), "c": D()}),
    [Edit("make", 0, into, name, 1 + into % 3) for into in range(8) for name in "cd"],
)
BASES = edits(*CHANGING).map(lambda todo: done(SKELETON, todo))


def entry(shape: Shape | None) -> Entry | None:
    match shape:
        case F():
            return Entry(Kind.FILE, shape.data, shape.attributes, not shape.data)
        case L():
            return Entry(Kind.SYMLINK, shape.target, shape.attributes)
        case D():
            return Entry(Kind.DIRECTORY, repr(sorted(shape.entries.items())).encode(), shape.attributes)
    return None


def by_the_rules(base: Shape | None, ours: Shape | None, theirs: Shape | None, seen: list[Outcome]) -> Any:
    """The merge as one would write it down: no CIDs, no renames, everything looked into."""
    verdict = judge(entry(base), entry(ours), entry(theirs))
    seen.append(verdict.outcome)
    match verdict.outcome:
        case Outcome.NOTHING:
            return None
        case Outcome.OURS | Outcome.THEIRS_BESIDE:
            return ours
        case Outcome.THEIRS | Outcome.OURS_BESIDE:
            return theirs
        case Outcome.MERGED:
            kept = ours if verdict.content is Side.OURS else theirs
            assert kept is not None
            return replace(kept, attributes=verdict.attributes)
    olds, mine, its = (side.entries if isinstance(side, D) else {} for side in (base, ours, theirs))
    merged = {}
    for name in sorted({**mine, **its}):
        result = by_the_rules(olds.get(name), mine.get(name), its.get(name), seen)
        if result is not None:
            merged[name] = result
        act = judge(*(entry(side.get(name)) for side in (olds, mine, its))).outcome
        if act in (Outcome.OURS_BESIDE, Outcome.THEIRS_BESIDE):
            copy = copy_name(name.encode(), lambda candidate: candidate.decode() in {**mine, **its, **merged})
            merged[copy.decode()] = (mine if act is Outcome.OURS_BESIDE else its)[name]
    stays = verdict.outcome is Outcome.MERGE_INSIDE or verdict.keep or merged
    return D(merged, verdict.attributes) if stays else None


@relaxed
@given(base=BASES, ours=edits(*CHANGING), theirs=edits(*CHANGING), threshold=st.sampled_from([0, 60, THRESHOLD]))
def test_a_merge_is_what_the_rules_say(
    new_store: type[Store], base: D, ours: list[Edit], theirs: list[Edit], threshold: int
) -> None:
    """The link of the result is that of the tree which the rules name, built from nothing: so it is canonical, too. And as many
    conflicts as there are names for which the rules have one."""
    merger = Merger(new_store(), threshold)
    one, other = done(base, ours), done(base, theirs)
    seen: list[Outcome] = []
    expected = by_the_rules(base, one, other, seen)
    for act in set(seen):
        event(act.name)
    merged = merger.run(base, one, other)
    assert get(merger.store, merged.link.cid) == expected
    assert merged.link == put(merger.store, expected, threshold)
    assert len(merged.conflicts) == seen.count(Outcome.OURS_BESIDE) + seen.count(Outcome.THEIRS_BESIDE)
    for conflict in merged.conflicts:
        path, copy = ([name.decode() for name in names] for names in (conflict.path, conflict.copy))
        loser, winner = (one, other) if conflict.side is Side.OURS else (other, one)
        assert look(expected, tuple(copy)) == look(loser, tuple(path))
        assert look(expected, tuple(path)) == look(winner, tuple(path))


@relaxed
@given(base=BASES, ours=edits(*CHANGING), theirs=edits(*CHANGING))
def test_a_merge_of_two_that_never_agreed_is_what_the_rules_say(
    new_store: type[Store], base: D, ours: list[Edit], theirs: list[Edit]
) -> None:
    """Without a base, too, each name gets what the table of rules says."""
    merger = Merger(new_store())
    one, other = done(base, ours), done(base, theirs)
    expected = by_the_rules(None, one, other, [])
    if D() not in (one, other):
        assert get(merger.store, merger.run(None, one, other).link.cid) == expected


@relaxed
@given(base=BASES, changes=edits(*MOVING))
def test_what_only_one_side_did_is_its_tree(new_store: type[Store], base: D, changes: list[Edit]) -> None:
    """A merge with an unchanged side is the other side, block for block."""
    merger = Merger(new_store())
    new = done(base, changes)
    link = put(merger.store, new)
    for result in (merger.run(base, new, base), merger.run(base, base, new), merger.run(base, new, new)):
        assert result == Merge(link)


@relaxed
@given(base=BASES, ours=edits(*MOVING), theirs=edits(*MOVING))
def test_a_merge_is_the_same_the_other_way_round_and_loses_nothing(
    new_store: type[Store], base: D, ours: list[Edit], theirs: list[Edit]
) -> None:
    """The same but for who keeps the name of two files in conflict.

    Every content that a side has and the base has nowhere stands in the result, and what all three have at one name stands there.
    There are no more copies than names of which both sides changed the content, and names that one side removed and the other
    changed: a move that is followed can bring two together where only one had something.
    """
    merger = Merger(new_store())
    one, other = done(base, ours), done(base, theirs)
    merged = merger.run(base, one, other)
    assert without_sides(merger, merged) == without_sides(merger, merger.run(base, other, one))
    tree = get(merger.store, merged.link.cid)
    assert isinstance(tree, D)
    left, were = leaves_of(tree), {content for _, content in leaves_of(base)}
    contents = {content for _, content in left}
    for side in (one, other):
        assert {content for _, content in leaves_of(side)} <= were | contents
    assert set(leaves_of(base)) & set(leaves_of(one)) & set(leaves_of(other)) <= set(left)
    paths = {path for tree in (base, one, other) for path in all_paths(tree)}
    both = [path for path in paths if contested(*(look(tree, path) for tree in (base, one, other)))]
    gone = [path for path in paths if look(base, path) and (look(one, path) is None) != (look(other, path) is None)]
    event(f"{len(merged.conflicts)} copies")
    assert len(merged.conflicts) <= len(both) + len(gone)


def without_sides(merger: Merger, merged: Merge) -> Any:
    """The merged tree, and for each conflict what stands at its two names, in no order; without what stands there."""
    tree: Any = get(merger.store, merged.link.cid)
    pairs = []
    for conflict in merged.conflicts:
        paths = [tuple(name.decode() for name in names) for names in (conflict.path, conflict.copy)]
        pairs.append((paths[0], sorted(repr(look(tree, path)) for path in paths)))
    for conflict in merged.conflicts:
        for names in (conflict.path, conflict.copy):
            tree = planted(tree, tuple(name.decode() for name in names), None)
    return tree, pairs


def leaves_of(tree: D, above: Path = ()) -> list[tuple[Path, tuple[str, bytes]]]:
    """All files that are not empty, and symlinks, with their paths."""
    found: list[tuple[Path, tuple[str, bytes]]] = []
    for name, below in tree.entries.items():
        path = (*above, name)
        match below:
            case D():
                found += leaves_of(below, path)
            case F() if below.data:
                found.append((path, ("file", below.data)))
            case L():
                found.append((path, ("symlink", below.target)))
    return found


def contested(base: Any, ours: Any, theirs: Any) -> bool:
    """Whether both sides have other things at a name than each other and the base, which are not both directories."""
    if ours is None or theirs is None or (isinstance(ours, D) and isinstance(theirs, D)):
        return False
    return len({repr(bare(one)) for one in (ours, theirs)}) == 2 and ours != base != theirs


def bare(shape: Any) -> Any:
    return shape and replace(shape, attributes=NO_ATTRIBUTES)


@relaxed
@given(base=BASES, ours=edits(*CHANGING), theirs=edits(*CHANGING))
def test_nobody_looks_where_two_agree(new_store: type[Store], base: D, ours: list[Edit], theirs: list[Edit]) -> None:
    """Only nodes are asked for that stand at a name where all three differ, unless something might have been moved."""
    merger = Merger(new_store())
    trees = [base, done(base, ours), done(base, theirs)]
    roots = [put(merger.store, tree).cid for tree in trees]
    merger.store.forget_questions()
    merger.store.run(merge_roots(roots))
    differing: list[Path] = [()]
    lost = False
    for path in {path for tree in trees for path in all_paths(tree)}:
        here = [look(tree, path) for tree in trees]
        if len({repr(one) for one in here}) == 3:
            differing.append(path)
            lost |= here[0] is not None and None in here[1:]
    allowed = {put(merger.store, shape).cid for path in differing for tree in trees if (shape := look(tree, path))}
    assert lost or set(merger.store.asked) <= allowed
