"""What a round has half made when it is killed, at any call to disk, state or Hub, is never taken for the user's change.

A machine on which no user does anything receives every kind of change, and is killed. Whatever its next round sends is a fault.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio
from support.dying import Killed
from support.machine import Machine, once, settle
from support.memory_remote import MemoryRemote
from support.unixfs import build_file

from bucketfs.dag import drive, edit_directory, edit_tree, node_info, resolve, symlink
from bucketfs.errors import Unavailable
from bucketfs.transfer import Preserve, PullOptions, pull_folder
from bucketfs.types import Cid, NodeAttributes

LARGE = 600_000
Picture = dict[str, tuple[object, ...]]


@dataclass(frozen=True)
class Trees:
    """The blocks of two roots of a bucket."""

    store: dict[Cid, bytes]
    before: Cid
    after: Cid


def picture(top: Path) -> Picture:
    """All there is, with modes and times, also of folders."""
    found: Picture = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content: object = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        mode = 0 if path.is_symlink() else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(top))] = (content, mode, status.st_mtime_ns)
    return found


def seal(top: Path) -> None:
    """Every folder gets a time of its own, long ago, and those that are called so become read-only."""
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        if path.is_dir() and not path.is_symlink():
            if path.name.startswith("read-only"):
                path.chmod(0o555)
            os.utime(path, ns=(10**18 + number, 10**18 + number))


def unseal(top: Path) -> None:
    """So that its owner, who may not be root, can change and remove everything."""
    for path in [top, *sorted(top.rglob("*"))]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)


def put(remote: MemoryRemote) -> None:
    """What other clients make: files without attributes, in other chunks, of other owners, a folder and a link without times."""
    data = bytes(range(256)) * 2000
    made = {
        b"plain": build_file(b"plain"),
        b"odd": build_file(data, chunk=100_000, cid_version=0, raw_leaves=False),
        b"large": build_file(data, NodeAttributes(mode=0o640)),
        b"owned": build_file(b"owned", NodeAttributes(mode=0o6750, mtime_ns=7, uid=1234, gid=5678)),
        b"link": symlink(b"nowhere", NodeAttributes()),
    }
    for built in made.values():
        remote.store.update(built.blocks)
    inside = {name: built.link for name, built in made.items()}
    wanted = NodeAttributes(mode=0o2750, mtime_ns=5, uid=1, gid=2)
    top = drive(edit_directory(None, inside, wanted), remote._get)
    bare = drive(edit_directory(None, inside), remote._get)
    for built in (top, bare):
        remote.store.update(built.blocks)
    edited = drive(edit_tree(remote.at, {(b"others",): top.link, (b"bare",): bare.link}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    remote = MemoryRemote()
    two = Machine(tmp_path_factory.mktemp("made"), "two", remote)
    for name in ("stays", "gone", "replaced", "to folder", "to link", "moves", "dir/in", "read-only filled/in"):
        two.write(name, f"old {name}")
    for name in (
        "to file/a",
        "to file/read-only b/c",
        "read-only gone/a",
        "read-only gone/read-only b/c",
        "read-only gone/d/e",
    ):
        two.write(name, f"old {name}")
    two.write("large", b"L" * LARGE)
    os.symlink("stays", two.top / "link")
    seal(two.top)
    trio.run(settle, two)
    before = remote.at
    for path in ("read-only filled", "to file/read-only b", "read-only gone", "read-only gone/read-only b"):
        (two.top / path).chmod(0o755)
    two.remove("gone")
    two.write("replaced", "new")
    two.remove("to folder")
    two.write("to folder/in", "new")
    two.remove("to link")
    os.symlink("dir", two.top / "to link")
    two.remove("link")
    os.symlink("elsewhere", two.top / "link")
    two.remove("to file")
    two.write("to file", "new")
    two.remove("read-only gone")
    (two.top / "moves").rename(two.top / "dir/moved")
    (two.top / "stays").chmod(0o600)
    (two.top / "large").chmod(0o640)
    os.utime(two.top / "large", ns=(10**17, 10**17))
    (two.top / "dir").chmod(0o711)
    two.write("read-only filled/more", "new")
    two.write("read-only filled/below/read-only deep/file", "new")
    two.write("new/read-only/deep/file", "new")
    two.write("new/large", b"N" * LARGE)
    (two.top / "new").chmod(0o750)
    seal(two.top)
    trio.run(settle, two)
    put(remote)
    return Trees(remote.store, before, remote.at)


def received(trees: Trees, where: Path) -> Machine:
    """A machine that has the first tree, when the Hub has the second."""
    remote = MemoryRemote(dict(trees.store))
    remote.at = trees.before
    one = Machine(where, "one", remote)
    trio.run(one.round)
    remote.at = trees.after
    return one


def killed(trees: Trees, where: Path, dies_after: int) -> Machine:
    one = received(trees, where)
    with pytest.raises(Killed):
        trio.run(one.round, dies_after)
    return one


def acts(trees: Trees, where: Path) -> tuple[int, Picture]:
    """How many acts there are, and what is there in the end."""
    one = received(trees, where)
    trio.run(one.round)
    assert one.remote.at == trees.after
    return one.acts, picture(one.top)


def without_given_times(found: Picture) -> Picture:
    """What came without a time has that of its round."""
    others = ("bare/", "others/")
    return {
        path: told[:2] if path.startswith(others) or path in ("bare", "others") else told for path, told in found.items()
    }


def each_kill(trees: Trees, folder: Path, every: int) -> Iterator[tuple[int, Picture, Machine]]:
    count, wanted = acts(trees, folder / "whole")
    assert count > 150
    for dies_after in range(0, count, every):
        where = folder / str(dies_after)
        yield dies_after, wanted, killed(trees, where, dies_after)
        unseal(where)
        shutil.rmtree(where)


def check_nothing_is_sent(trees: Trees, folder: Path, every: int) -> None:
    for dies_after, wanted, one in each_kill(trees, folder, every):
        trio.run(one.round)
        assert one.remote.swaps == 0, f"killed after {dies_after}: what was half made was sent"
        assert without_given_times(picture(one.top)) == without_given_times(wanted), dies_after
        assert not trio.run(one.round).did_something


def check_nothing_is_sent_of_what_was_undone(trees: Trees, folder: Path, every: int) -> None:
    """The Hub has the first tree again by the time the killed machine comes back."""
    base = received(trees, folder / "base")
    before = picture(base.top)
    for dies_after, _, one in each_kill(trees, folder, every):
        one.remote.at = trees.before
        trio.run(one.round)
        assert one.remote.swaps == 0, f"killed after {dies_after}: what was half made was sent"
        assert picture(one.top) == before, dies_after


@pytest.mark.parametrize("check", [check_nothing_is_sent, check_nothing_is_sent_of_what_was_undone])
def test_killed_at_some_calls_nothing_half_made_is_sent(
    trees: Trees, tmp_path: Path, check: Callable[[Trees, Path, int], None]
) -> None:
    """A kill must not send half-made folders and modes to everyone (a cut of the whole test)."""
    check(trees, tmp_path, 79)


@pytest.mark.whole
@pytest.mark.timeout(600)
@pytest.mark.parametrize("check", [check_nothing_is_sent, check_nothing_is_sent_of_what_was_undone])
def test_killed_at_any_call_nothing_half_made_is_sent(
    trees: Trees, tmp_path: Path, check: Callable[[Trees, Path, int], None]
) -> None:
    """The same, at every call."""
    check(trees, tmp_path, 1)


def at_hub(one: Machine, path: str) -> NodeAttributes:
    names = tuple(name.encode() for name in path.split("/"))
    link = drive(resolve(one.remote.at, names), one.remote._get)
    assert link is not None, path
    return node_info(link.cid, one.remote.store[link.cid]).attributes


def test_what_the_user_changes_in_half_made_folders_is_sent(trees: Trees, tmp_path: Path) -> None:
    """A mode given to a folder that is being filled, and a file put into it."""
    count, _ = acts(trees, tmp_path / "whole")
    half_made = iter(killed(trees, tmp_path / str(number), number) for number in range(count // 3, count, 20))
    one = next(one for one in half_made if os.path.exists(one.top / "new/read-only/deep/file"))
    assert stat.S_IMODE((one.top / "new").stat().st_mode) == 0o700
    (one.top / "new").chmod(0o705)
    (one.top / "new/read-only").chmod(0o755)
    one.write("new/read-only/mine", "x")
    trio.run(settle, one)
    wanted = {"new": 0o705, "new/read-only": None, "new/read-only/deep": None, "dir": 0o711}
    assert {path: at_hub(one, path).mode for path in wanted} == wanted
    assert at_hub(one, "new/read-only/mine").mtime_ns == (one.top / "new/read-only/mine").stat().st_mtime_ns
    assert stat.S_IMODE((one.top / "new").stat().st_mode) == 0o705


def test_what_stays_of_a_folder_that_is_removed_stays_as_it_was(trees: Trees, tmp_path: Path) -> None:
    """A file changed in a folder while it is removed is kept, and so is the folder's mode."""
    one = received(trees, tmp_path)
    one.before_call = once(
        lambda: one.write("read-only gone/d/e", "changed meanwhile"),
        lambda name, path: name == "unlink" and isinstance(path, bytes) and path.endswith(b"read-only gone/a"),
    )
    trio.run(one.round)
    trio.run(settle, one)
    assert one.read("read-only gone/d/e") == "changed meanwhile"
    assert not (one.top / "read-only gone/read-only b").exists()
    assert stat.S_IMODE((one.top / "read-only gone").stat().st_mode) == 0o555
    assert at_hub(one, "read-only gone").mode == 0o555


