"""Callers who mean harm: nobody, one developer against another, a user of a group key against its owner and other users."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BUCKETS, BucketUser, bl, raised
from support.keyring import USER, as_user, get_token, make_key, sign_up
from support.unixfs import build_file

from bucketfs.dag import (
    DAG_PB,
    PbLink,
    PbNode,
    cid_from_text,
    cid_of,
    cid_text,
    decode_pb,
    drive,
    edit_directory,
    edit_tree,
    empty_directory,
    encode_pb,
    multibase_encode,
    reachable,
)
from bucketfs.errors import NotADirectory
from bucketfs.hub import HubConfig, HubServer, collect
from bucketfs.hub.services import SERVICES
from bucketfs.hub.trees.size_check import SIZE_MAX, TreeSizes, check_sizes
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.keys import Identity
from bucketfs.types import Cid, Link, NodeAttributes
from bucketfs.wire import blocks_pb2, buckets_pb2, hub_pb2, threads_pb2, users_pb2

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
THREADS = "threads.pb.API"
OPEN = {"Signup", "Signin", "IsUsernameAvailable"}
DENIED = "permission denied"
HOUR_NS = 3600 * 10**9


def empty_request(service: str, method: str) -> Any:
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    request = message_factory.GetMessageClass(described.input_type)()
    return iter([request]) if described.client_streaming else request


def methods(hub: HubServer) -> Iterator[tuple[str, str]]:
    """Every method that a hub has, offered or not."""
    for make in SERVICES:
        service = make(hub.hub).name
        for method in descriptor_pool.Default().FindServiceByName(service).methods:
            yield service, method.name


def refusal(call: Callable[..., Any], *arguments: Any) -> tuple[str, str]:
    """Code and text of what must be refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return raised(caught.value)


# Nobody


def test_nobody_gets_in_anywhere(hub_server: HubServer, caller: Caller) -> None:
    """Without credentials, and with such as look like some."""
    asked = 0
    for service, method in methods(hub_server):
        if method in OPEN:
            continue
        for headers in (
            {},
            {"x_textile_session": "bnone"},
            {"x_textile_api_key": "bnone"},
            {"authorization": "bearer a.b.c"},
        ):
            code, _ = refusal(caller.using(**headers).call, service, method, empty_request(service, method))
            assert code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"), (service, method, headers)
        asked += 1
    assert asked > 90


def test_a_signature_is_good_until_its_date_and_not_longer(tmp_path: Path, dial: Callable[[str], Caller]) -> None:
    """Heard on the wire, used again; the clock of the hub is ours."""
    now = [time.time_ns()]
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config, now_ns=lambda: now[0]) as server:
        bare = dial(server.address)
        alice = sign_up(bare, "alice")
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now[0] // 10**9 + 600))
        heard = bare.using(**make_key(alice).headers(date))
        ask = users_pb2.ListThreadsRequest()
        heard.call(USERS, "ListThreads", ask)
        now[0] += 590 * 10**9
        heard.call(USERS, "ListThreads", ask)
        now[0] += 20 * 10**9
        for service, method in ((USERS, "ListThreads"), (BLOCKS, "Put"), (BUCKETS, "PushPath"), (THREADS, "GetToken")):
            assert refusal(heard.call, service, method, empty_request(service, method)) == (
                "UNAUTHENTICATED",
                "Bad API key signature",
            )
        # The same moment in other words, or another date, needs the secret.
        for other in (date.replace("Z", "+00:00"), "2999-01-01T00:00:00Z"):
            forged = heard.using(x_textile_api_sig_msg=other)
            assert refusal(forged.call, USERS, "ListThreads", ask)[1] == "Bad API key signature"


def test_tokens_of_another_hub_are_none(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller], tmp_path: Path
) -> None:
    """Who runs a Hub of their own could make tokens and sessions for this one."""
    here, there = (dial(start_hub(data=tmp_path / name).address) for name in ("here", "there"))
    identity = Identity.generate()
    key, other = make_key(sign_up(here, "ann"), USER), make_key(sign_up(there, "ann"), USER)
    token = get_token(there.using(**other.headers()), identity)
    user = here.using(**key.headers(), authorization=f"bearer {token}")
    assert refusal(user.call, USERS, "ListThreads", users_pb2.ListThreadsRequest()) == (
        "UNAUTHENTICATED",
        "invalid thread token",
    )
    # Nor does the session of one open the other.
    session = sign_up(there, "bob").headers["x-textile-session"]
    stolen = here.using(x_textile_session=session)
    assert refusal(stolen.call, USERS, "ListThreads", users_pb2.ListThreadsRequest())[1] == "Invalid session"


