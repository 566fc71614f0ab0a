"""Private buckets through the plain methods: what users see is plain, what is stored is not."""

from __future__ import annotations

import base64
from typing import Any

import grpc
import pytest
from support.bucketuser import BucketUser, raised
from support.unixfs import build_file

from bucketfs.dag import cid_from_text, cid_text, decode_pb, decode_unixfs, drive, edit_directory, symlink
from bucketfs.hub import HubServer
from bucketfs.hub.trees.crypt import OVERHEAD_BYTES, decrypt
from bucketfs.types import NodeAttributes

UNKNOWN = "UNKNOWN"
CONTENT = bytes(index % 251 for index in range(601_545))


@pytest.fixture
def user(alice: Any) -> BucketUser:
    return BucketUser.with_new_thread(alice)


@pytest.fixture
def key(user: BucketUser) -> str:
    made: str = user.create("secret", private=True).root.key
    return made


def public_key(caller: Any) -> str:
    owner: str = BucketUser.with_new_thread(caller).create().root.owner
    return owner


def file_key(user: BucketUser, key: str, path: str = "") -> bytes:
    return base64.b64decode(user.root(key).path_metadata[path].key)


def test_a_new_private_bucket(user: BucketUser) -> None:
    """A private bucket would have no keys, be open to all, or not open in Textile clients."""
    made = user.create(private=True)
    root = made.root
    assert len(root.link_key) == 88 and len(root.path_metadata[""].key) == 88
    assert root.path_metadata[""].roles == {root.owner: 3}
    assert user.pull(root.key, ".textileseed") == made.seed
    seed = user.listing(root.key).items[0]
    assert (seed.size, seed.cid) == (116, made.seed_cid)
    links = user.ask("Links", key=root.key)
    assert "?token=" in links.url and "?token=" in links.ipns


def test_sizes(user: BucketUser, key: str) -> None:
    """Textile clients would show other sizes of files in private buckets than with a Textile Hub."""
    event = user.push_events(key, "d/f", CONTENT)
    assert event[-2].bytes == len(CONTENT) + OVERHEAD_BYTES
    public = user.create().root.key
    weighed = user.push(public, "f", bytes(len(CONTENT) + OVERHEAD_BYTES))
    item = user.listing(key, "d/f")
    assert item.size == int(weighed.size) == int(event[-1].size)
    assert user.pull(key, "d/f") == CONTENT


@pytest.mark.parametrize("length", [0, 1, 262144 - 84, 262144 - 83, 262144])
def test_content_of_any_length(user: BucketUser, key: str, length: int) -> None:
    """A file of some length would come back cut off or with padding."""
    user.push(key, "f", CONTENT[:length])
    assert user.pull(key, "f") == CONTENT[:length]


def test_what_is_stored_is_encrypted(user: BucketUser, key: str, hub_server: HubServer) -> None:
    """Who reads the Hub's disk could read names and contents of private buckets."""
    event = user.push(key, "folder name/file name", b"the content of the file")
    store = hub_server.hub.blockstore
    root = user.root(key)
    block = store.get(cid_from_text(root.path.removeprefix("/ipfs/")))
    outer = decode_pb(block)
    assert not outer.links and outer.data is not None
    plain = decrypt(decode_unixfs(outer.data).data, base64.b64decode(root.link_key))
    assert [link.name for link in decode_pb(plain).links] == [b".textileseed", b"folder name"]
    blob = store.get(cid_from_text(event.path.removeprefix("/ipfs/")))
    assert decrypt(blob, file_key(user, key)) == b"the content of the file"
    assert user.listing(key).size == len(plain) + sum(link.tsize for link in decode_pb(plain).links)
    stored = b"".join(path.read_bytes() for path in (hub_server.config.data / "blocks").iterdir())
    for secret in (b"folder name", b"file name", b"the content"):
        assert secret not in stored
    assert user.refused("PullIpfsPath", path=f"{root.path}/folder name/file name")[0] == UNKNOWN


