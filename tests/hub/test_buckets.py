"""The bucket service over a real socket: every method, its texts and its numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from support.bucketuser import BUCKETS, BucketUser, pb, raised

from bucketfs.dag import cid_from_text, cid_text, empty_directory
from bucketfs.hub import HubServer

UNKNOWN = "UNKNOWN"
PATTERN = bytes(index % 251 for index in range(601_545))


@pytest.fixture
def user(alice: Any) -> BucketUser:
    return BucketUser.with_new_thread(alice)


@pytest.fixture
def key(user: BucketUser) -> str:
    made: str = user.create("one").root.key
    return made


# Making, listing


def test_a_new_bucket_holds_its_seed_and_nothing_else(user: BucketUser) -> None:
    """A new bucket would not open in Textile clients, or would share its root with another one."""
    assert list(user.ask("List").roots) == []
    made = user.create("photos")
    root = made.root
    assert len(root.key) == 59 and root.key.startswith("bafzbei")
    assert (root.name, root.version, root.link_key) == ("photos", 1, "")
    assert len(made.seed) == 32 and user.pull(root.key, ".textileseed") == made.seed
    listing = user.listing(root.key)
    assert [(item.name, item.cid, item.size) for item in listing.items] == [(".textileseed", made.seed_cid, 32)]
    assert (listing.name, listing.path, listing.is_dir, listing.items_count) == ("photos", root.path, True, 1)
    assert made.pinned == listing.size
    assert root.path_metadata[""].roles == {root.owner: 3, "*": 1}
    assert root.path_metadata[".textileseed"].roles == {}
    assert root.metadata == root.path_metadata[""]
    assert root.HasField("archives") and root.archives.HasField("current")
    assert [one.key for one in user.ask("List").roots] == [root.key]
    other = user.create("photos").root
    assert other.key != root.key and other.path != root.path, "neither names nor roots are shared"


def test_links(user: BucketUser, key: str) -> None:
    """Links to a file would lead nowhere."""
    user.push(key, "a b/c.txt", b"x")
    thread = user.root(key).thread
    links = user.ask("Links", key=key, path="a b/c.txt")
    assert links.url == f"http://127.0.0.1:8006/thread/{thread}/buckets/{key}/a%20b/c.txt"
    assert links.ipns == f"http://127.0.0.1:8006/ipns/{key}/a%20b/c.txt"
    assert links.www == ""
    assert user.refused("Links", key=key, path="nope")[0] == UNKNOWN


def test_errors_of_threads_and_keys(user: BucketUser, alice: Any) -> None:
    """A Textile client would not recognize that a thread or bucket is missing."""
    nowhere = alice.using(x_textile_thread="")
    with pytest.raises(grpc.RpcError) as caught:
        nowhere.call(BUCKETS, "List", pb.ListRequest())
    assert raised(caught.value) == (UNKNOWN, "db required")
    assert user.refused("Root", key="bafzbeinothere") == (UNKNOWN, "instance not found")
    stranger = BucketUser(alice, b"\x01\x55" + bytes(32))
    assert stranger.refused("Root", key="bafzbeinothere")[0] in ("NOT_FOUND", "PERMISSION_DENIED")


def test_archives_are_not_offered(user: BucketUser, key: str) -> None:
    """A client that asks for an archive would take it for made."""
    for method in ("DefaultArchiveConfig", "SetDefaultArchiveConfig", "Archive", "ArchiveWatch"):
        code, text = user.refused(method, key=key)
        assert code == "UNIMPLEMENTED" and "Filecoin" in text
    assert user.refused("Create", unfreeze=True)[0] == "UNIMPLEMENTED"
    assert user.ask("Archives", key=key).current.cid == ""


# Sizes


def test_the_worked_example(user: BucketUser, key: str) -> None:
    """Reference: sizes are cumulative; 601,545 bytes weigh 601,703; dir1 59 more; the root 108 and the seed's 32 more.

    The reference's root has a CIDv0 below it, 2 bytes shorter than the CIDv1 made here.
    """
    event = user.push(key, "dir1/file1.jpg", PATTERN)
    assert event.path == "/ipfs/bafybeid6x2iyilnqcr6cq6esxf4yfxk7zumovysms6d5tpkstjpzrxtwb4"
    assert event.size == "601703"
    assert event.bytes == 0 and event.root.path == user.root(key).path
    listing = user.listing(key)
    sizes = {item.name: item.size for item in listing.items}
    assert sizes == {".textileseed": 32, "dir1": 601762}
    assert listing.size == 601904
    assert [item.items_count for item in listing.items] == [0, 1]
    item = user.listing(key, "dir1/file1.jpg")
    assert (item.is_dir, item.size, item.name, list(item.items)) == (False, 601703, "file1.jpg", [])
    assert item.path == f"{event.root.path}/dir1/file1.jpg"


@pytest.mark.parametrize(
    ("length", "size", "cid"),
    [
        (0, 0, "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (1, 1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
        (262144, 262144, "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy"),
        (262145, 262249, "bafybeiexg2oqkfnj56l7fcmawswqbijt5shq4b5rg6a546uwpkqqzwjioi"),
    ],
)
def test_file_sizes_and_cids(user: BucketUser, key: str, length: int, size: int, cid: str) -> None:
    """The same file would get another CID than at a Textile Hub, and clients would take it for changed."""
    data = PATTERN[:length]
    events = user.push_events(key, "f", data, chunk=1024)
    assert (events[-1].path, events[-1].size) == (f"/ipfs/{cid}", str(size))
    assert [event.bytes for event in events[:-1]][-1] == length
    assert user.pull(key, "f") == data
    assert max((len(reply.chunk) for reply in user.ask("PullPath", key=key, path="f")), default=0) <= 32768


# Pushing


def test_progress_comes_every_256_kib(user: BucketUser, key: str) -> None:
    """Textile clients would show no progress, or a wrong one."""
    events = user.push_events(key, "f", PATTERN)
    assert [event.bytes for event in events] == [262144, 524288, 601545, 0]


def test_streams_that_are_not_what_they_should_be(user: BucketUser, key: str) -> None:
    """A malformed push would be stored in part."""
    for method, kind in (("PushPath", pb.PushPathRequest), ("PushPaths", pb.PushPathsRequest)):
        assert user.caller.call(BUCKETS, method, iter(())) == []
        with pytest.raises(grpc.RpcError) as caught:
            chunk = b"x" if method == "PushPath" else pb.PushPathsRequest.Chunk(path="a", data=b"x")
            user.caller.call(BUCKETS, method, iter([kind(chunk=chunk)]))
        assert raised(caught.value) == (UNKNOWN, "push bucket path header is required")
    header = pb.PushPathRequest(header=pb.PushPathRequest.Header(key=key, path="f"))
    with pytest.raises(grpc.RpcError) as caught:
        user.caller.call(BUCKETS, "PushPath", iter([header, header]))
    assert raised(caught.value) == (UNKNOWN, "invalid request")
    assert user.names(key) == [".textileseed"]


def test_fast_forward(user: BucketUser, key: str) -> None:
    """A client that names the root it knows would overwrite a newer change all the same."""
    first = user.root(key).path
    user.push(key, "a", b"1", root=first)
    refusal = ("FAILED_PRECONDITION", "update is non-fast-forward")
    with pytest.raises(grpc.RpcError) as caught:
        user.push(key, "b", b"2", root=first)
    assert raised(caught.value) == refusal
    with pytest.raises(grpc.RpcError) as caught:
        user.push_paths(key, {"b": b"2"}, root=first)
    assert raised(caught.value) == refusal
    assert user.refused("RemovePath", key=key, path="a", root=first) == refusal
    assert user.names(key) == [".textileseed", "a"]


def test_of_two_pushes_on_one_root_one_wins(user: BucketUser, key: str) -> None:
    """Two pushes at the same moment would both be told of success, and one be lost."""
    root = user.root(key).path
    together = threading.Barrier(2)
    answers: list[str] = []

    def push(name: str) -> None:
        requests = user.paths_requests(key, {name: b"x" * 100_000}, root)

        def held() -> Iterator[Any]:
            yield next(requests)
            together.wait(10)
            yield from requests

        try:
            user.caller.call(BUCKETS, "PushPaths", held())
            answers.append("saved")
        except grpc.RpcError as error:
            answers.append(error.details())

    threads = [threading.Thread(target=push, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["saved", "update is non-fast-forward"]
    assert len(user.names(key)) == 2


def test_pushes_without_a_root_all_land(user: BucketUser, key: str) -> None:
    """Of several files pushed at the same time some would be lost."""
    threads = [threading.Thread(target=user.push, args=(key, f"d/{index}", bytes([index]) * 1000)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(user.names(key, "d"), key=int) == [str(index) for index in range(12)]


def test_what_a_push_replaces(user: BucketUser, key: str) -> None:
    """A file pushed over a folder would leave roles of removed paths behind, or a file would become a folder."""
    user.push(key, "/a/b/c", b"1")
    user.push(key, "a/b/c", b"2")
    assert user.pull(key, "a/b/c") == b"2"
    assert {"a/b/c", "", ".textileseed"} == set(user.root(key).path_metadata)
    user.push(key, "a/b", b"instead of a directory")
    assert user.pull(key, "a/b") == b"instead of a directory"
    assert {"a/b", "", ".textileseed"} == set(user.root(key).path_metadata)
    with pytest.raises(grpc.RpcError) as caught:
        user.push(key, "a/b/c", b"below a file")
    assert raised(caught.value) == (UNKNOWN, "not a directory")


@pytest.mark.parametrize("path", ["", "/", "a/", "a//b", "a/../b", "./a", "a\0b", "x" * 256])
def test_paths_that_no_tree_can_hold(user: BucketUser, key: str, path: str) -> None:
    """Files could be stored under names that no client can open."""
    with pytest.raises(grpc.RpcError) as caught:
        user.push(key, path, b"x")
    assert raised(caught.value)[0] == "INVALID_ARGUMENT"


def test_the_seed_is_reserved(user: BucketUser, key: str) -> None:
    """A client could replace or remove the seed, the file that Textile clients expect in each bucket."""
    refusal = (UNKNOWN, "paths containing .textileseed are not allowed")
    with pytest.raises(grpc.RpcError) as caught:
        user.push(key, "a/.textileseed", b"x")
    assert raised(caught.value) == refusal
    with pytest.raises(grpc.RpcError) as caught:
        user.push_paths(key, {".textileseed": b"x"})
    assert raised(caught.value) == (UNKNOWN, "parsing path: paths containing .textileseed are not allowed")
    assert user.refused("RemovePath", key=key, path=".textileseed") == refusal
    assert user.refused("MovePath", key=key, from_path=".textileseed", to_path="a") == refusal
    assert user.refused("PushPathAccessRoles", key=key, path=".textileseed") == refusal
    assert user.refused("PullPathAccessRoles", key=key, path=".textileseed") == refusal


def test_push_paths_answers_for_each_file(user: BucketUser, key: str) -> None:
    """A client that pushes many files would not learn the CID of each, or lose one."""
    files = {f"d/{index:03}": bytes([index % 251]) * (index * 50) for index in range(60)} | {"big": PATTERN, "/empty": b""}
    replies = user.push_paths(key, files)
    assert {reply.path for reply in replies} == {path.removeprefix("/") for path in files}
    assert {reply.path: reply.size for reply in replies}["big"] == 601703
    assert replies[-1].root.path == user.root(key).path
    for reply in replies:
        assert user.pull(key, reply.path) == files.get(reply.path, b"")
        inside = user.ask("ListIpfsPath", path=f"{replies[-1].root.path}/{reply.path}").item
        assert inside.cid == reply.cid
    assert len(user.root(key).path_metadata) == len(files) + 2


def test_push_paths_interleaved_and_announced(user: BucketUser, key: str) -> None:
    """Chunks of two files in one stream would be mixed."""

    def chunk(path: str, data: bytes = b"") -> Any:
        return pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path=path, data=data))

    header = pb.PushPathsRequest(header=pb.PushPathsRequest.Header(key=key, paths=["a", "b"]))
    requests = [header, chunk("a", b"1"), chunk("b", b"2"), chunk("a", b"1"), chunk("b"), chunk("a")]
    replies = user.caller.call(BUCKETS, "PushPaths", iter(requests))
    assert [reply.path for reply in replies] == ["b", "a"]
    assert user.pull(key, "a") == b"11"


def test_what_was_complete_stays_when_a_push_breaks_off(user: BucketUser, key: str) -> None:
    """A push that breaks off would lose the files that were acknowledged, or keep half of one."""

    def chunk(path: str, data: bytes = b"") -> Any:
        return pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path=path, data=data))

    header = pb.PushPathsRequest(header=pb.PushPathsRequest.Header(key=key))
    for requests, text in (
        ([header, chunk("a", b"1"), chunk("a"), chunk("b", b"2")], "adding file: the stream ended before b did"),
        ([header, chunk("c", b"1"), chunk("c"), header], "invalid request"),
        (
            [header, chunk("d", b"1"), chunk("d"), chunk("d/e", b"1"), chunk("d/e")],
            "adding bucket link: /d is not a directory",
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            user.caller.call(BUCKETS, "PushPaths", iter(requests))
        assert raised(caught.value) == (UNKNOWN, text)
    assert user.names(key) == [".textileseed", "a", "c", "d"]


def test_a_client_that_goes_away(user: BucketUser, key: str) -> None:
    """A file that was cut off is not stored; in PushPaths the complete ones are."""
    pause = threading.Event()

    def requests() -> Iterator[Any]:
        yield from user.paths_requests(key, {"whole": b"x"})
        yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path="half", data=b"y"))
        pause.wait(20)

    stream = user.caller.start(BUCKETS, "PushPaths", requests())
    assert next(stream).path == "whole"
    stream.cancel()
    pause.set()
    deadline = threading.Event()
    for _ in range(200):
        if user.names(key) == [".textileseed", "whole"]:
            break
        deadline.wait(0.05)
    assert user.names(key) == [".textileseed", "whole"]


# Reading


def test_not_found_texts(user: BucketUser, key: str) -> None:
    """Textile clients, which compare the texts of errors, would not recognize a missing file."""
    user.push(key, "dir/file.txt", b"x")
    root = user.root(key).path.removeprefix("/ipfs/")
    for method in ("ListPath", "PullPath", "Links", "PullPathAccessRoles"):
        code, text = user.refused(method, key=key, path="file.jpg")
        assert (code, text) == (UNKNOWN, f'no link named "file.jpg" under {root}')
    code, text = user.refused("PullPath", key=key, path="dir/file.txt/more")
    assert code == UNKNOWN and 'no link named "more" under' in text
    assert user.refused("PullPath", key=key, path="dir") == (UNKNOWN, "node is a directory")
    assert user.refused("RemovePath", key=key, path="nope") == (UNKNOWN, "no link by that name")
    assert user.refused("PullPath", key=key, path="dir/../dir/file.txt")[0] == "INVALID_ARGUMENT"
    assert user.pull(key, "/dir//./file.txt/") == b"x"


def test_ipfs_paths(user: BucketUser, key: str) -> None:
    """Content could not be read by its CID, or a missing block would be waited for."""
    event = user.push(key, "dir/file.txt", b"content")
    item = user.ask("ListIpfsPath", path=event.root.path).item
    assert [child.name for child in item.items] == [".textileseed", "dir"]
    assert not item.HasField("metadata")
    assert b"".join(r.chunk for r in user.ask("PullIpfsPath", path=f"{event.root.path}/dir/file.txt")) == b"content"
    assert user.refused("PullIpfsPath", path=event.root.path) == (UNKNOWN, "node is a directory")
    assert user.refused("ListIpfsPath", path="/ipfs/nonsense")[0] == "INVALID_ARGUMENT"
    nobody = cid_text(cid_from_text("bafybeihpe5snhzneq7xs53nivmsopto5lrogo3wjynauqylqeym5a3irbm"))
    assert user.refused("ListIpfsPath", path=f"/ipfs/{nobody}")[0] == "NOT_FOUND"


# Changing by path


def test_set_path(user: BucketUser, key: str) -> None:
    """Content that the Hub has could not be put at a path without sending it."""
    event = user.push(key, "src/a/f", b"1")
    source = user.listing(key, "src").cid
    user.ask("SetPath", key=key, path="copy/of", cid=source)
    assert user.pull(key, "copy/of/a/f") == b"1"
    empty = cid_text(empty_directory().link.cid)
    user.ask("SetPath", key=key, path="empty", cid=empty)
    assert user.listing(key, "empty").is_dir and user.names(key, "empty") == []
    user.ask("SetPath", key=key, path="raw", cid=event.path.removeprefix("/ipfs/"))
    assert user.pull(key, "raw") == b"1"
    code, text = user.refused("SetPath", key=key, path="x", cid="nonsense")
    assert code == UNKNOWN and text.startswith("invalid remote cid: ")
    absent = "bafybeihpe5snhzneq7xs53nivmsopto5lrogo3wjynauqylqeym5a3irbm"
    assert user.refused("SetPath", key=key, path="x", cid=absent)[0] == "NOT_FOUND"


def test_set_path_of_the_root(user: BucketUser, key: str) -> None:
    """Replacing the whole content would lose the seed or the roles of the bucket."""
    user.push(key, "src/a", b"1")
    seed = user.pull(key, ".textileseed")
    source = user.listing(key, "src").cid
    user.ask("SetPath", key=key, path="", cid=source)
    assert user.names(key) == [".textileseed", "a"]
    assert user.pull(key, ".textileseed") != seed
    assert set(user.root(key).path_metadata) == {"", ".textileseed"}
    assert user.root(key).path_metadata[""].roles


def test_bootstrap(user: BucketUser, key: str) -> None:
    """A bucket made from an existing tree would be empty, or made from something that is no tree."""
    user.push_paths(key, {"src/a": b"1", "src/b/c": b"2"})
    source = user.listing(key, "src").cid
    made = user.create("copy", bootstrap_cid=source)
    assert user.names(made.root.key) == [".textileseed", "a", "b"]
    assert user.pull(made.root.key, "b/c") == b"2"
    assert user.refused("Create", bootstrap_cid="x")[1].startswith("invalid bootstrap cid: ")
    absent = "bafybeihpe5snhzneq7xs53nivmsopto5lrogo3wjynauqylqeym5a3irbm"
    code, text = user.refused("Create", bootstrap_cid=absent)
    assert code == UNKNOWN and text.startswith("creating prepared bucket: ")
    file = user.listing(key, "src/a").cid
    assert user.refused("Create", bootstrap_cid=file) == (UNKNOWN, "creating prepared bucket: not a directory")


def tree_of(user: BucketUser, key: str, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in user.listing(key, path).items:
        below = f"{path}/{item.name}".removeprefix("/")
        found[item.name] = tree_of(user, key, below) if item.is_dir else user.pull(key, below)
    found.pop(".textileseed", None)
    return found


MOVES: list[tuple[str, str, dict[str, Any] | str]] = [
    ("a", "a", {"a": b"A", "d": {"x": b"X", "y": {"z": b"Z"}}, "ab": b"AB"}),
    ("", "b", "source is root directory"),
    ("nope", "b", 'no link named "nope" under'),
    ("a", "new/deep", {"new": {"deep": b"A"}, "d": {"x": b"X", "y": {"z": b"Z"}}, "ab": b"AB"}),
    ("a", "ab", {"ab": b"A", "d": {"x": b"X", "y": {"z": b"Z"}}}),
    ("d", "a", "not a directory"),
    ("a", "d", {"d": {"x": b"X", "y": {"z": b"Z"}, "a": b"A"}, "ab": b"AB"}),
    ("d/y", "", {"a": b"A", "ab": b"AB", "d": {"x": b"X"}, "y": {"z": b"Z"}}),
    ("d/x", "d", {"a": b"A", "ab": b"AB", "d": {"x": b"X", "y": {"z": b"Z"}}}),
    ("d", "dd", {"a": b"A", "ab": b"AB", "dd": {"x": b"X", "y": {"z": b"Z"}}}),
    ("ab", "a", {"a": b"AB", "d": {"x": b"X", "y": {"z": b"Z"}}}),
    ("d", "d/q", {"a": b"A", "ab": b"AB", "d": {"q": {"x": b"X", "y": {"z": b"Z"}}}}),
    ("d", "d/y", {"a": b"A", "ab": b"AB", "d": {"y": {"d": {"x": b"X", "y": {"z": b"Z"}}}}}),
]


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
@pytest.mark.parametrize(
    ("source", "target", "expected"), MOVES, ids=[f"{a or 'root'}-to-{b or 'root'}" for a, b, _ in MOVES]
)
def test_move_path(user: BucketUser, private: bool, source: str, target: str, expected: dict[str, Any] | str) -> None:
    """A move would lose files, mix two folders, or leave a copy behind."""
    key = user.create(private=private).root.key
    user.push_paths(key, {"a": b"A", "d/x": b"X", "d/y/z": b"Z", "ab": b"AB"})
    if isinstance(expected, str):
        code, text = user.refused("MovePath", key=key, from_path=source, to_path=target)
        assert code == UNKNOWN and (text.startswith(expected) or (private and text.startswith("could not resolve path: ")))
        return
    user.ask("MovePath", key=key, from_path=source, to_path=target)
    assert tree_of(user, key) == expected
    if source != target and target not in ("d",):
        assert source not in user.root(key).path_metadata or source in str(expected)


def test_remove_path_compares_names_not_letters(user: BucketUser, key: str) -> None:
    """Removing the folder a would also remove ab."""
    user.push_paths(key, {"a/x": b"1", "a/y/z": b"2", "ab": b"3"})
    reply = user.ask("RemovePath", key=key, path="a")
    assert reply.root.path == user.root(key).path
    assert user.names(key) == [".textileseed", "ab"]
    assert set(user.root(key).path_metadata) == {"", ".textileseed", "ab"}
    user.push(key, "d/e/f", b"1")
    user.ask("RemovePath", key=key, path="d/e/f")
    assert user.names(key, "d/e") == [], "empty parents stay"
    assert user.refused("RemovePath", key=key, path="")[0] == "INVALID_ARGUMENT"


def test_remove(user: BucketUser, key: str, bob: Any) -> None:
    """A stranger could remove a bucket, or a removed one would still be listed."""
    assert user.beside(bob).refused("Remove", key=key)[0] == "PERMISSION_DENIED"
    user.ask("Remove", key=key)
    assert user.refused("Root", key=key) == (UNKNOWN, "instance not found")
    assert list(user.ask("List").roots) == []


def test_times_and_entries(user: BucketUser, key: str) -> None:
    """Clients that compare times would not see that a file was changed."""
    before = user.root(key)
    user.push(key, "f", b"1")
    after = user.root(key)
    assert after.created_at == before.created_at and after.updated_at > before.updated_at
    entry = after.path_metadata["f"]
    assert before.updated_at < entry.updated_at <= after.updated_at and not entry.roles and not entry.key
    assert user.listing(key, "f").metadata == entry
    assert user.listing(key, "").metadata == after.path_metadata[""]


# Roles


def public_key(caller: Any) -> str:
    user = BucketUser.with_new_thread(caller)
    owner: str = user.create().root.owner
    return owner


DENIED = "app denied net record body: permission denied"


def test_a_public_bucket_is_read_by_all_and_written_by_its_owner(user: BucketUser, key: str, bob: Any) -> None:
    """Visitors could not read a public bucket, or could change it."""
    user.push(key, "f", b"1")
    other = user.beside(bob)
    assert other.pull(key, "f") == b"1"
    with pytest.raises(grpc.RpcError) as caught:
        other.push(key, "f", b"2")
    assert raised(caught.value) == (UNKNOWN, DENIED)
    with pytest.raises(grpc.RpcError) as caught:
        other.push_paths(key, {"f": b"2"}, paths=["f"])
    code, text = raised(caught.value)
    assert code == "PERMISSION_DENIED" and text.startswith("verifying bucket update: ") and text.endswith(DENIED)
    with pytest.raises(grpc.RpcError) as caught:
        other.push_paths(key, {"f": b"2"})
    code, text = raised(caught.value)
    assert code == UNKNOWN and text.startswith("enqueueing file: verifying bucket update: ") and text.endswith(DENIED)
    assert other.refused("SetPath", key=key, path="f", cid=cid_text(empty_directory().link.cid)) == (UNKNOWN, DENIED)
    assert other.refused("RemovePath", key=key, path="f") == (UNKNOWN, DENIED)
    code, text = other.refused("MovePath", key=key, from_path="f", to_path="g")
    assert code == UNKNOWN and text.startswith("verifying bucket update: ") and text.endswith(DENIED)
    assert other.refused("PushPathAccessRoles", key=key, path="f", roles={"*": 2}) == (UNKNOWN, DENIED)
    assert user.pull(key, "f") == b"1"


def test_what_a_writer_may(user: BucketUser, key: str, bob: Any) -> None:
    """Someone who may only write in a folder could add or remove files, or write beside it."""
    user.push_paths(key, {"d/old": b"1", "other": b"1"})
    user.ask("PushPathAccessRoles", key=key, path="d", roles={public_key(bob): 2})
    other = user.beside(bob)
    other.push(key, "d/old", b"2")
    assert user.pull(key, "d/old") == b"2"
    for path in ("d/new", "other"):
        with pytest.raises(grpc.RpcError) as caught:
            other.push(key, path, b"2")
        assert raised(caught.value) == (UNKNOWN, DENIED)
    assert other.refused("RemovePath", key=key, path="d/old") == (UNKNOWN, DENIED)
    assert other.refused("RemovePath", key=key, path="d") == (UNKNOWN, DENIED)
    with pytest.raises(grpc.RpcError):
        other.push(key, "d", b"a file in place of the folder")
    user.ask("PushPathAccessRoles", key=key, path="d", roles={public_key(bob): 3})
    other.ask("RemovePath", key=key, path="d/old")
    assert user.names(key, "d") == []


def test_a_writer_may_replace_files_that_came_with_a_tree(user: BucketUser, key: str, bob: Any) -> None:
    """A writer could not save files that came in with a whole tree, or could replace folders."""
    user.push_paths(key, {"src/a/f": b"1"})
    user.ask("SetPath", key=key, path="copy", cid=user.listing(key, "src").cid)
    user.ask("PushPathAccessRoles", key=key, path="copy", roles={public_key(bob): 2})
    user.beside(bob).push(key, "copy/a/f", b"2")
    assert user.pull(key, "copy/a/f") == b"2"
    with pytest.raises(grpc.RpcError):
        user.beside(bob).push(key, "copy/a", b"a file in place of a folder")


def test_roles(user: BucketUser, key: str, bob: Any) -> None:
    """Access that was taken away would stay, or roles of a folder would be shown wrongly."""
    user.push(key, "d/f", b"1")
    someone = public_key(bob)
    assert user.ask("PullPathAccessRoles", key=key, path="d").roles == user.root(key).path_metadata[""].roles
    user.ask("PushPathAccessRoles", key=key, path="d", roles={someone: 2, "*": 1})
    assert user.ask("PullPathAccessRoles", key=key, path="d/f").roles == {}, "the nearest entry, not merged"
    assert user.ask("PullPathAccessRoles", key=key, path="d").roles == {someone: 2, "*": 1}
    before = user.root(key)
    user.ask("PushPathAccessRoles", key=key, path="d", roles={someone: 2})
    assert user.root(key) == before, "nothing to change"
    user.ask("PushPathAccessRoles", key=key, path="d", roles={someone: 0})
    assert user.ask("PullPathAccessRoles", key=key, path="d").roles == {"*": 1}
    assert user.root(key).path == before.path
    code, text = user.refused("PushPathAccessRoles", key=key, path="d", roles={"nonsense": 1})
    assert code == UNKNOWN and text.startswith("unmarshaling role public key: ")
    assert user.refused("PushPathAccessRoles", key=key, path="nope", roles={"*": 1})[0] == UNKNOWN


# Limits


def test_quota(start_hub: Any, dial: Any, tmp_path: Any) -> None:
    """An account could store more than its limit, or removing files would not make room."""
    server: HubServer = start_hub(data=tmp_path / "small", bucket_bytes_max=100_000, account_bytes_max=150_000)
    from bucketfs.wire import hub_pb2

    bare = dial(server.address)
    session = bare.call(
        "api.hubd.pb.APIService", "Signup", hub_pb2.SignupRequest(username="x", email="x@example.org")
    ).session
    user = BucketUser.with_new_thread(bare.using(x_textile_session=session))
    one, two = user.create().root.key, user.create().root.key
    user.push(one, "f", bytes(90_000))
    with pytest.raises(grpc.RpcError) as caught:
        user.push(one, "g", bytes(20_000))
    code, text = raised(caught.value)
    assert code == "RESOURCE_EXHAUSTED" and text.startswith("storage quota exhausted")
    with pytest.raises(grpc.RpcError):
        user.push(two, "f", bytes(70_000))
    user.ask("RemovePath", key=one, path="f")
    user.push(two, "f", bytes(70_000))
