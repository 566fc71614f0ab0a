"""The table of what becomes of a name that two sides changed, over all combinations and row by row."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from support.store import Store
from support.unixfs import build_file

from bucketfs.dag import (
    DAG_PB,
    Entry,
    Outcome,
    Side,
    UnixFs,
    UnixFsType,
    Verdict,
    cid_of,
    content_of,
    edit_directory,
    empty_directory,
    encode_unixfs,
    entry_of,
    judge,
    symlink,
    with_attributes,
)
from bucketfs.dag.codec.dag_pb import encode_pb
from bucketfs.dag.merge.rules import merge_attributes
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

A = NodeAttributes


def file(content: bytes, **attributes: int) -> Entry:
    return Entry(Kind.FILE, content, A(**attributes), empty=content == b"")


def folder(content: bytes, **attributes: int) -> Entry:
    return Entry(Kind.DIRECTORY, content, A(**attributes))


def link(target: bytes, **attributes: int) -> Entry:
    return Entry(Kind.SYMLINK, target, A(**attributes))


def took(act: Outcome) -> Verdict:
    return Verdict(act)


f, d, s = file, folder, link

TABLE: list[tuple[str, Entry | None, Entry | None, Entry | None, Verdict]] = [
    # one side left it as it was
    ("only theirs wrote", f(b"1"), f(b"1"), f(b"2"), took(Outcome.THEIRS)),
    ("only ours wrote", f(b"1"), f(b"2"), f(b"1"), took(Outcome.OURS)),
    ("only theirs removed", f(b"1"), f(b"1"), None, took(Outcome.NOTHING)),
    ("only ours removed", f(b"1"), None, f(b"1"), took(Outcome.NOTHING)),
    ("only ours removed a folder", d(b"1"), None, d(b"1"), took(Outcome.NOTHING)),
    ("only theirs made", None, None, f(b"1"), took(Outcome.THEIRS)),
    ("only ours made", None, s(b"1"), None, took(Outcome.OURS)),
    ("only ours changed a folder", d(b"1"), d(b"2", mode=0o700), d(b"1"), took(Outcome.OURS)),
    ("folder against the same folder", d(b"1"), f(b"1"), d(b"1"), took(Outcome.OURS)),
    # both the same
    ("both wrote the same", f(b"1"), f(b"2", mtime_ns=5), f(b"2", mtime_ns=5), took(Outcome.THEIRS)),
    ("both removed", f(b"1"), None, None, took(Outcome.NOTHING)),
    ("never anything", None, None, None, took(Outcome.NOTHING)),
    ("both made the same folder", None, d(b"1"), d(b"1"), took(Outcome.THEIRS)),
    ("a default written out is none", f(b"1", mode=0o644), f(b"1"), f(b"2"), took(Outcome.THEIRS)),
    # gone on one side
    ("removed here, written there", f(b"1"), None, f(b"2"), took(Outcome.THEIRS)),
    ("written here, removed there", f(b"1"), f(b"2"), None, took(Outcome.OURS)),
    ("removed here, chmod there", f(b"1"), None, f(b"1", mode=0o600), took(Outcome.THEIRS)),
    ("touched here, removed there", f(b"1", mtime_ns=1), f(b"1", mtime_ns=2), None, took(Outcome.OURS)),
    ("symlink turned here, removed there", s(b"1"), s(b"2"), None, took(Outcome.OURS)),
    ("removed here, a folder instead of the file there", f(b"1"), None, d(b"1"), took(Outcome.THEIRS)),
    ("removed here, a file instead of the folder there", d(b"1"), None, f(b"1"), took(Outcome.THEIRS)),
    (
        "folder removed here, changed inside there",
        d(b"1", mtime_ns=1),
        None,
        d(b"2", mtime_ns=2),
        Verdict(Outcome.THEIRS_INSIDE, A(mtime_ns=2)),
    ),
    (
        "folder's owner changed here, removed there",
        d(b"1"),
        d(b"1", uid=7),
        None,
        Verdict(Outcome.OURS_INSIDE, A(uid=7), keep=True),
    ),
    ("folder touched here, removed there", d(b"1"), d(b"1", mtime_ns=7), None, Verdict(Outcome.OURS_INSIDE, A(mtime_ns=7))),
    # two directories
    (
        "two folders changed",
        d(b"1", mtime_ns=1),
        d(b"2", mtime_ns=3, mode=0o700),
        d(b"3", mtime_ns=2, uid=5),
        Verdict(Outcome.MERGE_INSIDE, A(mode=0o700, mtime_ns=3, uid=5)),
    ),
    ("two folders made", None, d(b"2", mtime_ns=3), d(b"3", mtime_ns=4), Verdict(Outcome.MERGE_INSIDE, A(mtime_ns=4))),
    ("two folders of a file", f(b"1", uid=9), d(b"2", uid=9), d(b"3", uid=8), Verdict(Outcome.MERGE_INSIDE, A(uid=8))),
    # kinds
    ("file here, folder there", f(b"1"), f(b"2"), d(b"3"), took(Outcome.OURS_BESIDE)),
    ("folder here, file there", f(b"1"), d(b"2"), f(b"3"), took(Outcome.THEIRS_BESIDE)),
    ("folder here, symlink there, nothing before", None, d(b"2"), s(b"3"), took(Outcome.THEIRS_BESIDE)),
    ("an empty file is no folder", None, f(b""), d(b"3"), took(Outcome.OURS_BESIDE)),
    ("file changed here, symlink there", f(b"1"), f(b"2"), s(b"3"), took(Outcome.OURS_BESIDE)),
    ("chmod here, symlink there", f(b"1"), f(b"1", mode=0o600), s(b"3"), took(Outcome.OURS_BESIDE)),
    ("symlink here, file there", None, s(b"2"), f(b"3"), took(Outcome.OURS_BESIDE)),
    # the same content
    (
        "chmod here, touched there",
        f(b"1", mtime_ns=1),
        f(b"1", mtime_ns=1, mode=0o600),
        f(b"1", mtime_ns=9),
        Verdict(Outcome.MERGED, A(mode=0o600, mtime_ns=9), Side.THEIRS),
    ),
    ("both made it, ours later", None, f(b"1", mtime_ns=3, mode=0o600), f(b"1", mtime_ns=2), took(Outcome.OURS)),
    ("both made it, theirs later", None, f(b"1", mtime_ns=3, mode=0o600), f(b"1", mtime_ns=4), took(Outcome.THEIRS)),
    ("both turned it the same way", s(b"1"), s(b"2", mtime_ns=3), s(b"2", mtime_ns=4), took(Outcome.THEIRS)),
    # one wrote
    (
        "chmod here, written there",
        f(b"1", mtime_ns=1),
        f(b"1", mtime_ns=1, mode=0o600),
        f(b"2", mtime_ns=2),
        Verdict(Outcome.MERGED, A(mode=0o600, mtime_ns=2), Side.THEIRS),
    ),
    (
        "written here, chown and touched later there",
        f(b"1", mtime_ns=1),
        f(b"2", mtime_ns=2),
        f(b"1", mtime_ns=9, uid=4),
        Verdict(Outcome.MERGED, A(mtime_ns=2, uid=4), Side.OURS),
    ),
    ("written here, only touched there", f(b"1", mtime_ns=1), f(b"2", mtime_ns=2), f(b"1", mtime_ns=9), took(Outcome.OURS)),
    ("touched here, turned there", s(b"1", mtime_ns=1), s(b"1", mtime_ns=2), s(b"2", mtime_ns=1), took(Outcome.THEIRS)),
    # one of them empty
    ("truncated here, written there", f(b"1"), f(b""), f(b"2"), took(Outcome.THEIRS)),
    ("written here, truncated there", f(b"1"), f(b"2"), f(b""), took(Outcome.OURS)),
    ("made empty here, made there", None, f(b"", mtime_ns=9), f(b"2", mtime_ns=1), took(Outcome.THEIRS)),
    (
        "made empty and private here, made there",
        None,
        f(b"", mtime_ns=9, mode=0o600),
        f(b"2", mtime_ns=1),
        Verdict(Outcome.MERGED, A(mode=0o600, mtime_ns=1), Side.THEIRS),
    ),
    # else
    ("both wrote", f(b"1"), f(b"2"), f(b"3"), took(Outcome.OURS_BESIDE)),
    ("both made", None, f(b"2"), f(b"3"), took(Outcome.OURS_BESIDE)),
    ("both turned", s(b"1"), s(b"2"), s(b"3"), took(Outcome.OURS_BESIDE)),
    ("both made files of a folder", d(b"1"), f(b"2"), f(b"3"), took(Outcome.OURS_BESIDE)),
    ("what is of another kind is no base", s(b"2"), f(b"2"), f(b"3"), took(Outcome.OURS_BESIDE)),
]

SWAPPED_ACT = {
    Outcome.OURS: Outcome.THEIRS,
    Outcome.THEIRS: Outcome.OURS,
    Outcome.OURS_INSIDE: Outcome.THEIRS_INSIDE,
    Outcome.THEIRS_INSIDE: Outcome.OURS_INSIDE,
    Outcome.OURS_BESIDE: Outcome.THEIRS_BESIDE,
    Outcome.THEIRS_BESIDE: Outcome.OURS_BESIDE,
}


@pytest.mark.parametrize(("base", "ours", "theirs", "verdict"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(base: Entry | None, ours: Entry | None, theirs: Entry | None, verdict: Verdict) -> None:
    """Each row of the table of rules, as docs/semantics.md tells users."""
    assert judge(base, ours, theirs) == verdict


def every_entry() -> list[Entry | None]:
    attributes = [A(), A(mode=0o600, mtime_ns=1), A(mode=0o700, mtime_ns=1), A(mtime_ns=2, uid=3)]
    contents = [(Kind.FILE, b""), (Kind.FILE, b"1"), (Kind.FILE, b"2"), (Kind.DIRECTORY, b"1"), (Kind.DIRECTORY, b"2")]
    contents += [(Kind.SYMLINK, b"1"), (Kind.SYMLINK, b"2")]
    return [None, *(Entry(k, c, a, k is Kind.FILE and not c) for (k, c), a in itertools.product(contents, attributes))]


def outcome(verdict: Verdict, ours: Entry | None, theirs: Entry | None) -> Any:
    """What stands at the name and what beside it, in words that know no sides."""
    stands = {
        Outcome.OURS: ours,
        Outcome.THEIRS: theirs,
        Outcome.OURS_BESIDE: theirs,
        Outcome.THEIRS_BESIDE: ours,
        Outcome.NOTHING: None,
    }
    match verdict.outcome:
        case Outcome.MERGED:
            side = ours if verdict.content is Side.OURS else theirs
            assert side is not None
            return replace(_bare(side), attributes=verdict.attributes)
        case Outcome.MERGE_INSIDE:
            return "inside", verdict.attributes
        case Outcome.OURS_INSIDE | Outcome.THEIRS_INSIDE:
            return "inside", verdict.attributes, verdict.keep
        case Outcome.OURS_BESIDE if ours is not None and theirs is not None and theirs.kind is not Kind.DIRECTORY:
            return {_bare(ours), _bare(theirs)}
        case _:
            stands_here = stands[verdict.outcome]
            return stands_here and _bare(stands_here)


def _bare(entry: Entry) -> Entry:
    mode = entry.attributes.mode
    plain = entry.kind is Kind.SYMLINK or mode == (0o755 if entry.kind is Kind.DIRECTORY else 0o644)
    return replace(entry, attributes=replace(entry.attributes, mode=None)) if plain else entry


def test_every_combination_has_a_verdict_and_its_mirror() -> None:
    """29³ combinations: each is judged, none loses a content that only one side made, and a swap of the sides swaps it."""
    entries = every_entry()
    seen = set()
    for base, ours, theirs in itertools.product(entries, repeat=3):
        verdict, mirrored = judge(base, ours, theirs), judge(base, theirs, ours)
        seen.add(verdict.outcome)
        assert outcome(verdict, ours, theirs) == outcome(mirrored, theirs, ours), (base, ours, theirs)
        if ours in (base, theirs):
            assert outcome(verdict, ours, theirs) == (theirs and _bare(theirs))
        if verdict.outcome in (Outcome.OURS_BESIDE, Outcome.THEIRS_BESIDE):
            assert ours is not None and theirs is not None and ours != base and theirs != base
            assert (ours.kind, ours.content) != (theirs.kind, theirs.content)
        elif Kind.DIRECTORY not in {entry.kind for entry in (ours, theirs) if entry is not None}:
            standing = outcome(verdict, ours, theirs)
            for side in (ours, theirs):
                made = side is not None and side.content and (base is None or _bytes(side) != _bytes(base))
                assert not made or (standing is not None and _bytes(standing) in (_bytes(ours), _bytes(theirs)))
                if made and standing is not None and _bytes(standing) != _bytes(side):
                    # Only where the other side wrote over an empty file, which has no content to lose.
                    pytest.fail(f"{base}, {ours}, {theirs}: {side} is lost")
    assert seen == set(Outcome)


def _bytes(entry: Entry | None) -> tuple[Kind, bytes] | None:
    return None if entry is None else (entry.kind, entry.content)


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged"),
    [
        (A(mode=0o600), A(mode=0o600), A(mode=0o640), A(mode=0o640)),
        (A(mode=0o600), A(mode=0o640), A(mode=0o600), A(mode=0o640)),
        (A(mode=0o600), A(), A(mode=0o600, uid=3), A(uid=3)),
        (A(), A(mode=0o600, mtime_ns=2), A(mode=0o640, mtime_ns=1), A(mode=0o600, mtime_ns=2)),
        (A(), A(mode=0o600, mtime_ns=2), A(mode=0o666, mtime_ns=3), A(mode=0o666, mtime_ns=3)),
        (A(), A(mode=0o600), A(mode=0o666, mtime_ns=-5), A(mode=0o666, mtime_ns=-5)),
        (A(mode=0o640), A(mode=0o666), A(mode=0o600), A(mode=0o600)),
        (A(mode=0o640), A(mode=0o666), A(), A()),
        (A(mode=0o640), A(mode=0o600), A(), A(mode=0o600)),
        (A(uid=1), A(uid=2, gid=4), A(uid=3), A(uid=2, gid=4)),
        (A(uid=1), A(uid=0), A(), A()),
        (None, A(mode=0o600, uid=1), A(mode=0o666), A(mode=0o600)),
        (A(mtime_ns=5), A(mtime_ns=2), A(mtime_ns=5), A(mtime_ns=2)),
        (A(mtime_ns=5), A(mtime_ns=2), A(mtime_ns=3), A(mtime_ns=3)),
        (A(mtime_ns=5), A(mtime_ns=2), A(), A(mtime_ns=2)),
    ],
)
def test_attributes_field_by_field(base: A | None, ours: A, theirs: A, merged: A) -> None:
    """Mode, time and owner are merged one by one: no chmod is lost to a chown."""
    assert merge_attributes(Kind.FILE, base, ours, theirs) == merged
    assert merge_attributes(Kind.FILE, base, theirs, ours) == merged


def test_the_default_of_a_directory_is_another() -> None:
    """A folder's default mode is 0755, and is not taken for a change."""
    assert merge_attributes(Kind.DIRECTORY, None, A(mode=0o700), A()) == A(mode=0o700)
    assert merge_attributes(Kind.DIRECTORY, None, A(mode=0o775), A(mode=0o755)) == A()
    assert merge_attributes(Kind.SYMLINK, None, A(mode=0o777), A(mtime_ns=1)) == A(mtime_ns=1)


