"""What a mirror must not do: take what it cannot see for removed, push what is being written, write over what it has not seen."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from support.machine import Machine, hub_names, hub_tree, later_ns, no_colons, nothing, put, settle
from support.memory_remote import MemoryRemote
from support.unixfs import build_file

from bucketfs.dag import block_links, drive, edit_directory, list_directory, node_info, resolve
from bucketfs.errors import DiskFailed, NotFound, Refused, Unavailable
from bucketfs.mirror import MirrorState, Round
from bucketfs.mirror.rollback_check import Agreed
from bucketfs.remote import Look
from bucketfs.transfer import LocalEntry, LocalFs
from bucketfs.types import Cid, Link, NodeAttributes, UploadId

LEAF = 262144


# The folder itself


async def test_a_folder_that_is_gone_empties_no_bucket(one: Machine, remote: MemoryRemote) -> None:
    """Else a disk that is not plugged in would delete the bucket for everyone."""
    one.write("file", "precious")
    await settle(one)
    one.top.rename(one.top.with_name("elsewhere"))
    with pytest.raises(NotFound, match="is gone"):
        await one.round()
    one.top.mkdir()
    with pytest.raises(Refused, match="another folder"):
        await one.round()
    assert hub_tree(remote) == {"file": "precious"}
    assert list(one.top.iterdir()) == []
    one.top.rmdir()
    one.top.with_name("elsewhere").rename(one.top)
    assert not (await one.round()).did_something


async def test_begun_anew_with_an_empty_folder_everything_comes_back(one: Machine, remote: MemoryRemote) -> None:
    """A user who lost the folder gets all of it back, and nothing is removed at the Hub."""
    one.write("file", "precious")
    await settle(one)
    shutil.rmtree(one.top)
    one.top.mkdir()
    one.state_file.unlink()
    await settle(one)
    assert one.tree() == {"file": "precious"}
    assert hub_tree(remote) == {"file": "precious"}


async def test_a_disk_with_another_number_is_known_by_a_file_on_it(one: Machine, remote: MemoryRemote) -> None:
    """After a reboot the mirror of an external disk goes on; an emptied one is refused."""
    one.write("file", "precious")
    await settle(one)

    def renumber() -> None:
        state = MirrorState(one.state_file)
        state.note_fact("top", f"[12345, {one.top.stat().st_ino}]")
        state.close()

    renumber()
    assert not (await one.round()).did_something
    renumber()
    one.remove("file")
    with pytest.raises(Refused, match="another folder"):
        await one.round()
    assert hub_tree(remote) == {"file": "precious"}


async def test_what_was_mounted_below_and_is_not_now_is_not_removed(
    one: Machine, two: Machine, remote: MemoryRemote
) -> None:
    """Else unplugging a disk below the folder would delete its files everywhere."""
    one.write("disk/file", "precious")
    one.write("other", "x")
    disk = (one.top / "disk").stat().st_ino

    class OtherDeviceFs(LocalFs):
        def entry_of(self, name: bytes, status: os.stat_result) -> LocalEntry:
            found = super().entry_of(name, status)
            return replace(found, device=999) if status.st_ino == disk else found

    one.make_fs = OtherDeviceFs
    await settle(one, two)
    (one.top / "disk").rename(one.top.with_name("unplugged"))
    (one.top / "disk").mkdir()
    two.write("disk/new", "from the other side")
    await settle(one, two)
    assert hub_tree(remote) == {"disk/file": "precious", "disk/new": "from the other side", "other": "x"}
    assert os.listdir(one.top / "disk") == []
    assert [item.path for item in one.rounds[-1].skipped] == ["disk"]
    (one.top / "disk").rmdir()
    one.top.with_name("unplugged").rename(one.top / "disk")
    await settle(one, two)
    assert (
        one.tree()
        == two.tree()
        == {
            "disk": None,
            "disk/file": "precious",
            "disk/new": "from the other side",
            "other": "x",
        }
    )


# What cannot be carried


async def test_what_cannot_be_carried_is_left_on_both_sides(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """Pipes, sockets and odd names stop nothing, and what the Hub has under such a name is kept."""
    one.write("dir/file", "x")
    one.write("name", "x")
    await settle(one, two)
    os.mkfifo(one.top / "dir/pipe")
    one.remove("name")
    os.mkfifo(one.top / "name")
    os.mknod(os.path.join(os.fsencode(one.top), b"\xff\xfe"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(one.top / "socket"))
        await settle(one, two)
    assert sorted(item.path for item in one.rounds[-1].skipped) == ["dir/pipe", "name", "socket", "\udcff\udcfe"]
    assert hub_tree(remote) == {"dir/file": "x", "name": "x"}, "a pipe over a file is no removal"
    two.write("name", "changed")
    two.remove("dir")
    await settle(one, two)
    assert hub_tree(remote) == {"name": "changed"}
    assert (one.top / "name").is_fifo()
    assert (one.top / "dir/pipe").is_fifo()
    assert not (one.top / "dir/file").exists()
    assert not one.rounds[-1].soon


async def test_a_file_with_a_bad_sector_holds_up_itself_only(one: Machine, remote: MemoryRemote) -> None:
    """One unreadable file must not stop all other files from being saved."""
    for name in ("bad", "large bad", "good"):
        one.write(name, b"x" * (LEAF + 1 if "large" in name else 1))
    await settle(one)
    for name in ("bad", "large bad", "good"):
        one.write(name, b"y" * (LEAF + 1 if "large" in name else 1))

    class BadSectorFs(LocalFs):
        def open_to_read(self, path: bytes) -> int:
            if path.endswith(b"bad"):
                raise DiskFailed("reading: Input/output error")
            return super().open_to_read(path)

    one.make_fs = BadSectorFs
    done = await one.round()
    assert sorted(item.path for item in done.skipped) == ["bad", "large bad"]
    tree = hub_tree(remote)
    assert (tree["bad"], tree["large bad"][0], tree["good"]) == ("x", "x", "y")
    one.make_fs = LocalFs
    await settle(one)
    assert hub_tree(remote)["bad"] == "y"


async def test_a_name_that_this_disk_cannot_have_holds_up_itself_only(
    one: Machine, two: Machine, remote: MemoryRemote
) -> None:
    """One name that FAT cannot hold must not stop the other files, and is not deleted at the Hub."""
    two.write("a:b", "x")
    two.write("l:b", b"x" * (2 * LEAF))
    two.write("good", "x")
    await settle(two)
    one.before_call = no_colons
    done = await one.round()
    assert sorted(item.path for item in done.applied.left) == ["a:b", "l:b"]
    assert not done.soon
    assert one.tree() == {"good": "x"}
    assert not (await one.round()).did_something
    assert sorted(hub_names(remote)) == ["a:b", "good", "l:b"]
    one.before_call = nothing
    await settle(one)
    assert one.tree() == two.tree()


async def test_the_seed_belongs_to_the_hub(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """A user's file of the Hub's own name is neither sent nor overwritten."""
    one.write(".textileseed", "mine")
    one.write("dir/.textileseed", "a file like any other")
    await settle(one, two)
    assert remote.store[drive(list_directory(remote.at), remote._get).entries[b".textileseed"].cid] == b"s" * 32
    assert one.read(".textileseed") == "mine"
    assert two.tree() == {"dir": None, "dir/.textileseed": "a file like any other"}


# Changes under way


@pytest.mark.parametrize("size", [10, 3 * LEAF])
async def test_a_file_that_is_being_written_is_not_pushed_torn(one: Machine, remote: MemoryRemote, size: int) -> None:
    """Else others would get a file that never existed: half old, half new."""
    one.write("file", b"a" * size)
    await settle(one)
    one.write("file", b"b" * size)

    def write_on() -> None:
        with (one.top / "file").open("r+b") as file:
            file.write(b"c")

    class WrittenMeanwhileFs(LocalFs):
        def leaves(self, path: bytes) -> Generator[bytes]:
            write_on()
            return super().leaves(path)

    one.make_fs = WrittenMeanwhileFs
    done = await one.round()
    assert done.soon
    assert hub_tree(remote)["file"] == "a" * size
    one.make_fs = LocalFs
    await settle(one)
    assert hub_tree(remote)["file"] == "c" + "b" * (size - 1)


async def test_what_changes_after_the_scan_is_not_written_over(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """Else an edit made while the Hub's change arrives would be lost."""
    for name in ("file", "large", "gone", "dir/in"):
        one.write(name, b"old" * (LEAF if name == "large" else 1))
    await settle(one, two)
    two.write("file", "of the Hub")
    two.write("large", b"new" * LEAF)
    two.write("new", "of the Hub")
    two.remove("gone")
    two.remove("dir")
    await two.round()

    def act() -> None:
        one.after_commit = nothing
        for name in ("file", "large", "gone", "dir/in", "new"):
            one.write(name, f"{name} written here")

    one.after_commit = act
    done = await one.round()
    assert done.soon
    assert {item.path for item in done.applied.left} >= {"file", "large", "gone", "dir/in", "new"}
    for name in ("file", "large", "gone", "dir/in", "new"):
        assert one.read(name) == f"{name} written here"
    await settle(one, two)
    assert one.tree() == two.tree()
    tree = hub_tree(remote)
    for name in ("gone", "dir/in"):
        assert tree[name] == f"{name} written here"
    for name in ("file", "large", "new"):
        assert tree[f"{name} (conflict one 1)"] == f"{name} written here"
    assert tree["file"] == tree["new"] == "of the Hub"


