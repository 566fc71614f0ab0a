"""A Hub that refuses some paths: those wait here, and nothing else does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import Change, diff, drive, list_directory
from bucketfs.errors import Denied
from bucketfs.remote import Look
from bucketfs.roles import PathChange
from bucketfs.sync import Pusher
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import Permissions, permissions_of

ME, OWNER = "bme", "bowner"


@dataclass
class StrictRemote(MemoryRemote):
    """Refuses a swap that changes a path in or below ``closed``; with ``roles``, one that ``Permissions`` would refuse. It
    tells its roles only if ``tells``."""

    closed: set[str] = field(default_factory=set)
    roles: dict[str, dict[str, int]] | None = None
    tells: bool = True

    async def look(self) -> Look:
        if self.roles is None or not self.tells:
            return Look(self.at)
        return Look(self.at, 0, {}, OWNER, self.roles)

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        for change in drive(diff(expected, new), self._get):
            path = b"/".join(change.path).decode()
            inside = any(path == place or path.startswith(place + "/") for place in self.closed)
            if inside or (self.roles is not None and not Permissions(ME, OWNER, self.roles).may(path, touch_of(change))):
                raise Denied("permission denied")
        await super().swap(expected, new, upload)

    def paths(self, root: Cid | None = None, above: str = "") -> set[str]:
        """All that a bucket holds, the Hub's own entry left out."""
        found: set[str] = set()
        for name, link in drive(list_directory(self.at if root is None else root), self._get).entries.items():
            path = above + name.decode()
            if path == ".textileseed":
                continue
            found.add(path)
            if path.rpartition("/")[2].startswith("d"):
                found |= self.paths(link.cid, path + "/")
        return found


def touch_of(change: Change) -> PathChange:
    if change.attributes_only or (change.old is not None and change.new is not None):
        return PathChange.REPLACE
    return PathChange.ADD if change.old is None else PathChange.REMOVE


async def me() -> str:
    return ME


def pusher_of(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append, me=me)


async def seeded(folder: Path, remote: StrictRemote) -> tuple[World, Pusher]:
    """A bucket with some files, pushed while nothing was refused."""
    closed, remote.closed, roles, remote.roles = remote.closed, set(), remote.roles, None
    world = await World(folder, remote).open()
    for directory in ("d", "d/d1", "d2"):
        await world.mkdir(directory)
    for file in ("a", "d/b", "d/d1/c", "d2/e"):
        await world.write(file, file.encode())
    pusher = pusher_of(world)
    await pusher.push()
    remote.closed, remote.roles = closed, roles
    return world, pusher


async def test_what_a_search_had_no_time_for_is_said_so_and_goes_later(tmp_path: Path) -> None:
    """So many paths are refused that not each is tried by itself: the others with them wait, are not blamed, and go when asked."""
    remote = StrictRemote(closed={f"x{number:03}" for number in range(0, 256, 2)})
    world, pusher = await seeded(tmp_path, remote)
    for number in range(256):
        await world.write(f"x{number:03}", b"new")
    await pusher.push()
    untried = [path for path, why in pusher.withheld.refused.items() if "not tried by itself" in why]
    assert untried and len(untried) < len(pusher.withheld.refused)
    remote.closed = set()
    pusher.retry_withheld()
    await pusher.push()
    assert not world.volume.root.dirty
    assert len(remote.paths()) > 256


async def test_the_one_refused_path_is_found_by_trying(tmp_path: Path) -> None:
    """One path that the Hub refuses would hold up all others, or they would be blamed with it."""
    remote = StrictRemote(closed={"d/d1/c", "d2/e"})
    world, pusher = await seeded(tmp_path, remote)
    for number in range(20):
        await world.write(f"new{number}", b"new")
    await world.write("d/d1/c", b"refused")
    await world.write("d/b", b"changed")
    await world.unlink("d2/e")
    assert await pusher.push() is not None
    assert sorted(pusher.withheld.refused) == ["d/d1/c", "d2/e"]
    assert remote.paths() == {"a", "d", "d/b", "d/d1", "d/d1/c", "d2", "d2/e", *(f"new{number}" for number in range(20))}
    assert world.volume.root.dirty and world.volume.push.since_ns is None
    assert await world.read("d/d1/c") == b"refused" and await world.names("d2") == []

    # It waits over a kill, and the others are not pushed again for it.
    world.close()
    again = await World(tmp_path, remote).open()
    assert again.quarantined == []
    assert await again.read("d/d1/c") == b"refused" and await again.names("d2") == []
    pusher = pusher_of(again)
    await pusher.push()
    assert sorted(pusher.withheld.refused) == ["d/d1/c", "d2/e"]

    # Other changes go out meanwhile, and it goes out when it may.
    swaps = remote.swaps
    await again.write("a", b"other")
    await pusher.push()
    assert remote.swaps == swaps + 1
    remote.closed = set()
    pusher.retry_withheld()
    await pusher.push()
    assert not again.volume.root.dirty and pusher.withheld.refused == {}
    assert "d2/e" not in remote.paths()
    again.close()