def test_a_hub_that_goes_away_meanwhile_leaves_no_folder_open(trees: Trees, tmp_path: Path) -> None:
    """Else a read-only folder of the user would stay writable."""
    _, wanted = acts(trees, tmp_path / "whole")
    before = picture(received(trees, tmp_path / "before").top)
    failed = 0
    for after in range(1, 100, 4):
        one = received(trees, tmp_path / str(after))
        remote = FailingRemote(dict(trees.store), after=after)
        remote.at = trees.after
        one.remote = remote
        try:
            trio.run(one.round)
        except Unavailable:
            failed += any(path.startswith("new") for path in picture(one.top))
        else:
            break
        for path, (content, mode, _) in picture(one.top).items():
            if content is None:
                assert mode in {told[path][1] for told in (before, wanted) if path in told}, (after, path)
    assert failed


class FailingRemote(MemoryRemote):
    """A Hub that goes away after so many questions for blocks."""

    def __init__(self, store: dict[Cid, bytes], after: int) -> None:
        super().__init__(store)
        self.left = after

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        self.left -= 1
        self.away = self.left < 0
        return await super().blocks(cids)


def test_owners_and_special_modes_are_given_only_when_asked_for(trees: Trees, tmp_path: Path) -> None:
    """Else a bucket could place set-user-id programs on this machine."""
    one = received(trees, tmp_path / "plain")
    trio.run(settle, one)
    me = (os.geteuid(), os.getegid())
    for path in ("others", "others/owned"):
        status = (one.top / path).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (*me, 0o750), path
    # A change beside it says nothing of what was not given here.
    one.write("others/mine", "x")
    trio.run(settle, one)
    assert one.remote.swaps == 1
    assert (at_hub(one, "others").mode, at_hub(one, "others").uid) == (0o2750, 1)
    assert (at_hub(one, "others/owned").mode, at_hub(one, "others/owned").uid) == (0o6750, 1234)
    # As write(2) does: new content has lost the special bits.
    one.write("others/owned", "another")
    trio.run(settle, one)
    assert at_hub(one, "others/owned").mode == 0o750