async def test_a_write_right_after_the_scan_is_seen_though_its_time_is_the_same(one: Machine, remote: MemoryRemote) -> None:
    """As on a file system with a coarse clock; here the time is put back by hand."""
    one.write("file", "aaaa")
    now = (one.top / "file").stat().st_mtime_ns
    await one.round(now_ns=lambda: now + 1_000_000)
    status = (one.top / "file").stat()
    with (one.top / "file").open("r+") as file:
        file.write("bbbb")
    os.utime(one.top / "file", ns=(now, now))
    state = MirrorState(one.state_file)
    state._database.execute("update seen set ctime_ns = ?", ((one.top / "file").stat().st_ctime_ns,))
    state.close()
    assert (one.top / "file").stat().st_ino == status.st_ino
    await one.round()
    assert hub_tree(remote) == {"file": "bbbb"}


# The Hub


class DeafRemote(MemoryRemote):
    """A Hub whose replies to a swap are lost while ``deaf``."""

    deaf = False

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        await super().swap(expected, new, upload)
        if self.deaf:
            raise Unavailable("the reply was lost")


async def test_a_swap_whose_reply_was_lost_makes_no_second_copy(tmp_path: Path) -> None:
    """Else each lost reply would leave one more conflict copy."""
    remote = DeafRemote()
    one, two = Machine(tmp_path, "one", remote), Machine(tmp_path, "two", remote)
    one.write("file", "old")
    await settle(one, two)
    two.write("file", "two's")
    await two.round()
    one.write("file", "one's")
    remote.deaf = True
    with pytest.raises(Unavailable):
        await one.round()
    remote.deaf = False
    # Before the next look another client changes the file once more.
    put(remote, "file", b"changed again")
    await settle(one, two)
    assert one.tree() == two.tree() == {"file": "changed again", "file (conflict one 1)": "one's"}