async def test_what_was_moved_is_never_lost(tmp_path: Path) -> None:
    """A file whose new place is refused would be removed from its old one."""
    remote = StrictRemote(closed={"d2/there"})
    world, pusher = await seeded(tmp_path, remote)
    await world.rename("d", "d2/there")
    await world.write("d", b"in its place")
    await world.write("a", b"free")
    await pusher.push()
    # Its new place is refused, so the old one stays at the Hub, although that alone could have been taken away.
    assert {"d", "d/b", "d/d1/c"} <= remote.paths() and "d2/there" not in remote.paths()
    assert list(pusher.withheld.refused) == ["d2/there"]
    assert await world.read("d2/there/d1/c") == b"d/d1/c"
    remote.closed = set()
    pusher.retry_withheld()
    await pusher.push()
    assert not world.volume.root.dirty
    world.close()


async def test_roles_say_it_without_trying(tmp_path: Path) -> None:
    """Each refused path would cost a number of vain pushes although the roles name it."""
    remote = StrictRemote(roles={"": {"*": 1}, "d": {ME: 3}})
    world, pusher = await seeded(tmp_path, remote)
    # Written before the roles were known here.
    await world.write("a", b"no writer")
    await world.write("d/b", b"a writer")
    await world.unlink("d/d1/c")
    await world.write("d/fresh", b"only owners add")
    await world.chmod("d2", 0o700)
    await pusher.push()
    assert set(pusher.withheld.refused) == {"a", "d/fresh", "d2"}
    assert "writer" in pusher.withheld.refused["a"] and "owner" in pusher.withheld.refused["d/fresh"]
    assert remote.paths() == {"a", "d", "d/b", "d/d1", "d2", "d2/e"}
    assert remote.swaps == 2
    # From now on the answer comes at once.
    with pytest.raises(Denied):
        await world.write("d2/e", b"x")
    with pytest.raises(Denied):
        await world.write("d/another", b"x")
    with pytest.raises(Denied):
        await world.unlink("a")
    with pytest.raises(Denied):
        await world.rename("d/b", "d/c")
    with pytest.raises(Denied):
        await world.chmod("a", 0o600)
    await world.write("d/b", b"again")
    await world.chmod("d/b", 0o600)
    await pusher.push()
    assert remote.swaps == 3
    # The owner thinks better of it.
    remote.roles = {"": {ME: 3}, "d": {ME: 3}}
    await pusher.apply_permissions(await remote.look())
    await pusher.push()
    assert set(pusher.withheld.refused) == {"d/fresh"}
    await world.unlink("d/fresh")
    await pusher.push()
    assert pusher.withheld.refused == {} and not world.volume.root.dirty
    world.close()


@pytest.mark.parametrize("moved", ["d/b", "d/d1"])
async def test_what_was_moved_into_a_new_folder_is_never_lost(tmp_path: Path, moved: str) -> None:
    """A file that was moved into a new folder that is refused would be gone for others."""
    remote = StrictRemote(closed={"fresh"})
    world, pusher = await seeded(tmp_path, remote)
    before = remote.paths()
    await world.mkdir("fresh")
    await world.mkdir("fresh/deeper")
    await world.write("fresh/new", b"new")
    await world.rename(moved, "fresh/deeper/moved")
    await world.write("a", b"free")
    await pusher.push()
    assert list(pusher.withheld.refused) == ["fresh"]
    # The Hub has it under its old name only.
    assert remote.paths() == before
    remote.closed = set()
    pusher.retry_withheld()
    await pusher.push()
    assert pusher.withheld.refused == {} and not world.volume.root.dirty
    assert "fresh" in remote.paths() and moved not in remote.paths()
    world.close()


