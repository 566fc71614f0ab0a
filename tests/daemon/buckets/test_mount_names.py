"""The folders of buckets: each its own, named after the bucket, and none that becomes another bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bucketfs.client import BucketInfo
from bucketfs.daemon.buckets.mount_names import folder_names
from bucketfs.types import BucketKey, Cid, ThreadId


def bucket(key: str, name: str, created_at_ns: int = 0) -> BucketInfo:
    return BucketInfo(BucketKey(f"bafzbei{key:0>8}"), name, ThreadId(b""), Cid(b""), created_at_ns, 0, False, "")


def named(*buckets: BucketInfo, shown: dict[BucketKey, bytes] | None = None) -> list[str]:
    names = folder_names(buckets, shown or {})
    return [names[info.key].decode() for info in buckets]


def test_two_buckets_of_one_name() -> None:
    """One of two buckets of the same name would be out of reach, or a path in use would suddenly lead to the other."""
    old, new = bucket("a", "home", 1), bucket("b", "home", 2)
    assert named(new, old) == ["home (0000000b)", "home"]
    # Whoever stands there first keeps its folder, also when the other one is older, or goes.
    assert named(new, old, shown={new.key: b"home"}) == ["home", "home (0000000a)"]
    assert named(new, shown={new.key: b"home (0000000b)"}) == ["home (0000000b)"]


def test_another_name() -> None:
    """A renamed bucket would keep its former folder, or take the folder of another that still has changes to push."""
    a, b = bucket("a", "b"), bucket("b", "a")
    assert named(a, b, shown={a.key: b"a", b.key: b"b"}) == ["b", "a"]
    assert named(a, shown={a.key: b"a", b.key: b"b"}) == ["b (0000000a)"], "b has left the Hub and waits with changes here"


def test_names_that_no_folder_can_have() -> None:
    """A bucket with a slash, no name or a very long one could not be reached, or would break the listing of the mount."""
    assert named(bucket("a", "a/b"), bucket("b", ""), bucket("c", "..")) == ["a_b", "bafzbei0000000b", "bafzbei0000000c"]
    (long,) = named(bucket("a", "ü" * 200))
    assert set(long) == {"ü"} and len(long.encode()) == 254
    for name in ("n" * 255, "n" * 256):
        assert [len(each) for each in named(bucket("a", name, 1), bucket("b", name, 2))] == [255, 255]


def test_dots_are_letters_like_others() -> None:
    """A bucket such as `.Trash-1000` would be shown under another name, where programs do not look for it."""
    names = [".x1", "..x", "...", "x.", ".Trash-1000", "home."]
    assert named(*(bucket(str(number), name) for number, name in enumerate(names))) == names


few = st.sampled_from(["a", "b", "a (0000000a)", "a (0000000b)", "a (bafzbei0000000a) 1", "", "a/", "a_"])


@given(st.dictionaries(st.sampled_from("abcd"), few), st.dictionaries(st.sampled_from("abcd"), few), st.booleans())
def test_each_has_its_own_and_keeps_it(before: dict[str, str], after: dict[str, str], turned: bool) -> None:
    """Two buckets would share a folder, or a folder in use would become another bucket's after a change of names."""
    shown = folder_names([bucket(key, name) for key, name in before.items()], {})
    buckets = [bucket(key, name) for key, name in after.items()]
    names = folder_names(buckets[::-1] if turned else buckets, shown)
    gone = {name for key, name in shown.items() if key not in names}
    assert len({*names.values(), *gone}) == len(names) + len(gone)
    assert all(name and b"/" not in name and len(name) < 256 for name in names.values())
    for key, name in after.items():
        if before.get(key) == name:
            assert names[bucket(key, name).key] == shown[bucket(key, name).key]