# From nodes


def v0(message: UnixFs, links: list[tuple[Cid, bytes, int]]) -> tuple[Link, bytes]:
    block = encode_pb((links, encode_unixfs(message)))
    return Link(cid_of(block, DAG_PB, 0), len(block)), block


@pytest.mark.parametrize("size", [0, 5, 5000, 300_000, 600_000])
def test_a_file_has_one_content_in_every_form(size: int) -> None:
    """Raw, inline, over one leaf, over several; with attributes or without; by both versions of CID; defaults written out."""
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    attributes = [NO_ATTRIBUTES, A(mode=0o600, mtime_ns=7), A(mtime_ns=10**18, uid=1, gid=2)]
    found = set()
    for wanted, inline_max in itertools.product(attributes, (0, 4096, 300_000)):
        built = build_file(data, wanted, inline_max=inline_max)
        block = built.blocks[built.link.cid]
        entry = entry_of(built.link.cid, block)
        assert entry == Entry(Kind.FILE, content_of(built.link.cid, block), wanted, empty=size == 0)
        found.add(entry.content)
        again = with_attributes(built.link.cid, block, A(mtime_ns=99), built.link.tsize)
        assert content_of(again.link.cid, again.blocks[again.link.cid]) == entry.content
    assert len(found) == 1
    (content,) = found
    assert content == build_file(data).link.cid
    if size > 5000:
        root = build_file(data, A(mtime_ns=7))
        links = root.blocks[root.link.cid]
        assert content_of(cid_of(links, DAG_PB, 0), links) == content
    else:
        old, block = v0(UnixFs(UnixFsType.FILE, data=data, filesize=size, mode=0o644, mtime_ns=5), [])
        assert entry_of(old.cid, block) == Entry(Kind.FILE, content, A(mtime_ns=5), empty=size == 0)
        oldest, block = v0(UnixFs(UnixFsType.RAW, data=data, filesize=size), [])
        assert entry_of(oldest.cid, block) == Entry(Kind.FILE, content, empty=size == 0)