def test_owners_and_special_modes_are_given(trees: Trees, tmp_path: Path) -> None:
    """With the options, a backup comes back with its owners and modes."""
    one = received(trees, tmp_path / "all")
    one.preserve = Preserve(owner=True, special_modes=True)
    trio.run(settle, one)
    pulled = tmp_path / "pulled"
    trio.run(partial(pull_folder, one.remote, pulled, options=PullOptions(preserve=one.preserve)))
    for top in (one.top, pulled):
        found = {path: (top / path).stat() for path in ("others", "others/owned")}
        assert [stat.S_IMODE(status.st_mode) for status in found.values()] == [0o2750, 0o6750]
        if os.geteuid() == 0:
            assert [(status.st_uid, status.st_gid) for status in found.values()] == [(1, 2), (1234, 5678)]


def test_a_folder_here_keeps_its_own_set_group_id(trees: Trees, tmp_path: Path) -> None:
    """Else new files in a shared folder would lose its group."""
    one = received(trees, tmp_path)
    (one.top / "dir").chmod(0o2755)
    trio.run(settle, one)
    pulled = tmp_path / "pulled"
    (pulled / "dir").mkdir(parents=True)
    (pulled / "dir").chmod(0o2777)
    trio.run(pull_folder, one.remote, pulled)
    mode = at_hub(one, "dir").mode
    assert mode is not None
    for top in (one.top, pulled):
        assert stat.S_IMODE((top / "dir").stat().st_mode) == mode | 0o2000
