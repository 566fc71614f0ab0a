"""Mirrors that are killed at every act, and random histories of two of them: they end equal, and no content is lost."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from support.dying import Killed
from support.machine import Machine, settle
from support.memory_remote import MemoryRemote


def story(where: Path) -> tuple[Machine, Machine]:
    """Two folders that agreed, and then changed apart in every way there is."""
    remote = MemoryRemote()
    one, two = Machine(where, "one", remote), Machine(where, "two", remote)
    for name in ("stays", "of one", "of two", "both", "gone", "kept", "moves", "dir/in", "to folder"):
        one.write(name, f"old {name}")
    os.symlink("stays", one.top / "link")
    trio.run(settle, one, two)
    two.write("of two", "new of two")
    two.write("both", "two's")
    two.write("kept", "changed")
    two.write("new/deep/file", "x")
    two.write("new/large", b"L" * 600_000)
    two.remove("gone")
    two.remove("dir")
    two.remove("to folder")
    two.write("to folder/in", "y")
    (two.top / "stays").chmod(0o600)
    two.remove("link")
    os.symlink("elsewhere", two.top / "link")
    trio.run(two.round)
    one.write("of one", "new of one")
    one.write("both", "one's")
    one.remove("kept")
    (one.top / "moves").rename(one.top / "moved")
    one.write("own/file", "z")
    return one, two


WANTED = {
    "stays": "old stays",
    "of one": "new of one",
    "of two": "new of two",
    "both": "two's",
    "both (conflict one 1)": "one's",
    "kept": "changed",
    "moved": "old moves",
    "new": None,
    "new/deep": None,
    "new/deep/file": "x",
    "new/large": "L" * 600_000,
    "own": None,
    "own/file": "z",
    "to folder": None,
    "to folder/in": "y",
    "link": "-> elsewhere",
}


def check_kills(folder: Path, every: int) -> None:
    one, two = story(folder / "whole")
    trio.run(one.round)
    acts = one.acts
    assert acts > 60
    trio.run(settle, one, two)
    assert one.tree() == two.tree() == WANTED
    for dies_after in range(0, acts, every):
        where = folder / str(dies_after)
        one, two = story(where)
        with pytest.raises(Killed):
            trio.run(one.round, dies_after)
        trio.run(settle, one, two)
        assert one.tree() == two.tree() == WANTED, dies_after
        assert one.tree(modes=True) == two.tree(modes=True), dies_after
        shutil.rmtree(where)


@pytest.mark.whole
def test_a_kill_at_any_act_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """A kill must cost no file and make no copy, at every act."""
    check_kills(tmp_path, 1)


def test_a_kill_at_some_acts_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """The same at some acts (a cut of the whole test)."""
    check_kills(tmp_path, 29)


NAMES = ("a", "b", "d/a", "d/b", "d/e/a")
paths = st.sampled_from(NAMES)
places = st.sampled_from([*NAMES, "d", "d/e", "f"])
who = st.integers(0, 1)
acts = st.lists(
    st.one_of(
        st.tuples(st.just("write"), who, paths),
        st.tuples(st.just("remove"), who, places),
        st.tuples(st.just("rename"), who, places, places),
        st.tuples(st.just("chmod"), who, places, st.sampled_from([0o600, 0o700, 0o755])),
        st.tuples(st.just("symlink"), who, paths),
        st.tuples(st.just("round"), who, st.one_of(st.none(), st.integers(0, 80))),
        st.tuples(st.just("round"), who, st.none()),
    ),
    max_size=24,
)


class History:
    """What the users of two machines do, and which contents none of them destroyed."""

    def __init__(self, where: Path) -> None:
        remote = MemoryRemote()
        self.machines = [Machine(where, name, remote) for name in ("one", "two")]
        self.written = 0
        self.alive: set[str] = set()

    def contents(self, machine: Machine, path: str) -> set[str]:
        """Contents at a path and below it."""
        where = machine.top / path
        if where.is_symlink() or not where.exists():
            return set()
        files = [where] if where.is_file() else [found for found in where.rglob("*") if found.is_file()]
        return {file.read_text() for file in files if not file.is_symlink()}

    def act(self, kind: str, machine: Machine, *rest: object) -> None:
        if kind == "round":
            dies_after = None if rest[0] is None else int(str(rest[0]))
            with suppress(Killed):
                trio.run(machine.round, dies_after)
            return
        path = str(rest[0])
        where = machine.top / path
        if kind in ("write", "symlink"):
            above = [machine.top / "/".join(path.split("/")[:count]) for count in range(1, path.count("/") + 1)]
            if where.is_dir() or any(folder.is_symlink() or folder.is_file() for folder in above):
                return
            self.alive -= self.contents(machine, path)
            if where.is_symlink():
                where.unlink()
            self.written += 1
            if kind == "write":
                machine.write(path, f"content {self.written}")
                self.alive.add(f"content {self.written}")
            else:
                where.parent.mkdir(parents=True, exist_ok=True)
                where.unlink(missing_ok=True)
                os.symlink(f"target {self.written}", where)
        elif not os.path.lexists(where):
            return
        elif kind == "remove":
            self.alive -= self.contents(machine, path)
            machine.remove(path)
        elif kind == "chmod":
            if not where.is_symlink():
                where.chmod(int(str(rest[1])) | (0o700 if where.is_dir() else 0))
        elif kind == "rename":
            self.rename(machine, where, machine.top / str(rest[1]), str(rest[1]))

    def rename(self, machine: Machine, old: Path, new: Path, new_name: str) -> None:
        if new == old or old in new.parents or not new.parent.is_dir() or (new.is_dir() and not new.is_symlink()):
            return
        if old.is_dir() and not old.is_symlink() and os.path.lexists(new):
            return
        if any(parent.is_symlink() for parent in (old.parent, new.parent)):
            return
        self.alive -= self.contents(machine, new_name)
        old.rename(new)


def check_history(history: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        told = History(Path(folder))
        for kind, number, *rest in history:
            told.act(str(kind), told.machines[int(str(number))], *rest)
        one, two = told.machines
        trio.run(settle, one, two)
        assert one.tree(modes=True) == two.tree(modes=True)
        assert told.alive <= {value for value in one.tree().values() if isinstance(value, str)}


@settings(max_examples=15)
@given(acts)
def test_two_mirrors_end_equal_and_lose_nothing(history: list[tuple[object, ...]]) -> None:
    """Whatever two users do and wherever they are killed, both end with the same files."""
    check_history(history)


@pytest.mark.whole
@pytest.mark.timeout(600)
@settings(max_examples=1000)
@given(acts)
def test_two_mirrors_end_equal_and_lose_nothing_for_long(history: list[tuple[object, ...]]) -> None:
    """The same with many more histories."""
    check_history(history)