def test_directories_and_listings(user: BucketUser, key: str) -> None:
    """Folders of a private bucket would be listed wrongly, or a removed file would stay."""
    user.push_paths(key, {"a/b/c": b"1", "a/b/d": b"2", "a/e": b"3", "f": CONTENT})
    assert user.names(key) == [".textileseed", "a", "f"]
    top = {item.name: item for item in user.listing(key).items}
    assert top["a"].is_dir and top["a"].items_count == 2 and not top["f"].is_dir
    assert user.names(key, "a/b") == ["c", "d"]
    assert user.listing(key, "a/b").path == f"{user.root(key).path}/a/b"
    user.ask("RemovePath", key=key, path="a/b/c")
    assert user.names(key, "a/b") == ["d"]
    user.push(key, "a/b", b"a file instead")
    assert user.pull(key, "a/b") == b"a file instead"


def test_not_found_texts(user: BucketUser, key: str) -> None:
    """Textile clients would not recognize a missing file in a private bucket."""
    root = user.root(key).path
    assert user.refused("PullPath", key=key, path="no/file") == (UNKNOWN, f"could not resolve path: {root}/no/file")
    code, text = user.refused("RemovePath", key=key, path="no")
    assert code == UNKNOWN and text == f"remove node failed: could not resolve path: {root}/no"
    user.push(key, "d/f", b"")
    assert user.refused("PullPath", key=key, path="d") == (UNKNOWN, "node is a directory")


def test_strangers_see_nothing(user: BucketUser, key: str, bob: Any) -> None:
    """A stranger could learn names, keys or roles of a private bucket."""
    user.push(key, "d/f", b"1")
    other = user.beside(bob)
    seen = other.root(key)
    assert (seen.link_key, dict(seen.path_metadata)) == ("", {})
    for path in ("", "d", "d/f", "nope"):
        assert other.refused("ListPath", key=key, path=path) == (UNKNOWN, f"could not resolve path: {path}")
    assert other.refused("PullPath", key=key, path="d/f")[0] == UNKNOWN


def test_sharing_a_folder_gives_it_a_key_of_its_own(user: BucketUser, key: str, bob: Any) -> None:
    """Sharing one folder would hand out the key to the whole bucket, or leave the key with who lost access."""
    user.push_paths(key, {"d/f": b"1", "d/g/h": CONTENT, "other": b"3"})
    before, base = user.root(key), file_key(user, key)
    other_cid = user.listing(key, "other").cid
    user.ask("PushPathAccessRoles", key=key, path="d", roles={public_key(bob): 1})
    after = user.root(key)
    assert after.path != before.path and file_key(user, key) == base
    assert file_key(user, key, "d") != base
    assert user.listing(key, "other").cid == other_cid
    assert (user.pull(key, "d/f"), user.pull(key, "d/g/h"), user.pull(key, "other")) == (b"1", CONTENT, b"3")
    reader = user.beside(bob)
    assert (reader.pull(key, "d/f"), reader.pull(key, "d/g/h")) == (b"1", CONTENT)
    assert reader.refused("PullPath", key=key, path="other")[0] == UNKNOWN
    assert reader.root(key).link_key and set(reader.root(key).path_metadata) == {"d", "d/f", "d/g/h"}
    user.ask("PushPathAccessRoles", key=key, path="d/g", roles={"*": 1})
    inner = file_key(user, key, "d/g")
    user.ask("PushPathAccessRoles", key=key, path="d", roles={public_key(bob): 0})
    assert file_key(user, key, "d/g") == inner
    assert (user.pull(key, "d/f"), user.pull(key, "d/g/h")) == (b"1", CONTENT)
    assert reader.refused("PullPath", key=key, path="d/f")[0] == UNKNOWN
    assert reader.pull(key, "d/g/h") == CONTENT


