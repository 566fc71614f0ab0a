"""Data from outside: what is refused, and that small hostile DAGs cost little."""

from __future__ import annotations

import pytest
from support.store import Store
from support.unixfs import build_file

from bucketfs.dag import (
    DAG_PB,
    RAW,
    Unfolding,
    UnixFs,
    UnixFsType,
    check_block,
    check_entries,
    cid_from_text,
    cid_of,
    compare,
    decode_pb,
    diff,
    edit_directory,
    encode_pb,
    encode_unixfs,
    leaf_data,
    leaves,
    list_directory,
    lookup,
    merge_trees,
    multibase_decode,
    new_blocks,
    node_info,
    parse_cid,
    reachable,
    resolve,
    symlink,
    verify,
)
from bucketfs.dag.codec import BLOCK_MAX
from bucketfs.dag.codec.dag_pb import PbLink, PbNode
from bucketfs.dag.codec.nodes import build_node
from bucketfs.dag.dirs.hamt import name_hash
from bucketfs.dag.files import read as files
from bucketfs.dag.files.read import read_file
from bucketfs.errors import Corrupt, InvalidArgument, IsADirectory, NameInvalid, NameTooLong, NotADirectory, TooLarge
from bucketfs.types import Cid, Link

X = cid_of(b"x")
LINK = Link(X, 1)


def node(store: Store, message: UnixFs, *links: tuple[Cid, bytes, int]) -> Link:
    """Store a node that no builder of ours would make."""
    link, block = build_node(message, list(links))
    store.blocks[link.cid] = block
    return link


def shard(store: Store, *links: tuple[Cid, bytes, int], fanout: int = 256, hash_type: int = 0x22) -> Link:
    return node(store, UnixFs(UnixFsType.SHARD, hash_type=hash_type, fanout=fanout), *links)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x55\x12\x20" + bytes(32),
        b"\x01\x55\x12\x20" + bytes(31),
        b"\x01\x55\x12\x20" + bytes(33),
        b"\x12\x20" + bytes(31),
        b"\x01\x55\x12\x14" + bytes(20),
        b"\x01\x55\x13\x13" + bytes(19),
        b"\x01\x55\x00\x81\x01" + bytes(129),
        b"\x01\xd5\x00\x12\x20" + bytes(32),
        b"\x01\x55",
        b"\xff" * 12,
    ],
)
def test_what_is_no_cid(data: bytes) -> None:
    """A malformed CID is refused before anything is stored under it."""
    with pytest.raises(InvalidArgument):
        parse_cid(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Q",
        "Qm" + "1" * 44,
        "b!",
        "bafkqaaa=",
        "bafkqaab",
        "BafkQAAA",
        "zé",
        "x00",
        "f0",
        "z" + "2" * 5000,
        "uAVUAA+",
    ],
)
def test_what_is_no_text_of_a_cid(text: str) -> None:
    """A mistyped CID is refused, and never names another block."""
    with pytest.raises(InvalidArgument):
        cid_from_text(text)