async def test_a_hub_that_is_away_changes_nothing_here(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """An outage must not look like removed files, on either side."""
    one.write("file", "x")
    await settle(one, two)
    remote.away = True
    one.write("file", "here")
    two.write("other", "there")
    for machine in (one, two):
        with pytest.raises(Unavailable):
            await machine.round()
    remote.away = False
    await settle(one, two)
    assert one.tree() == two.tree() == {"file": "here", "other": "there"}


async def test_what_the_hub_lost_of_unchanged_files_is_offered_again(one: Machine, remote: MemoryRemote) -> None:
    """A Hub that lost blocks gets them again from the folder that still has them."""
    data = os.urandom(3 * LEAF)
    one.write("large", data)
    one.write("small", os.urandom(5000))
    await settle(one)
    empty = MemoryRemote()
    remote.store, remote.at = empty.store, empty.at
    state = MirrorState(one.state_file)
    state.position = type(state.position)()
    state.close()
    await settle(one)
    assert (one.top / "large").read_bytes() == data
    assert sorted(drive(list_directory(remote.at), remote._get).entries) == [b".textileseed", b"large", b"small"]


async def test_the_old_tree_is_not_needed_from_the_hub(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """A Hub may have collected it while this machine was away."""
    for name in ("dir/a", "dir/b", "c"):
        one.write(name, "old")
    await settle(one, two)
    old = set(remote.store)
    two.write("dir/a", "new")
    two.remove("c")
    await two.round()
    one.write("dir/b", "new")
    (one.top / "dir/a").chmod(0o600)
    live: set[Cid] = set()
    waiting = [remote.at]
    while waiting:
        cid = waiting.pop()
        live.add(cid)
        waiting += block_links(cid, remote.store[cid])
    for cid in old - live:
        del remote.store[cid]
    # It spares what is younger than an hour.
    await one.round(now_ns=lambda: later_ns() + 3600 * 10**9)
    await settle(one, two)
    assert one.tree(modes=True) == two.tree(modes=True)
    assert one.tree() == {"dir": None, "dir/a": "new", "dir/b": "new"}


async def test_what_other_clients_made_stays_as_they_made_it(one: Machine, remote: MemoryRemote) -> None:
    """Files without attributes, in chunks of another size, owned by another user, in a folder of old encoding."""
    data = os.urandom(700_000)
    odd = build_file(data, chunk=100_000, cid_version=0, raw_leaves=False)
    plain = build_file(b"plain")
    owned = build_file(b"owned", NodeAttributes(mode=0o640, mtime_ns=7, uid=1234, gid=5678))
    inner = drive(edit_directory(None, {b"odd": odd.link, b"plain": plain.link}, cid_version=0), remote._get)
    for built in (odd, plain, owned, inner):
        remote.store.update(built.blocks)
    edited = drive(edit_directory(remote.at, {b"dir": inner.link, b"owned": owned.link}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid
    await settle(one)
    assert (one.top / "dir/odd").read_bytes() == data
    assert remote.swaps == 0, "nothing changed here, and something was pushed"
    one.write("dir/plain", "changed")
    one.write("owned", "changed")
    await settle(one)
    link = drive(resolve(remote.at, (b"dir", b"odd")), remote._get)
    assert link == Link(odd.link.cid, odd.link.tsize)
    info = drive(resolve(remote.at, (b"owned",)), remote._get)
    assert info is not None
    attributes = node_info(info.cid, remote.store[info.cid]).attributes
    assert (attributes.uid, attributes.gid) == (1234, 5678)


async def test_blocks_that_nothing_needs_are_swept(one: Machine) -> None:
    """Else the state file would grow without end."""
    one.write("file", "x")
    await settle(one)
    state = MirrorState(one.state_file)
    state.keep((Cid(b"\x01\x70" + number.to_bytes(34, "big")), b"junk") for number in range(3000))
    state.close()
    await one.round()
    state = MirrorState(one.state_file)
    count = state._database.execute("select count(*) from block").fetchone()[0]
    base = state.position.base
    assert base is not None
    assert set(state.blocks([base])) == {base}
    state.close()
    assert count < 100


class TimedRemote(MemoryRemote):
    """A Hub that gives each change a time, and can be put back to what it was."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[Cid, int] = {}
        self.clock = later_ns()

    async def look(self) -> Look:
        if self.at not in self.times:
            self.clock += 1
            self.times[self.at] = self.clock
        return Look(self.at, self.times[self.at])

    def copy(self) -> tuple[Cid, dict[Cid, bytes]]:
        return self.at, dict(self.store)

    def put_back(self, copy: tuple[Cid, dict[Cid, bytes]]) -> None:
        self.at, self.store = copy[0], dict(copy[1])


async def test_an_old_root_that_the_hub_collected_is_no_sign(tmp_path: Path) -> None:
    """This machine was away for hours; what it agreed on is garbage by now, and what was removed meanwhile is removed."""
    remote = TimedRemote()
    remote.clock -= 2 * 3600 * 10**9
    one, two = Machine(tmp_path, "one", remote), Machine(tmp_path, "two", remote)
    for name in ("kept", "gone"):
        one.write(name, "x")
    await settle(one, two)
    old = remote.at
    remote.clock += 3600 * 10**9
    two.remove("gone")
    await settle(two)
    del remote.store[old]
    assert not (await one.round()).went_back
    assert one.tree() == {"kept": "x"}


HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize("hub_ahead_is_known", [False, True])
async def test_a_clock_that_is_hours_behind_makes_no_sign(tmp_path: Path, hub_ahead_is_known: bool) -> None:
    """As before, on a machine whose clock shows a time before what was agreed on."""
    remote = TimedRemote()
    one, two = Machine(tmp_path, "one", remote), Machine(tmp_path, "two", remote)

    async def round_behind() -> Round:
        return await one.round(
            now_ns=lambda: remote.clock - 3 * HOUR_NS, hub_ahead_ns=lambda: 3 * HOUR_NS if hub_ahead_is_known else 0
        )

    for name in ("kept", "gone"):
        one.write(name, "x")
    for _ in range(3):
        await round_behind()
    await settle(two)
    old = remote.at
    remote.clock += 2 * HOUR_NS
    two.remove("gone")
    await settle(two)
    del remote.store[old]
    assert not (await round_behind()).went_back
    await round_behind()
    assert one.tree() == {"kept": "x"}


def test_when_the_hub_must_still_have_what_was_agreed_on() -> None:
    """A wrong guess here would take garbage collection for a restored Hub, and undo removals."""
    old, new = (build_file(data).link.cid for data in (b"old", b"new"))
    hub_ns, seen = 100 * HOUR_NS, Look(new, 101 * HOUR_NS)
    minute_ns = 60 * 10**9
    for behind_ns in (0, 3 * HOUR_NS, -3 * HOUR_NS):
        agreed = Agreed()
        agreed.agree(Look(old, hub_ns), old, hub_ns + minute_ns - behind_ns)
        for later_min, may in ((5, True), (40, True), (50, False), (180, False)):
            there_ns = hub_ns + later_min * minute_ns
            assert agreed.may_ask(seen, there_ns - behind_ns, there_ns) is may
            # Who does not know the Hub's clock and has another one asks nothing.
            unknown = agreed.may_ask(seen, there_ns - behind_ns, there_ns - behind_ns)
            assert unknown is (may and not behind_ns)
        # Our own clock was set back since.
        assert not agreed.may_ask(seen, hub_ns - behind_ns, hub_ns + minute_ns)
    # It was old already when we came to it.
    agreed = Agreed()
    agreed.agree(Look(old, hub_ns), old, hub_ns + 2 * HOUR_NS)
    assert not agreed.may_ask(seen, hub_ns + 2 * HOUR_NS + minute_ns, hub_ns + 2 * HOUR_NS + minute_ns)


@pytest.mark.parametrize("another_was_quicker", [False, True])
async def test_a_hub_that_went_back_is_given_what_it_lost(tmp_path: Path, another_was_quicker: bool) -> None:
    """Else a Hub restored from a copy would delete here all that is newer than the copy."""
    remote = TimedRemote()
    one = Machine(tmp_path, "one", remote)
    one.write("old", "old")
    one.write("gone", "removed after the copy")
    await settle(one)
    copy = remote.copy()
    odd = build_file(os.urandom(300_000), chunk=100_000)
    remote.store.update(odd.blocks)
    edited = drive(edit_directory(remote.at, {b"odd": odd.link}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid
    await settle(one)
    one.write("new/file", os.urandom(600_000))
    one.write("old", "changed")
    one.remove("gone")
    await settle(one)
    here = one.tree()
    remote.put_back(copy)
    if another_was_quicker:
        put(remote, "other", b"by another client")
    assert (await one.round()).went_back
    await settle(one)
    tree = one.tree()
    if another_was_quicker:
        # Who has made what is not known then: all of both stays.
        assert tree.pop("other") == "by another client"
        assert tree.pop("gone") == "removed after the copy"
        assert sorted([tree.pop("old"), tree.pop("old (conflict one 1)")], key=str) == ["changed", "old"]
        here.pop("old")
    assert tree == here
    assert set(hub_names(remote)) == set(one.tree())