def test_a_raw_leaf_needs_no_block() -> None:
    """Judging a plain file fetches nothing."""
    leaf = build_file(b"hello").link
    assert entry_of(leaf.cid) == Entry(Kind.FILE, leaf.cid)
    assert entry_of(build_file(b"").link.cid).empty
    inline = Cid(b"\x01\x55\x00\x05hello")
    assert content_of(inline) == leaf.cid


def test_fields_nobody_knows_are_content() -> None:
    """Foreign fields are part of what a file is: a change of them is not lost."""
    known, block = v0(UnixFs(UnixFsType.FILE, data=b"x", filesize=1), [])
    unknown, other = v0(UnixFs(UnixFsType.FILE, data=b"x", filesize=1, unknown=b"\xf8\x3f\x01"), [])
    assert content_of(known.cid, block) != content_of(unknown.cid, other)


def test_bytes_before_a_leaf_are_content() -> None:
    """A node may hold bytes of its own and then a leaf: it is not the file of that leaf."""
    leaf = build_file(b"leaf").link
    node, block = v0(UnixFs(UnixFsType.FILE, data=b"own", filesize=7, blocksizes=(4,)), [(leaf.cid, b"", 4)])
    assert content_of(node.cid, block) != leaf.cid
    dated = with_attributes(node.cid, block, A(mtime_ns=3), node.tsize + 4)
    bare = with_attributes(dated.link.cid, dated.blocks[dated.link.cid], NO_ATTRIBUTES, dated.link.tsize)
    assert content_of(bare.link.cid, bare.blocks[bare.link.cid]) == content_of(node.cid, block)


def test_symlinks_and_directories() -> None:
    """Links are compared by target, folders by what they hold."""
    one, other = symlink(b"to", A(mtime_ns=1)), symlink(b"to", A(mtime_ns=2))
    entry = entry_of(one.link.cid, one.blocks[one.link.cid])
    assert entry.kind is Kind.SYMLINK and entry.attributes == A(mtime_ns=1) and not entry.empty
    assert entry.content == content_of(other.link.cid, other.blocks[other.link.cid]) == symlink(b"to").link.cid
    plain, private = empty_directory(), empty_directory(A(mode=0o700))
    entry = entry_of(private.link.cid, private.blocks[private.link.cid])
    assert entry == Entry(Kind.DIRECTORY, plain.link.cid, A(mode=0o700))


def test_a_sharded_directory(store: Store) -> None:
    """A sharded folder is the same folder as a plain one."""
    names = {b"n%d" % n: Link(build_file(b"x").link.cid, 1) for n in range(50)}
    root = store.make(edit_directory(None, names, A(mode=0o700), threshold=100))
    bare = store.make(edit_directory(None, names, threshold=100))
    assert entry_of(root.cid, store.blocks[root.cid]) == Entry(Kind.DIRECTORY, bare.cid, A(mode=0o700))