# A developer against another


def closed_bucket(owner: Caller) -> tuple[BucketUser, str]:
    """A bucket with a folder, a file and one whose name begins with the folder's, which nobody else may read."""
    user = BucketUser.with_new_thread(owner)
    key = user.create("closed").root.key
    user.push_paths(key, {"a/f": b"a/f", "ab": b"ab", "a/sub/g": b"g", "other": b"other"})
    user.ask("PushPathAccessRoles", key=key, path="", roles={"*": 0})
    return user, key


def account_of(caller: Caller) -> str:
    """The public key text of whoever calls."""
    key = caller.call(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).key
    return multibase_encode(key)


def state(user: BucketUser, key: str) -> tuple[bytes, Any]:
    return user.root_cid(key), {path: dict(entry.roles) for path, entry in user.root(key).path_metadata.items()}


def test_a_stranger_with_thread_and_key_changes_and_reads_nothing(alice: Caller, bob: Caller) -> None:
    """Who learns the address of a closed bucket could read or change it."""
    user, key = closed_bucket(alice)
    before = state(user, key)
    stranger = user.beside(bob)
    here = user.root_cid(key)
    for path in ("", "a", "a/f", "ab", "new", "a/new"):
        if path:
            assert DENIED in refusal(stranger.push, key, path, b"x")[1]
            assert DENIED in refusal(stranger.push_paths, key, {path: b"x"})[1]
            assert DENIED in stranger.refused("RemovePath", key=key, path=path)[1]
            assert DENIED in stranger.refused("SetPath", key=key, path=path, cid=user.listing(key, "ab").cid)[1]
        assert stranger.refused("ListPath", key=key, path=path)[1].startswith("could not resolve path")
        assert stranger.refused("PullPath", key=key, path=path)[1].startswith("could not resolve path")
        refused = stranger.refused("PushPathAccessRoles", key=key, path=path, roles={account_of(bob): 3})[1]
        assert DENIED in refused or "could not resolve path" in refused
    for method in ("Remove", "List"):
        assert stranger.refused(method, **({"key": key} if method == "Remove" else {}))[0] == "PERMISSION_DENIED"
    assert DENIED in stranger.refused("MovePath", key=key, from_path="ab", to_path="a/ab")[1]
    other = BucketUser.with_new_thread(bob)
    theirs = other.root_cid(other.create("theirs").root.key)
    for new in (theirs, user.root_cid(user.create("second").root.key)):
        assert DENIED in refusal(stranger.swap, key, here, new)[1]
    # The thread itself.
    for method in ("DeleteDB", "GetDBInfo"):
        request = getattr(threads_pb2, f"{method}Request")(dbID=user.thread)
        assert refusal(bob.call, THREADS, method, request)[0] == "PERMISSION_DENIED"
    # In a thread of his own the key names nothing.
    assert other.refused("Root", key=key)[0] == "UNKNOWN"
    assert refusal(other.swap, key, here, theirs)[0] == "UNKNOWN"
    assert state(user, key) == before


def test_paths_that_are_tricks(alice: Caller, bob: Caller) -> None:
    """A writer of ``a`` stays in ``a``: not by ``..``, not by empty names, not at ``ab``."""
    user, key = closed_bucket(alice)
    user.ask("PushPathAccessRoles", key=key, path="a", roles={account_of(bob): 2})
    writer = user.beside(bob)
    writer.push(key, "a/f", b"his")
    before = state(user, key)
    tricks = ("a/../ab", "a/../other", "a/./../ab", "a//../ab", "../a/f", "a/..", "ab", "a/../a/../ab", "/a/../ab", "a\0b")
    for path in tricks:
        assert refusal(writer.push, key, path, b"x")[0] != "INTERNAL"
        assert refusal(writer.push_paths, key, {path: b"x"})[0] != "INTERNAL"
        for method, fields in (
            ("SetPath", {"path": path, "cid": user.listing(key, "a/f").cid}),
            ("RemovePath", {"path": path}),
            ("MovePath", {"from_path": "a/f", "to_path": path}),
            ("MovePath", {"from_path": path, "to_path": "a/f"}),
            ("PushPathAccessRoles", {"path": path, "roles": {account_of(bob): 3}}),
        ):
            assert writer.refused(method, key=key, **fields)[0] not in ("INTERNAL", "OK"), (method, fields)
        refused = writer.refused("PullPath", key=key, path=path)
        assert refused[0] != "INTERNAL", path
    # An announced path is checked, and one that is not announced as well.
    with pytest.raises(grpc.RpcError, match=DENIED):
        list(writer.caller.call(BUCKETS, "PushPaths", writer.paths_requests(key, {"ab": b"x"}, paths=["a/f"])))
    assert state(user, key) == before