def test_moving_between_keys(user: BucketUser, key: str, bob: Any) -> None:
    """A file moved into or out of a shared folder could not be decrypted any more."""
    user.push_paths(key, {"d/f": b"1", "e/g": CONTENT})
    user.ask("PushPathAccessRoles", key=key, path="d", roles={public_key(bob): 1})
    user.ask("MovePath", key=key, from_path="e", to_path="d")
    assert user.pull(key, "d/e/g") == CONTENT
    user.ask("MovePath", key=key, from_path="d/f", to_path="f")
    assert user.pull(key, "f") == b"1"
    assert user.names(key) == [".textileseed", "d", "f"]
    blob_cid = user.listing(key, "d/e/g").cid
    assert user.listing(key, "d/e/g").size > len(CONTENT) and blob_cid
    user.push(key, "d/new", b"2")
    assert user.pull(key, "d/new") == b"2"


def test_public_trees_are_encrypted_on_their_way_in(user: BucketUser, key: str, hub_server: HubServer) -> None:
    """Content copied into a private bucket would stay readable on the disk, or lose links and names."""
    public = user.create().root.key
    user.push_paths(public, {"src/a": b"1", "src/b/c": CONTENT})
    file = build_file(b"small")
    target = symlink(b"../elsewhere")
    entries = {b"link": target.link, b"file": file.link}
    attributes = NodeAttributes(mode=0o700, mtime_ns=5_000_000_000)
    folder = drive(edit_directory(None, entries, attributes), lambda cids: {})
    hub_server.hub.blockstore.put_many({**folder.blocks, **file.blocks, **target.blocks})
    source = user.listing(public, "src").cid
    user.ask("SetPath", key=key, path="in", cid=source)
    user.ask("SetPath", key=key, path="odd", cid=cid_text(folder.link.cid))
    assert (user.pull(key, "in/a"), user.pull(key, "in/b/c")) == (b"1", CONTENT)
    assert (user.pull(key, "odd/file"), user.pull(key, "odd/link")) == (b"small", b"../elsewhere")
    assert not user.listing(key, "odd/link").is_dir
    user.ask("SetPath", key=key, path="raw", cid=cid_text(file.link.cid))
    assert user.pull(key, "raw") == b"small"
    made = user.create("copy", private=True, bootstrap_cid=source).root.key
    assert user.names(made) == [".textileseed", "a", "b"]
    assert user.pull(made, "b/c") == CONTENT
    user.ask("SetPath", key=key, path="", cid=source)
    assert user.names(key) == [".textileseed", "a", "b"]
    assert user.pull(key, "b/c") == CONTENT and len(user.pull(key, ".textileseed")) == 32


def test_no_equal_blocks_for_equal_content(user: BucketUser, key: str) -> None:
    """Who reads the Hub's disk could see which files of a private bucket are equal."""
    first = user.push(key, "a", b"same")
    second = user.push(key, "b", b"same")
    assert first.path != second.path


def test_native_writes_are_refused_and_say_why(user: BucketUser, key: str) -> None:
    """A mount would write plain text into a private bucket."""
    root = user.root_cid(key)
    with pytest.raises(grpc.RpcError) as caught:
        user.swap(key, root, root)
    code, text = raised(caught.value)
    assert code == "FAILED_PRECONDITION" and "private" in text


def test_wrong_content_is_never_given_out(user: BucketUser, key: str, hub_server: HubServer) -> None:
    """A file linked under another key than the one it was sealed with reads as an error, not as noise."""
    event = user.push(key, "f", b"content")
    hub = hub_server.hub
    row = hub.database.bucket(user.thread, key)  # type: ignore[arg-type]
    from dataclasses import replace

    entry = replace(row.entries[""], key=bytes(64))
    hub.database.save_bucket(replace(row, entries={**row.entries, "": entry}), row.root)
    assert user.refused("PullPath", key=key, path="f") == (UNKNOWN, "message corrupt or incorrect password")
    assert event.path