async def test_a_folder_that_may_not_be_written_keeps_its_time(tmp_path: Path) -> None:
    """A folder that only differs by its mtime would be reported as refused for ever."""
    remote = StrictRemote(roles={"": {"*": 1}, "d/b": {ME: 3}})
    world, pusher = await seeded(tmp_path, remote)
    await pusher.apply_permissions(await remote.look())
    await world.unlink("d/b")
    await pusher.push()
    assert "d/b" not in remote.paths()
    assert not world.volume.root.dirty and pusher.withheld.refused == {}
    world.close()


async def test_paths_appear_and_go_with_roles(tmp_path: Path) -> None:
    """A path would stay visible after its role was taken, or not appear when one is given."""
    remote = StrictRemote(roles={"": {OWNER: 3}, "d/d1": {ME: 1}})
    world, pusher = await seeded(tmp_path, remote)
    await world.inode("d2")
    await pusher.apply_permissions(await remote.look())
    assert await world.tree() == {"d": None, "d/d1": None, "d/d1/c": b"d/d1/c"}
    told = len(world.told)
    remote.roles = {"": {OWNER: 3}, "a": {"*": 2}}
    await pusher.apply_permissions(await remote.look())
    assert await world.tree() == {"a": b"a"}
    assert len(world.told) > told
    await world.write("a", b"everybody writes")
    await pusher.push()
    assert not world.volume.root.dirty
    remote.roles = {}
    await pusher.apply_permissions(await remote.look())
    assert await world.tree() == {} and not world.volume.tree.permissions.shows("")  # type: ignore[union-attr]
    world.close()


def test_the_owner_is_asked_nothing() -> None:
    """Each change by the owner of a bucket would be checked against roles that cannot refuse it."""
    assert permissions_of(OWNER, OWNER, {"": {OWNER: 3}}) is None
    assert permissions_of(ME, "", {}) is None
    assert permissions_of("", OWNER, {}) is None
    locked_out = permissions_of(OWNER, OWNER, {"": {"*": 1}})
    assert locked_out is not None and locked_out.may("new", PathChange.ADD) and not locked_out.may("a", PathChange.REPLACE)


NAMES = ["a", "d", "d/b", "d/d1", "d/d1/c", "d2", "d2/e", "x", "d/x", "d2/d3"]


@st.composite
def acts(draw: st.DrawFn) -> list[tuple[str, ...]]:
    verbs = st.one_of(
        st.tuples(st.sampled_from(["write", "unlink", "rmdir", "mkdir", "chmod"]), st.sampled_from(NAMES)),
        st.tuples(st.just("rename"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    )
    return draw(st.lists(verbs, max_size=8))


@settings(max_examples=60, deadline=None)
@given(story=acts(), closed=st.sets(st.sampled_from(NAMES), max_size=3))
async def test_nothing_is_lost_whatever_is_refused(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, ...]], closed: set[str]
) -> None:
    """Some story of refusals would lose bytes here or at the Hub."""
    from bucketfs.errors import Refused

    remote = StrictRemote(closed=closed)
    world, pusher = await seeded(tmp_path_factory.mktemp("world"), remote)
    for number, (verb, *paths) in enumerate(story):
        try:
            if verb == "write":
                await world.write(paths[0], f"{number}".encode())
            elif verb == "rename":
                await world.rename(paths[0], paths[1])
            elif verb == "chmod":
                await world.chmod(paths[0], 0o700)
            else:
                await getattr(world, verb)(paths[0])
        except Refused:
            continue
    before = await world.stat_tree()
    await pusher.push()
    assert await world.stat_tree() == before
    assert bool(pusher.withheld.refused) <= world.volume.root.dirty
    # What the Hub has, and no draft or cache beside it, gives the rest when it may.
    world.source.forget()
    remote.closed = set()
    pusher.retry_withheld()
    await pusher.push()
    assert not world.volume.root.dirty and pusher.withheld.refused == {}
    assert await world.stat_tree() == before
    world.close()