def test_names_that_are_not_text(alice: Caller) -> None:
    """In the blocks of a tree a name is bytes; where one is not UTF-8 the swap says so, and roles have no such path."""
    user = BucketUser.with_new_thread(alice)
    key = user.create().root.key
    root = Cid(user.root_cid(key))
    node = decode_pb(user.get_blocks([root])[0].data)
    leaf = cid_of(b"x")
    for name in (b"\xff\xfe", b"a/b", b"..", b"", b".", b"n" * 256, b"a\0b"):
        links = sorted([*node.links, PbLink(leaf, name, 1)], key=lambda link: link.name)
        block = encode_pb(PbNode(tuple(links), node.data))
        new = cid_of(block, DAG_PB)
        code = "ok"
        try:
            user.put_blocks({new: block, leaf: b"x"})
            user.swap(key, root, new)
        except grpc.RpcError as error:
            code = raised(error)[0]
        assert code == "INVALID_ARGUMENT", name
    assert user.root_cid(key) == root


class Swapper:
    """A client that builds roots of a bucket, and swaps."""

    def __init__(self, user: BucketUser, key: str) -> None:
        self.user, self.key = user, key
        self.made: dict[Cid, bytes] = {}

    def get(self, cids: Any) -> dict[Cid, bytes]:
        wanted = [cid for cid in cids if cid not in self.made]
        found = {Cid(block.cid): block.data for block in (self.user.get_blocks(wanted) if wanted else [])}
        return found | {cid: self.made[cid] for cid in cids if cid in self.made}

    def link(self, path: str) -> Link:
        item = self.user.listing(self.key, path)
        return Link(cid_from_text(item.cid), int(item.size))

    def swap(self, changes: dict[str, Link | None]) -> tuple[str, str]:
        """Tries it; ``("OK", "")`` when it was done."""
        base = Cid(self.user.root_cid(self.key))
        edit = {tuple(path.encode().split(b"/")): link for path, link in changes.items()}
        tree = drive(edit_tree(base, edit), self.get)
        self.made |= tree.blocks
        self.user.put_blocks(dict(self.made))
        try:
            self.user.swap(self.key, base, tree.link.cid)
        except grpc.RpcError as error:
            return raised(error)
        return "OK", ""

    def file(self, data: bytes) -> Link:
        built = build_file(data)
        self.made |= built.blocks
        return built.link


@pytest.mark.parametrize("role", [2, 3])
def test_a_swap_takes_nothing_out_of_a_path(alice: Caller, bob: Caller, role: int) -> None:
    """Somebody with a role on ``a`` alone: whatever the new root does outside of it is refused, and so is all of it."""
    user, key = closed_bucket(alice)
    user.ask("PushPathAccessRoles", key=key, path="a", roles={account_of(bob): role})
    his = Swapper(user.beside(bob), key)
    owners = Swapper(user, key)
    before = state(user, key)
    inside = owners.link("a/f")
    forbidden: tuple[dict[str, Link | None], ...] = (
        {"a/f": None, "out": inside},  # a rename out of it
        {"out": inside},  # a copy
        {"ab": inside},  # onto the neighbour whose name begins alike
        {"a": None, "moved": owners.link("a")},
        {"a": owners.link("a/sub")},  # an inner folder in the place of it
        {"other": None},
        {"a/f": owners.link("other"), "other": None},
        {"a/f": his.file(b"fine"), "ab": his.file(b"not")},  # one allowed change does not carry another
        {"a/f": his.file(b"fine"), "new": his.file(b"not")},
        {"a/new": his.file(b"names are the owner's")},
        {".textileseed": his.file(b"x")},
    )
    for changes in forbidden:
        assert DENIED in his.swap(changes)[1] or "textileseed" in his.swap(changes)[1], changes
        assert state(user, key) == before
    assert his.swap({"a/f": his.file(b"his")}) == ("OK", "")
    assert user.pull(key, "a/f") == b"his"
    assert (his.swap({"a/sub": None})[0] == "OK") == (role == 3)


