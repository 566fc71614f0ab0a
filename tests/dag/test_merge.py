"""Merging three trees: every rule as an example, read back from the result's blocks, and properties over many small trees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from bucketfs.dag import (
    Act,
    Entry,
    Merge,
    MergeConflict,
    Side,
    build_file,
    edit_directory,
    entry_of,
    judge,
    list_directory,
    merge,
    node_info,
    reachable,
    read_file,
    symlink,
)
from bucketfs.errors import Corrupt, InvalidArgument, NotADirectory
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

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


def put(store: Any, shape: Shape, threshold: int = THRESHOLD) -> Link:
    match shape:
        case F():
            return store.keep(build_file(shape.data, shape.attributes))
        case L():
            return store.keep(symlink(shape.target, shape.attributes))
        case D():
            links = {name.encode(): put(store, below, threshold) for name, below in shape.entries.items()}
            return store.make(edit_directory(None, links, shape.attributes, threshold=threshold))


def get(store: Any, cid: Cid) -> Shape:
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


class Merger:
    """Merges shapes through a store, and says what came out."""

    def __init__(self, store: Any, threshold: int = THRESHOLD) -> None:
        self.store = store
        self.threshold = threshold

    def run(self, base: Shape | None, ours: Shape, theirs: Shape) -> Merge:
        roots = [None if one is None else put(self.store, one, self.threshold).cid for one in (base, ours, theirs)]
        return self.of(*roots)

    def of(self, base: Cid | None, ours: Cid, theirs: Cid) -> Merge:
        self.store.forget_questions()
        result: Merge = self.store.run(merge(base, ours, theirs, copy_name, threshold=self.threshold))
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
def merger(store: Any) -> Merger:
    return Merger(store)


# The rules, one by one


def test_what_one_side_changed_is_taken_to_the_last_bit(merger: Merger) -> None:
    base = D({"a": f("1"), "b": d(c=f("2"))}, A(mtime_ns=5))
    new = D({"a": f("9"), "n": L(b"t"), "e": D()}, A(mtime_ns=7))
    cid = put(merger.store, new).cid
    assert merger.run(base, new, base) == merger.run(base, base, new) == merger.run(base, new, new)
    assert merger.run(base, new, base).link == put(merger.store, new)
    assert merger.run(None, new, D()).link.cid == merger.run(None, D(), new).link.cid == cid
    assert merger.run(base, new, base).blocks == {}


def test_changes_in_different_places_meet(merger: Merger) -> None:
    base = d(a=f("1"), b=f("2"), c=f("3"), x=d(y=d(o=f("1"), t=f("1"), gone=f("1"))))
    ours = d(a=f("ours"), c=f("3"), new=f("n"), x=d(y=d(o=f("2"), t=f("1"), gone=f("1"))))
    theirs = d(a=f("1"), b=f("2"), other=L(b"to"), x=d(y=d(o=f("1"), t=f("2")), z=D()))
    expected = d(a=f("ours"), new=f("n"), other=L(b"to"), x=d(y=d(o=f("2"), t=f("2")), z=D()))
    merged = merger.run(base, ours, theirs)
    assert merged.link == put(merger.store, expected)
    assert merged.conflicts == ()


def test_two_that_never_agreed(merger: Merger) -> None:
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
    base = D({"x": D({"a": f("1")}, A(mtime_ns=1))})
    ours = D({"x": D({"a": f("1"), "o": f("o")}, A(mtime_ns=3, mode=0o700))})
    theirs = D({"x": D({"a": f("1"), "t": f("t")}, A(mtime_ns=2, uid=4))})
    expected = D({"x": D({"a": f("1"), "o": f("o"), "t": f("t")}, A(mtime_ns=3, mode=0o700, uid=4))})
    assert merger(base, ours, theirs) == merger(base, theirs, ours) == expected


def test_a_chmod_here_and_a_write_there(merger: Merger) -> None:
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
    data = b"content" * 1000
    merged = merger.run(d(), d(x=F(data, A(mode=0o600, mtime_ns=1))), d(x=F(data, A(mtime_ns=2, mode=0o640))))
    assert get(merger.store, merged.link.cid) == d(x=F(data, A(mode=0o640, mtime_ns=2)))
    assert merged.conflicts == ()


def test_an_edit_survives_a_removal_with_its_folders(merger: Merger) -> None:
    base = d(a=d(b=d(x=f("1"), y=f("1")), c=f("1")), z=f("z"))
    ours = d(z=f("z"))
    theirs = d(a=d(b=d(x=f("2"), y=f("1")), c=f("1")), z=f("z"))
    expected = d(a=d(b=d(x=f("2"))), z=f("z"))
    assert merger(base, ours, theirs) == merger(base, theirs, ours) == expected


def test_a_touched_folder_does_not_survive_a_removal_but_one_with_a_new_mode_does(merger: Merger) -> None:
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
    base = d(x=f("1"), z=f("z"))
    theirs = D({"x": D({"a": D()}), "z": f("z")})
    assert merger(base, d(z=f("z")), theirs) == merger(base, theirs, d(z=f("z"))) == theirs


def test_written_beats_empty(merger: Merger) -> None:
    base = d(x=f("1"), y=f("1"))
    assert merger(base, d(x=f(""), y=f("2")), d(x=f("2"), y=f(""))) == d(x=f("2"), y=f("2"))


def test_a_folder_keeps_its_name(merger: Merger) -> None:
    for base in (d(x=f("1")), d(), d(x=L(b"1"))):
        merged = merger.run(base, d(x=f("2")), d(x=d(a=f("3"))))
        assert get(merger.store, merged.link.cid) == D({"x": d(a=f("3")), "x~": f("2")})
        assert merged.conflicts == (MergeConflict((b"x",), (b"x~",), Side.OURS),)
        merged = merger.run(base, d(x=d(a=f("3"))), d(x=L(b"2")))
        assert get(merger.store, merged.link.cid) == D({"x": d(a=f("3")), "x~": L(b"2")})
        assert merged.conflicts == (MergeConflict((b"x",), (b"x~",), Side.THEIRS),)


def test_two_edits_stand_beside_one_another(merger: Merger) -> None:
    base = d(p=d(x=f("1"), y=L(b"1"), z=f("1")))
    ours = d(p=d(x=f("2"), y=L(b"2"), z=L(b"2")))
    theirs = d(p=d(x=f("3"), y=L(b"3"), z=f("3")))
    merged = merger.run(base, ours, theirs)
    expected = {"x": f("3"), "x~": f("2"), "y": L(b"3"), "y~": L(b"2"), "z": f("3"), "z~": L(b"2")}
    assert get(merger.store, merged.link.cid) == D({"p": D(expected)})
    assert [conflict.path for conflict in merged.conflicts] == [(b"p", b"x"), (b"p", b"y"), (b"p", b"z")]


def test_a_copy_takes_no_name_that_anybody_has(merger: Merger) -> None:
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

    merged = store.run(merge(base, ours, theirs, always_the_same))
    assert [conflict.copy for conflict in merged.conflicts] == [(b"c1",), (b"c2",)]


def test_who_insists_on_a_name_that_is_taken(merger: Merger) -> None:
    store = merger.store
    base, ours, theirs = (put(store, d(x=f(n), y=f("s"))).cid for n in "123")
    with pytest.raises(InvalidArgument):
        store.run(merge(base, ours, theirs, lambda name, taken: name))
    with pytest.raises(InvalidArgument):
        store.run(merge(base, ours, theirs, lambda name, taken: b"y"))


def test_the_seed_is_the_hubs(merger: Merger) -> None:
    base = D({".textileseed": f("1"), "x": d(x=f("1"))})
    ours = D({".textileseed": f("2"), "x": D({".textileseed": f("in a folder it is a name")})})
    theirs = D({".textileseed": f("1"), "x": d(x=f("1"), y=f("1"))})
    expected = D({".textileseed": f("in a folder it is a name"), "y": f("1")})
    assert merger(base, ours, theirs) == D({".textileseed": f("1"), "x": expected})
    assert merger(base, ours, D({".textileseed": f("3")})) == D(
        {".textileseed": f("3"), "x": d(**{".textileseed": f("in a folder it is a name")})}
    )


def test_only_directories_are_merged(merger: Merger) -> None:
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
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=f("2"), k=f("k"))) == d(b=f("2"), k=f("k"))


def test_a_file_moved_into_a_new_folder_and_its_old_one_removed(merger: Merger) -> None:
    base = d(p=d(a=f("1"), z=f("z")), k=f("k"))
    moved = d(q=d(r=d(a=f("1")), n=f("n")), k=f("k"))
    written = d(p=d(a=f("1", mode=0o600), z=f("z")), k=f("k"))
    assert both_ways(merger, base, moved, written) == d(q=d(r=d(a=f("1", mode=0o600)), n=f("n")), k=f("k"))


def test_a_folder_renamed_here_and_changed_inside_there(merger: Merger) -> None:
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
    base = d(a=f("1"), p=d(x=f("2")))
    one, other = d(b=f("1"), q=d(x=f("2"))), d(c=f("1"), r=d(x=f("2")))
    assert both_ways(merger, base, one, other) == d(b=f("1"), c=f("1"), q=d(x=f("2")), r=d(x=f("2")))
    assert both_ways(merger, base, one, one) == one


def test_moved_and_written_on_one_side_keeps_both(merger: Merger) -> None:
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1 more"), k=f("k")), d(a=f("2"), k=f("k"))) == d(a=f("2"), b=f("1 more"), k=f("k"))


def test_two_candidates_keep_both(merger: Merger) -> None:
    base = d(a=f("1"), k=f("k"))
    copied = d(b=f("1"), c=d(b=f("1")), k=f("k"))
    assert both_ways(merger, base, copied, d(a=f("2"), k=f("k"))) == d(a=f("2"), b=f("1"), c=d(b=f("1")), k=f("k"))
    base = d(a=f("1"), p=d(a=f("1")), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=f("2"), p=d(a=f("1")), k=f("k"))) == d(
        a=f("2"), b=f("1"), k=f("k")
    )


def test_an_empty_file_is_no_other(merger: Merger) -> None:
    base = d(a=f(""), e=D(), k=f("k"))
    other = d(a=f("2"), e=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, d(b=f(""), h=D(), k=f("k")), other) == d(
        a=f("2"), b=f(""), e=d(x=f("x")), h=D(), k=f("k")
    )


def test_a_file_that_became_a_folder_did_not_move_on(merger: Merger) -> None:
    base = d(a=f("1"), k=f("k"))
    assert both_ways(merger, base, d(b=f("1"), k=f("k")), d(a=d(x=f("2")), k=f("k"))) == d(a=d(x=f("2")), b=f("1"), k=f("k"))


def test_the_new_name_is_taken_on_the_other_side(merger: Merger) -> None:
    base = d(a=f("1"), p=d(x=f("1x")))
    one, other = d(b=f("1"), q=d(x=f("1x"))), d(a=f("2"), b=f("3"), p=d(x=f("2x")), q=d(y=f("y")))
    merged = merger.run(base, one, other)
    assert get(merger.store, merged.link.cid) == D({"b": f("3"), "b~": f("2"), "q": d(x=f("2x"), y=f("y"))})
    assert merged.conflicts == (MergeConflict((b"b",), (b"b~",), Side.OURS),)


def test_the_folder_it_moved_into_was_removed(merger: Merger) -> None:
    base = d(a=f("1"), p=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, d(p=d(x=f("x"), a=f("1")), k=f("k")), d(a=f("2"), k=f("k"))) == d(p=d(a=f("2")), k=f("k"))


def test_the_folder_it_moved_into_moved_on(merger: Merger) -> None:
    """One side moved a file into a folder, the other wrote to it and renamed the folder: it goes along."""
    base = d(a=f("1"), p=d(x=f("x")), k=f("k"))
    into = d(p=d(x=f("x"), a=f("1")), k=f("k"))
    on = d(a=f("2"), q=d(x=f("x")), k=f("k"))
    assert both_ways(merger, base, into, on) == d(q=d(x=f("x"), a=f("2")), k=f("k"))


def test_three_moves_in_turns(merger: Merger) -> None:
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
    store = merger.store
    big = {f"n{n}": f(str(n), mtime_ns=n) for n in range(300)}
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
    store.run(merge(*(put(store, one).cid for one in (base, ours, theirs)), copy_name))
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


def test_a_name_deleted_in_vain_costs_no_search(merger: Merger) -> None:
    """Without a name that one side removed and the other changed nobody looks for what was moved."""
    store = merger.store
    made = D({f"n{n}": D({"x": f(str(n), mtime_ns=n)}) for n in range(100)})
    shapes = d(a=f("1"), b=f("1")), D({"b": f("1"), "new": made}), d(a=f("1"), b=f("2"))
    roots = [put(store, shape).cid for shape in shapes]
    store.run(merge(*roots, copy_name))
    assert store.asked == [*roots[1:], roots[0]]


def test_a_large_directory_costs_the_shards_that_changed(merger: Merger) -> None:
    store = merger.store
    names = {b"n%d" % n: Link(build_file(b"x").link.cid, 1) for n in range(20_000)}
    store.keep(build_file(b"x"))
    new = {text: store.keep(build_file(text.encode())) for text in "12"}
    base = store.make(edit_directory(None, names))
    ours = store.make(edit_directory(base.cid, {b"n7": new["1"], b"o": new["1"], b"n9": None}))
    theirs = store.make(edit_directory(base.cid, {b"n70": new["2"], b"t": new["2"], b"n9": new["2"]}))
    store.forget_questions()
    merged = store.run(merge(base.cid, ours.cid, theirs.cid, copy_name))
    asked = len(store.asked)
    store.keep(merged)
    expected = {**names, b"n7": new["1"], b"o": new["1"], b"n70": new["2"], b"t": new["2"], b"n9": new["2"]}
    assert merged.link == store.make(edit_directory(None, expected))
    assert asked < 40


def test_a_conflict_in_a_sharded_directory(store: Any) -> None:
    merger = Merger(store, threshold=700)
    many = {f"n{n}": f(str(n)) for n in range(60)}
    merged = merger.run(D(many), D({**many, "n5": f("ours"), "n5~": f("o")}), D({**many, "n5": f("theirs"), "n5~~": f("t")}))
    expected = D({**many, "n5": f("theirs"), "n5~": f("o"), "n5~~": f("t"), "n5~~~": f("ours")})
    assert merged.link == put(store, expected, 700)
    assert merged.conflicts == (MergeConflict((b"n5",), (b"n5~~~",), Side.OURS),)


def deep(store: Any, levels: int, text: str) -> Cid:
    link = store.keep(build_file(text.encode()))
    for _ in range(levels):
        link = store.make(edit_directory(None, {b"d": link, text.encode(): link}))
    return link.cid


def test_a_tree_deeper_than_the_stack(merger: Merger) -> None:
    store = merger.store

    def tree(names: dict[bytes, str]) -> Cid:
        link = store.make(
            edit_directory(None, {name: store.keep(build_file(text.encode())) for name, text in names.items()})
        )
        for _ in range(3000):
            link = store.make(edit_directory(None, {b"d": link}))
        return link.cid

    merged = merger.of(tree({b"x": "1"}), tree({b"x": "1", b"o": "o"}), tree({b"x": "1", b"t": "t"}))
    assert merged.link.cid == tree({b"x": "1", b"o": "o", b"t": "t"})


def test_a_tree_deeper_than_is_allowed(merger: Merger) -> None:
    with pytest.raises(Corrupt):
        merger.of(*(deep(merger.store, 4200, text) for text in "123"))