def test_a_cid_v0_has_no_multibase_letter() -> None:
    """One CID has one text: two spellings cannot name the same root."""
    with pytest.raises(InvalidArgument):
        cid_from_text("zQmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    assert multibase_decode("zQmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")[:2] == b"\x12\x20"


def test_hash_functions() -> None:
    """Read: sha2-512 and blake2b-256; an unknown function is well-formed, but its block cannot be checked."""
    import hashlib

    verify(Cid(b"\x01\x55\x13\x40" + hashlib.sha512(b"a").digest()), b"a")
    blake2b = Cid(b"\x01\x55\xa0\xe4\x02\x20" + hashlib.blake2b(b"a", digest_size=32).digest())
    verify(parse_cid(blake2b), b"a")
    for cid in (blake2b, cid_of(b"a"), cid_of(b"a", DAG_PB, 0), parse_cid(b"\x01\x55\x1e\x20" + bytes(32))):
        with pytest.raises(Corrupt):
            verify(cid, b"b")


def test_blocks_from_outside() -> None:
    """A block that is not what it says is refused at the door."""
    block = b"x" * (BLOCK_MAX + 1)
    assert check_block(cid_of(block[1:]), block[1:]) == []
    for cid, data in (
        (cid_of(block), block),
        (X, b"y"),
        (cid_of(b"\xa0", 0x71), b"\xa0"),
        (cid_of(b"", DAG_PB), b""),
        (cid_of(b"\x0a\x02\x08\x09", DAG_PB), b"\x0a\x02\x08\x09"),
        (cid_of(b"\x0a\x02\x08\x03", DAG_PB), b"\x0a\x02\x08\x03"),
    ):
        with pytest.raises(Corrupt):
            check_block(cid, data)


def test_sizes_fit_63_bits() -> None:
    """A node that claims an absurd size cannot overflow a counter or a database."""
    link = encode_pb(PbNode((PbLink(X, b"n", 2**63),), None))
    with pytest.raises(Corrupt):
        decode_pb(link)
    assert decode_pb(encode_pb(PbNode((PbLink(X, b"n", 2**63 - 1),), None))).links[0].tsize == 2**63 - 1
    for message in (
        UnixFs(UnixFsType.FILE, filesize=2**63),
        UnixFs(UnixFsType.FILE, filesize=0, blocksizes=(2**62, 2**62)),
    ):
        block = encode_pb(PbNode((), encode_unixfs(message)))
        with pytest.raises(Corrupt):
            node_info(cid_of(block, DAG_PB), block)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b", b"\xff", b"x" * 256])
def test_names(store: Store, name: bytes) -> None:
    """Refused when set. Where one is met it hides nothing beside it: it is left out of listings, and edits keep it."""
    error = NameTooLong if len(name) > 255 else NameInvalid
    with pytest.raises(error):
        store.make(edit_directory(None, {name: LINK}))
    plain = node(store, UnixFs(UnixFsType.DIRECTORY), (X, b"ok", 1), (X, name, 1))
    built = [plain]
    if name:
        at, ok = (b"%02X" % (name_hash(one) >> 56) + one for one in (name, b"ok"))
        built.append(shard(store, (X, at, 1), (X, ok, 1)))
    for one in built:
        found = store.run(list_directory(one.cid))
        assert (dict(found.entries), found.impossible) == ({b"ok": LINK}, (name,))
        with pytest.raises(Corrupt, match="which no path can have"):
            check_entries(one.cid, store.blocks[one.cid])
        edited = store.make(edit_directory(one.cid, {b"more": LINK}))
        assert store.run(list_directory(edited.cid)).impossible == (name,)
        assert [change.path for change in store.run(diff(one.cid, edited.cid))] == [(b"more",)]
        emptied = store.make(edit_directory(one.cid, {name: None}))
        assert store.run(list_directory(emptied.cid)).impossible == ()
        assert store.run(diff(emptied.cid, one.cid)) == []
        assert store.run(compare(emptied.cid, one.cid)).top.impossible == (name,)
        merged = store.run(merge_trees(emptied.cid, edited.cid, one.cid, lambda wanted, _taken: wanted + b"2"))
        store.blocks |= merged.blocks
        assert store.run(list_directory(merged.link.cid)).impossible == (name,)


def test_the_first_of_equal_names_counts(store: Store) -> None:
    """A rewrite drops the others; links out of order are read, and written in order."""
    other = Link(cid_of(b"y"), 1)
    block = b"".join(
        encode_pb(PbNode((PbLink(cid, name, 1),), None)) for cid, name in ((X, b"b"), (other.cid, b"b"), (X, b"a"))
    ) + encode_pb(PbNode((), encode_unixfs(UnixFs(UnixFsType.DIRECTORY))))
    cid = cid_of(block, DAG_PB)
    store.blocks[cid] = block
    assert list(store.run(list_directory(cid)).entries.items()) == [(b"a", LINK), (b"b", LINK)]
    assert store.run(lookup(cid, b"b")) == LINK
    assert store.make(edit_directory(cid, {b"b": LINK, b"zz": None})).cid == cid
    edited = store.make(edit_directory(cid, {b"c": LINK}))
    assert edited == store.make(edit_directory(None, dict.fromkeys([b"a", b"b", b"c"], LINK)))


def test_symlink_targets(store: Store) -> None:
    """A link that no kernel takes is refused."""
    store.keep(symlink(b"x" * 4095))
    with pytest.raises(NameTooLong):
        symlink(b"x" * 4096)
    for target in (b"", b"a\0b"):
        with pytest.raises(InvalidArgument):
            symlink(target)
    long = node(store, UnixFs(UnixFsType.SYMLINK, data=b"x" * 4096))
    with pytest.raises(Corrupt):
        node_info(long.cid, store.blocks[long.cid])


@pytest.mark.parametrize("fanout", [0, 1, 4, 255, 2048, 1 << 40])
def test_fanouts(store: Store, fanout: int) -> None:
    """A shard with a fan-out that nobody writes is refused, whatever memory it would take."""
    with pytest.raises(Corrupt):
        store.run(list_directory(shard(store, fanout=fanout).cid))


def test_other_fanouts_are_read_and_kept(store: Store) -> None:
    """A fan-out of 1,024 takes ten bits a level and three digits a name."""
    names = [b"n%d" % n for n in range(300)]
    from bucketfs.dag.dirs.hamt import ShardEditor

    built = ShardEditor(1024).edit({}, dict.fromkeys(names, LINK), UnixFs(UnixFsType.SHARD))
    root = store.keep(built)
    assert list(store.run(list_directory(root.cid)).entries) == sorted(names)
    edited = store.make(edit_directory(root.cid, {b"more": LINK}))
    assert store.run(lookup(edited.cid, b"more")) == LINK
    assert store.make(edit_directory(edited.cid, {b"more": None}, threshold=0)) == root


def test_broken_shards(store: Store) -> None:
    """A shard that contradicts itself is refused and hides no entry."""
    name = b"name"
    index = name_hash(name) >> 56
    right, wrong = b"%02X" % index, b"%02X" % (index ^ 1)
    leaf = shard(store, (X, b"%02X" % (name_hash(name) >> 48 & 255) + name, 1))
    empty = shard(store)
    assert list(store.run(list_directory(shard(store, (leaf.cid, right, 1)).cid)).entries) == [name]
    for links in (
        [(X, wrong + name, 1)],
        [(X, b"zz" + name, 1)],
        [(X, right.lower() + name, 1)] if right != right.lower() else [(X, b"aa" + name, 1)],
        [(X, right + name, 1), (X, right + b"other", 1)],
        [(X, b"0", 1)],
        [(X, right, 1)],
        [(empty.cid, right, 1)],
        [(leaf.cid, wrong, 1)],
        [(store.make(edit_directory(None, {})).cid, right, 1)],
        [(shard(store, (X, b"0" + right + name, 1), fanout=1024).cid, right, 1)],
    ):
        with pytest.raises(Corrupt):
            store.run(list_directory(shard(store, *links).cid))
    with pytest.raises(Corrupt):
        store.run(list_directory(shard(store, hash_type=0x12).cid))


def test_shards_end_where_the_hash_ends(store: Store) -> None:
    """A shard in many of its parent's buckets, ten levels deep: refused after a few blocks, not after 40¹⁰."""
    prefixes = [b"%02X" % index for index in sorted({*range(40), *name_hash(b"n").to_bytes(8, "big")})]
    level = shard(store, *((X, prefix + b"n", 1) for prefix in prefixes))
    for _ in range(10):
        level = shard(store, *((level.cid, prefix, 1) for prefix in prefixes))
    for steps in (list_directory(level.cid), lookup(level.cid, b"n"), edit_directory(level.cid, {b"n": LINK})):
        store.forget_questions()
        with pytest.raises(Corrupt):
            store.run(steps)
        assert store.requests < 12


def test_files_that_contradict_themselves(store: Store) -> None:
    """A file whose sizes do not add up is refused, not read in part."""
    store.blocks[X] = b"x"
    inner = node(store, UnixFs(UnixFsType.FILE, filesize=1, blocksizes=(1,)), (X, b"", 1))
    directory = store.make(edit_directory(None, {}))
    message = UnixFs(UnixFsType.FILE, filesize=2, blocksizes=(2,))
    for root in (
        node(store, UnixFs(UnixFsType.FILE, filesize=1), (X, b"", 1)),
        node(store, UnixFs(UnixFsType.FILE, filesize=3, blocksizes=(2,)), (X, b"", 1)),
        node(store, message, (X, b"name", 1)),
        node(store, message, (inner.cid, b"", 1)),
        node(store, message, (directory.cid, b"", 1)),
        node(store, message, (X, b"", 1)),
        node(store, message, (Cid(b"\x01\x55\x00\x01x"), b"", 1)),
        node(store, message, (cid_of(b"", 0x71), b"", 1)),
    ):
        with pytest.raises(Corrupt):
            store.run(read_file(root.cid))
    with pytest.raises(Corrupt):
        leaf_data(X, b"x", 2)


def test_a_file_has_few_levels(store: Store) -> None:
    """A file of endlessly nested nodes ends in an error, not in a hang."""
    link = store.keep(build_file(b"x"))
    store.blocks[X] = b"x"
    for _ in range(10):
        link = node(store, UnixFs(UnixFsType.FILE, filesize=1, blocksizes=(1,)), (link.cid, b"", 1))
    assert store.run(read_file(link.cid)) == b"x"
    for _ in range(2):
        link = node(store, UnixFs(UnixFsType.FILE, filesize=1, blocksizes=(1,)), (link.cid, b"", 1))
    with pytest.raises(Corrupt):
        store.run(read_file(link.cid))


def test_a_small_dag_that_claims_a_large_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of it are read cheaply; all of its leaves at once are refused."""
    link, size = Link(X, 1), 1
    store.blocks[X] = b"x"
    for _ in range(6):
        message = UnixFs(UnixFsType.FILE, filesize=size * 100, blocksizes=(size,) * 100)
        link, size = node(store, message, *[(link.cid, b"", link.tsize)] * 100), size * 100
    found = store.run(leaves(link.cid, size // 2, size // 2 + 10))
    assert [leaf.offset for leaf in found] == [size // 2 + n for n in range(10)]
    assert len(store.asked) < 12
    monkeypatch.setattr(files, "LEAVES_MAX", 10_000)
    with pytest.raises(TooLarge):
        store.run(leaves(link.cid))
    assert len(store.run(reachable(link.cid))) == 7


def test_a_small_dag_that_claims_many_directories(store: Store) -> None:
    """A few blocks that unfold into billions of folders are refused quickly."""

    def doubling(last: Link) -> Link:
        for _ in range(40):
            last = store.make(edit_directory(None, {b"a": last, b"b": last}))
        return last

    one, other = doubling(LINK), doubling(Link(cid_of(b"y"), 1))
    assert len(store.run(reachable(one.cid))) == 41
    assert len(store.run(new_blocks(one.cid, other.cid))) == 41
    store.forget_questions()
    with pytest.raises(TooLarge):
        store.run(diff(one.cid, other.cid))
    # Refused before it was unfolded, after each directory was compared once.
    assert len(store.asked) == 80
    comparison = store.run(compare(one.cid, other.cid))
    assert (comparison.top.count, comparison.distinct) == (2**40, 2)


def test_trees_that_differ_in_their_encoding_only(store: Store) -> None:
    """The same directories, each in the one below twice, as CIDv0 and CIDv1: each pair is looked at once, and nothing differs."""

    def doubling(cid_version: int) -> Link:
        last = LINK
        for _ in range(40):
            last = store.make(edit_directory(None, {b"a": last, b"b": last}, cid_version=cid_version))
        return last

    one, other = doubling(0), doubling(1)
    store.forget_questions()
    assert store.run(diff(one.cid, other.cid)) == []
    assert len(store.asked) <= 80


def test_shards_that_differ_in_their_encoding_only(store: Store) -> None:
    """A shard that stands in all buckets of its parent, seven levels deep, whose own entries are the same on both sides."""
    prefixes = [b"%02X" % index for index in range(256)]

    def levels(extra: bytes) -> Link:
        message = UnixFs(UnixFsType.SHARD, hash_type=0x22, fanout=256, unknown=extra)
        level = node(store, message, (X, b"00n", 1), (X, b"01m", 1))
        for _ in range(6):
            level = node(store, message, *((level.cid, prefix, 1) for prefix in prefixes))
        return level

    one, other = levels(b""), levels(b"\x82\x7d\x01x")
    store.forget_questions()
    with pytest.raises(Corrupt, match="in two places"):
        store.run(diff(one.cid, other.cid))
    assert len(store.asked) < 20


def test_a_tree_that_unfolds() -> None:
    """Copies of a folder are fine, a few folders that make a million are not; one rule for every walk."""
    walk = Unfolding()
    folders = [cid_of(bytes([number]), DAG_PB) for number in range(10)]
    for number in range(20_000):
        walk.open(folders[number % 10], 9)
    with pytest.raises(TooLarge, match="again and again"):
        walk.open(folders[0], 9)
    copies = Unfolding()
    for _copy in range(300):
        for number in range(100):
            copies.open(cid_of(number.to_bytes(2, "big"), DAG_PB), 30)


def test_what_is_taken_for_something_else(store: Store) -> None:
    """A file is never listed as a folder, nor a folder read as a file."""
    directory, link = store.make(edit_directory(None, {b"a": LINK})), store.keep(symlink(b"t"))
    store.blocks[X] = b"x"
    with pytest.raises(IsADirectory):
        store.run(leaves(directory.cid))
    with pytest.raises(InvalidArgument):
        store.run(leaves(link.cid))
    for cid in (X, link.cid):
        for steps in (list_directory(cid), lookup(cid, b"a"), edit_directory(cid, {b"a": LINK})):
            with pytest.raises(NotADirectory):
                store.run(steps)
    assert store.run(resolve(directory.cid, (b"a", b"b"))) is None
    assert store.run(resolve(directory.cid, (b"b",))) is None
    assert store.run(resolve(directory.cid, (b"a",))) == LINK
    with pytest.raises(Corrupt):
        node_info(cid_of(b"", 0x71), b"")
    with pytest.raises(Corrupt):
        store.run(reachable(cid_of(b"", 0x71)))
    assert node_info(X, b"x").size_bytes == 1
    assert RAW == 0x55