# A user of a group key


def test_users_of_one_key_and_its_owner_are_strangers(caller: Caller, alice: Caller) -> None:
    """The users of an app could reach each other's buckets, or the developer could reach theirs."""
    app = caller.using(**make_key(alice, USER).headers())
    one, two = (as_user(app, Identity.generate()) for _ in range(2))
    victim, key = closed_bucket_of_user(one)
    for stranger in (two, alice):
        other = victim.beside(stranger)
        assert other.refused("PullPath", key=key, path="f")[1].startswith("could not resolve path")
        assert DENIED in refusal(other.push, key, "f", b"x")[1]
        assert other.refused("Remove", key=key)[0] == "PERMISSION_DENIED"
        assert list(other.caller.using(x_textile_thread="").call(BLOCKS, "Roots", blocks_pb2.RootsRequest()).buckets) == []
        assert BucketUser.with_new_thread(stranger).refused("Root", key=key)[0] == "UNKNOWN"
    # A user has no account: nothing that is the owner's to ask.
    for method in ("CreateKey", "ListKeys", "GetIdentity", "CreateOrg", "DestroyAccount", "GetSessionInfo", "InviteToOrg"):
        assert refusal(one.call, HUB, method, empty_request(HUB, method))[0] in (
            "INVALID_ARGUMENT",
            "UNIMPLEMENTED",
        ), method
    # A session and the organization of somebody else beside the key change nothing; the session alone counts.
    org = alice.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")).org_info.slug
    as_org = one.using(x_textile_org=org)
    assert [row.id for row in as_org.call(USERS, "ListThreads", users_pb2.ListThreadsRequest()).list] == [victim.thread]


def closed_bucket_of_user(user: Caller) -> tuple[BucketUser, str]:
    mine = BucketUser.with_new_thread(user)
    key = mine.create("mine").root.key
    mine.push(key, "f", b"private")
    mine.ask("PushPathAccessRoles", key=key, path="", roles={"*": 0})
    return mine, key


# Blocks, sizes, messages


def test_a_cid_is_the_capability(alice: Caller, bob: Caller) -> None:
    """As docs/protocol.md says: whoever knows the CID of a block reads it; of a private bucket that is ciphertext."""
    user, key = closed_bucket(alice)
    stranger = user.beside(bob)
    assert stranger.get_blocks([user.root_cid(key)])[0].data == user.get_blocks([user.root_cid(key)])[0].data
    secret = user.create("secret", private=True).root.key
    user.push(secret, "f", b"the plain text")
    below = drive(reachable(Cid(user.root_cid(secret))), Swapper(user, secret).get)
    blocks = stranger.get_blocks(sorted(below))
    assert blocks and not any(b"plain text" in block.data for block in blocks)


@pytest.fixture
def limited(start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]) -> BucketUser:
    """A user of a hub with limits."""
    return BucketUser.with_new_thread(sign_up(dial(start_hub(account_bytes_max=200_000).address), "mallory"))


def lying(user: BucketUser, root: bytes, size_bytes: int, claim: int) -> tuple[Cid, dict[Cid, bytes]]:
    """A root with a file of that size in it, which its link says is as large as ``claim``."""
    node = decode_pb(user.get_blocks([root])[0].data)
    made = build_file(b"x" * size_bytes)
    links = sorted([*node.links, PbLink(made.link.cid, b"f", claim)], key=lambda link: link.name)
    block = encode_pb(PbNode(tuple(links), node.data))
    new = cid_of(block, DAG_PB)
    return new, {**made.blocks, new: block}


def used(user: BucketUser) -> int:
    return int(user.blocks("Roots", blocks_pb2.RootsRequest()).bytes_used)


@pytest.mark.parametrize("claim", [0, 1, 149_999, 150_001, 2**62])
def test_a_link_that_lies_about_its_size_is_refused(limited: BucketUser, claim: int) -> None:
    """An account could store more than its limit by writing false sizes into its trees."""
    key, other = limited.create("one").root.key, limited.create("two").root.key
    root, before = limited.root_cid(key), used(limited)
    new, blocks = lying(limited, root, 150_000, claim)
    limited.put_blocks(dict(blocks))
    code, text = refusal(limited.swap, key, root, new)
    assert (code, "bytes" in text) in (("INVALID_ARGUMENT", True), ("RESOURCE_EXHAUSTED", True)), text
    # Nor by the other ways to bring a tree in.
    for private in (False, True):
        for method, fields in (
            ("SetPath", {"key": other, "path": "copy", "cid": cid_text(new)}),
            ("Create", {"bootstrap_cid": cid_text(new), "private": private}),
        ):
            assert limited.refused(method, **fields)[0] in ("UNKNOWN", "RESOURCE_EXHAUSTED")
    assert used(limited) == before
    # What tells the truth is taken.
    right, blocks = lying(limited, root, 150_000, 150_000)
    limited.put_blocks(dict(blocks))
    limited.swap(key, root, right)
    assert (
        used(limited)
        == before + (len(limited.get_blocks([right])[0].data) - len(limited.get_blocks([root])[0].data)) + 150_000
    )


def test_a_known_link_cannot_shrink(limited: BucketUser) -> None:
    """What is in the bucket already, named again with another size."""
    key = limited.create().root.key
    limited.push(key, "f", b"x" * 100_000)
    root = limited.root_cid(key)
    node = decode_pb(limited.get_blocks([root])[0].data)
    links = tuple(link._replace(tsize=0) if link.name == b"f" else link for link in node.links)
    block = encode_pb(PbNode(links, node.data))
    new = cid_of(block, DAG_PB)
    limited.put_blocks({new: block})
    assert refusal(limited.swap, key, root, new)[0] == "INVALID_ARGUMENT"


def test_what_lied_before_there_was_a_limit_is_counted_by_the_collector(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]
) -> None:
    """False sizes stored earlier would stay uncounted for ever."""
    server = start_hub()
    free = BucketUser.with_new_thread(sign_up(dial(server.address), "mallory"))
    key = free.create().root.key
    free.push(key, "honest", b"y" * 10_000)
    new, blocks = lying(free, free.root_cid(key), 150_000, 0)
    free.put_blocks(dict(blocks))
    free.swap(key, free.root_cid(key), new)
    assert used(free) < 12_000
    server.stop()
    server = start_hub(account_bytes_max=200_000)
    user = free.beside(dial(server.address).using(**free.caller.headers))
    collect(server.config)
    assert 160_000 < used(user) < 162_000
    # It stays counted, whatever is changed beside it and in whatever way.
    for name in ("a", "b"):
        assert refusal(user.push, key, name, b"z" * 50_000)[0] == "RESOURCE_EXHAUSTED"
        user.push(key, name, b"z" * 10_000)
    assert 180_000 < used(user) < 184_000
    root = user.root_cid(key)
    held = {root: user.get_blocks([root])[0].data}
    for size_bytes, may in ((40_000, False), (5_000, True)):
        made = build_file(b"w" * size_bytes)
        grown = drive(edit_directory(Cid(root), {b"g": made.link}), lambda cids: {cid: held[cid] for cid in cids})
        user.put_blocks({**made.blocks, **grown.blocks})
        if may:
            user.swap(key, root, grown.link.cid)
        else:
            assert refusal(user.swap, key, root, grown.link.cid)[0] == "RESOURCE_EXHAUSTED"
    before = used(user)
    assert 185_000 < before < 190_000
    # What it claimed to be is given back when it goes, and the rest when it is counted again.
    user.ask("RemovePath", key=key, path="f")
    assert used(user) < before
    collect(server.config)
    assert 35_000 < used(user) < 37_000


@given(
    edges=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)), max_size=30),
    leaves=st.lists(st.integers(0, 3), min_size=7, max_size=7),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scales_weigh_what_is_there(hub_server: HubServer, edges: list[tuple[int, int, int]], leaves: list[int]) -> None:
    """Any graph, whose links claim anything."""
    made: dict[Cid, bytes] = {}
    right: dict[int, tuple[Cid, int]] = {}
    # A node links only to those of higher numbers.
    for number in range(6, -1, -1):
        links, size_bytes = [], 0
        for at, (above, below, claim) in enumerate(edges):
            if above == number and below > number:
                cid, below_bytes = right[below]
                links.append(PbLink(cid, b"%d" % at, claim))
                size_bytes += below_bytes
        for at in range(leaves[number]):
            leaf = b"x" * (number + at)
            made[cid_of(leaf)] = leaf
            links.append(PbLink(cid_of(leaf), b"leaf%d" % at, 7))
            size_bytes += len(leaf)
        block = encode_pb(PbNode(tuple(sorted(links, key=lambda link: link.name)), b"\x08\x01"))
        made[cid_of(block, DAG_PB)] = block
        right[number] = cid_of(block, DAG_PB), size_bytes + len(block)
    # Few nodes make any number.
    bomb, _ = right[0]
    for _ in range(70):
        block = encode_pb(PbNode((PbLink(bomb, b"a", 0), PbLink(bomb, b"b", 0)), b"\x08\x01"))
        bomb = cid_of(block, DAG_PB)
        made[bomb] = block
    hub_server.hub.blockstore.put_many(made)
    scales = TreeSizes(WorkingSet(hub_server.hub.blockstore))
    for cid, size_bytes in right.values():
        assert scales.measure(cid) == size_bytes
    assert scales.measure(bomb) == SIZE_MAX


def test_sizes_beyond_all_counts_are_refused_without_limits_too(alice: Caller) -> None:
    """One absurd size would overflow the count of an account, and block all of its pushes."""
    user = BucketUser.with_new_thread(alice)
    key = user.create().root.key
    root = user.root_cid(key)
    new, blocks = lying(user, root, 10, 2**63 - 100)
    user.put_blocks(dict(blocks))
    assert refusal(user.swap, key, root, new)[0] == "INVALID_ARGUMENT"
    assert user.refused("SetPath", key=key, path="copy", cid=cid_text(new))[0] == "UNKNOWN"
    # A number that is no size does not even come in.
    _, blocks = lying(user, root, 10, 2**63)
    assert refusal(user.put_blocks, dict(blocks))[0] == "INVALID_ARGUMENT"
    user.push(key, "f", b"goes on")


NAMES = st.sampled_from([f"{name}/{inner}" for name in "abc" for inner in ("x", "y", "d/z")] + [f"n{n}" for n in range(12)])
CONTENTS = st.integers(0, 600_000).map(lambda size: (b"%d " % size * (size // 2 + 1))[:size])


@given(steps=st.lists(st.dictionaries(NAMES, st.none() | CONTENTS, min_size=1, max_size=6), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trees_that_are_built_as_they_should_be_are_never_refused(
    hub_server: HubServer, steps: list[dict[str, bytes | None]]
) -> None:
    """Whatever our own builder makes of any edits tells the sizes that are there; sharded folders are below."""
    store = hub_server.hub.blockstore
    root: Cid | None = None
    for step in steps:
        made: dict[Cid, bytes] = {}
        changes: dict[tuple[bytes, ...], Link | None] = {}
        for path, content in step.items():
            if content is not None:
                built = build_file(content, NodeAttributes(mode=0o600, mtime_ns=len(content)))
                made |= built.blocks
            changes[tuple(path.encode().split(b"/"))] = built.link if content is not None else None
        blocks = WorkingSet(store)
        blocks.add(made)
        if root is None:
            empty = empty_directory()
            blocks.add(empty.blocks)
            root = empty.link.cid
        old = blocks.run(reachable(root))
        try:
            tree = drive(edit_tree(root, changes), blocks.get_many)
        except NotADirectory:
            continue  # a file where a folder would have to be
        blocks.add(tree.blocks)
        blocks.store_for(tree.link.cid)
        after = WorkingSet(store)
        everything = after.run(reachable(tree.link.cid))
        check_sizes(after, everything)
        check_sizes(after, everything - old, old)
        root = tree.link.cid


def test_sharded_folders_tell_their_sizes(start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]) -> None:
    """Grown over the size where folders are sharded, changed there, and shrunk again."""
    user = BucketUser.with_new_thread(sign_up(dial(start_hub(account_bytes_max=50_000_000).address), "dora"))
    key = user.create().root.key
    it = Swapper(user, key)
    names = [f"big/{'long' * 50}-{n}" for n in range(1200)]
    assert it.swap({name: it.file(b"%d" % n) for n, name in enumerate(names)}) == ("OK", "")
    assert it.swap({names[7]: it.file(b"another"), names[8]: None, "beside": it.link(names[9])}) == ("OK", "")
    assert it.swap({"copy": it.link("big")}) == ("OK", "")
    assert it.swap(dict.fromkeys(names[20:])) == ("OK", "")
    assert len(user.names(key, "big")) == 19


def test_trees_that_are_too_deep(alice: Caller) -> None:
    """Each level is a node to make anew, and in a private bucket one to encrypt again when it is shared."""
    user = BucketUser.with_new_thread(alice)
    key, secret = user.create().root.key, user.create(private=True).root.key
    deep = "/".join("d" * 2048)
    user.push(key, deep, b"x")
    assert user.pull(key, deep) == b"x"
    assert refusal(user.push, key, deep + "/d", b"x")[0] == "INVALID_ARGUMENT"
    assert refusal(user.push_paths, key, {"d/" * 100_000 + "d": b"x"})[0] == "UNKNOWN"
    limit = "/".join("d" * 200)
    user.push(secret, limit, b"x")
    for act in (
        lambda: user.push(secret, limit + "/d", b"x"),
        lambda: user.push(secret, deep, b"x"),
        lambda: user.ask("SetPath", key=secret, path="in", cid=user.listing(key).cid),
    ):
        assert refusal(act) == ("INVALID_ARGUMENT", "a private bucket has at most 200 levels")
    assert refusal(user.push_paths, secret, {deep: b"x"})[1].endswith("a private bucket has at most 200 levels")
    # What fits can be shared and moved.
    user.ask("PushPathAccessRoles", key=secret, path="d", roles={"*": 1})
    user.ask("MovePath", key=secret, from_path="d", to_path="e")
    assert user.pull(secret, "e" + limit[1:]) == b"x"


def test_a_push_of_files_that_never_end(alice: Caller) -> None:
    """Each holds memory, so there is a bound; many at a time arrive whole."""
    user = BucketUser.with_new_thread(alice)
    key = user.create().root.key

    def requests(count: int, *, end: bool) -> Iterator[Any]:
        yield buckets_pb2.PushPathsRequest(header=buckets_pb2.PushPathsRequest.Header(key=key))
        for data in (b"one", b"two", *([b""] if end else [])):
            for number in range(count):
                chunk = buckets_pb2.PushPathsRequest.Chunk(path=f"f{number}", data=data and data + b"%d" % number)
                yield buckets_pb2.PushPathsRequest(chunk=chunk)

    refused = refusal(user.caller.call, BUCKETS, "PushPaths", requests(300, end=False))
    assert refused == ("RESOURCE_EXHAUSTED", "enqueueing file: 256 files are unfinished already")
    assert len(user.caller.call(BUCKETS, "PushPaths", requests(200, end=True))) == 200
    assert user.pull(key, "f0") == b"one0two0" and user.pull(key, "f199") == b"one199two199"


def test_messages_that_are_too_large(alice: Caller) -> None:
    """A huge message would use up the Hub's memory, or stop the client's later calls."""
    user = BucketUser.with_new_thread(alice)
    key = user.create().root.key
    data = bytes(9 << 20)
    assert refusal(user.blocks, "Put", iter([bl.PutRequest(blocks=[bl.Block(cid=cid_of(data), data=data)])]))[0] in (
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
    )
    assert refusal(user.missing, [], b"u" * 65)[0] == "INVALID_ARGUMENT"
    assert refusal(user.blocks, "GetTree", bl.GetTreeRequest(cid=user.root_cid(key), depth=1 << 30))[0] == (
        "INVALID_ARGUMENT"
    )
    block = bytes(4 << 20)
    assert refusal(user.put_blocks, {cid_of(block): block})[0] == "INVALID_ARGUMENT"
    user.push(key, "f", b"goes on")
