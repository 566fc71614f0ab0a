"""A machine with a folder that is mirrored with a bucket in memory, and plain verbs for what its user does."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from support.dying import Life, MortalRemote, MortalState, WatchedCalls
from support.memory_remote import MemoryRemote
from support.unixfs import build_file

from bucketfs.dag import DAG_PB, TreePath, codec_of, drive, edit_tree, list_directory, node_info
from bucketfs.dag.files.read import read_file
from bucketfs.errors import NotADirectory
from bucketfs.mirror import Mirror, MirrorState, Round, WatchedFolder
from bucketfs.transfer import PLAIN, LocalFs, SystemCalls, listed_temporaries, real_path
from bucketfs.types import Cid, Kind, Link, NodeAttributes

_times = itertools.count(1_600_000_000_000_000_000, 1_000_000_007)


def later_ns() -> int:
    """A clock so far ahead that no file looks as if it were just being written: what is written gets a time of its own."""
    return time.time_ns() + 10**18


def nothing(*_arguments: object) -> None:
    """What is done where a test has no wish."""


class Machine:
    """``top`` is the folder. A test may have things happen in the middle of a round: ``before_call`` is told of each system call
    that changes the disk (its name, and the path or descriptor), ``after_commit`` of each transaction of the state, the first of
    which is the scan's. ``make_fs`` makes the local file system from the calls."""

    def __init__(self, where: Path, name: str, remote: MemoryRemote) -> None:
        self.name = name
        self.remote = remote
        self.top = where / name
        self.top.mkdir(parents=True)
        self.state_file = where / f"{name}.db"
        self.rounds: list[Round] = []
        self.acts = 0
        self.aside_place = where / "aside"
        self.aside_place.mkdir(exist_ok=True)
        self.preserve = PLAIN
        self.before_call: Callable[[str, bytes | int], None] = nothing
        self.after_commit: Callable[[], None] = nothing
        self.make_fs: Callable[[SystemCalls], LocalFs] = LocalFs

    def conflict_name(self, name: bytes, taken: Callable[[bytes], bool]) -> bytes:
        for count in itertools.count(1):
            candidate = name + f" (conflict {self.name} {count})".encode()
            if not taken(candidate):
                return candidate
        raise AssertionError

    def watched(self, state: MirrorState, now_ns: Callable[[], int] = later_ns) -> WatchedFolder:
        """The folder as a mirror has it."""
        return WatchedFolder(real_path(self.top), state, now_ns=now_ns)

    async def round(
        self,
        dies_after: int | None = None,
        now_ns: Callable[[], int] = later_ns,
        hub_ahead_ns: Callable[[], int] = lambda: 0,
    ) -> Round:
        """A round of a mirror that was just started: nothing is in memory but what the state says. With ``dies_after`` it is
        killed after so many acts, if it comes so far: Killed is raised then."""
        life = Life(dies_after)
        state = MortalState(self.state_file, life, lambda: self.after_commit())

        def before(name: str, path: bytes | int) -> None:
            life.step()
            self.before_call(name, path)

        try:
            with listed_temporaries(self.aside_place, self.top) as temporaries:
                remote = MortalRemote(self.remote, life)
                folder = replace(
                    self.watched(state, now_ns),
                    temporaries=temporaries,
                    preserve=self.preserve,
                    fs=self.make_fs(WatchedCalls(before)),
                )
                done = await Mirror(remote, folder, self.conflict_name, hub_ahead_ns=hub_ahead_ns).round()
        finally:
            state.close()
            self.acts = life.acts
        self.rounds.append(done)
        return done

    # Verbs

    def write(self, path: str, text: str | bytes) -> None:
        where = self.top / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(text if isinstance(text, bytes) else text.encode())
        now = next(_times)
        os.utime(where, ns=(now, now))

    def read(self, path: str) -> str:
        return (self.top / path).read_text()

    def remove(self, path: str) -> None:
        where = self.top / path
        if where.is_dir() and not where.is_symlink():
            shutil.rmtree(where)
        else:
            where.unlink()

    def tree(self, modes: bool = False) -> dict[str, object]:
        """What is in the folder: contents, targets, ``None`` for folders; with modes and mtimes of files if asked."""
        found: dict[str, object] = {}
        for path in sorted(self.top.rglob("*")):
            status = path.lstat()
            value: object = None
            if path.is_symlink():
                value = "-> " + os.readlink(path)
            elif path.is_file():
                value = path.read_bytes().decode(errors="replace")
            told = (value, stat.S_IMODE(status.st_mode), status.st_mtime_ns if value is not None else 0)
            found[str(path.relative_to(self.top))] = told if modes else value
        return found


def once(act: Callable[[], None], when: Callable[[str, bytes | int], bool]) -> Callable[[str, bytes | int], None]:
    """For `Machine.before_call`: ``act`` happens before the first call that is such."""
    waiting = [act]

    def before(name: str, path: bytes | int) -> None:
        if waiting and when(name, path):
            waiting.pop()()

    return before


def no_colons(name: str, path: bytes | int) -> None:
    """For `Machine.before_call`: a disk that holds no name with a colon."""
    if name == "replace" and isinstance(path, bytes) and b":" in os.path.basename(path):
        raise OSError(errno.EIO, "Invalid argument")


async def settle(*machines: Machine) -> None:
    """Rounds of each in turn until none has anything to do."""
    for _ in range(6):
        done = [await machine.round() for machine in machines]
        if not any(each.did_something for each in done):
            return
    raise AssertionError(f"they do not come to rest: {[machine.rounds[-1] for machine in machines]}")


def hub_tree(remote: MemoryRemote) -> dict[str, str]:
    """The files at the Hub, by path."""
    found: dict[str, str] = {}
    waiting: list[tuple[str, Cid]] = [("", remote.at)]
    while waiting:
        path, cid = waiting.pop()
        try:
            entries = drive(list_directory(cid), remote._get).entries
        except NotADirectory:
            found[path] = drive(read_file(cid), remote._get).decode()
            continue
        waiting += [(f"{path}/{name.decode()}".strip("/"), link.cid) for name, link in entries.items() if name[:1] != b"."]
    return found


def hub_names(remote: MemoryRemote) -> list[str]:
    """All paths at the Hub but the seed's."""
    found: list[str] = []
    waiting: list[tuple[TreePath, Link]] = [((), Link(remote.at, 0))]
    while waiting:
        path, link = waiting.pop()
        if path == (b".textileseed",):
            continue
        if path:
            found.append(b"/".join(path).decode())
        if codec_of(link.cid) == DAG_PB and node_info(link.cid, remote.store[link.cid]).kind is Kind.DIRECTORY:
            entries = drive(list_directory(link.cid), remote._get).entries
            waiting += [((*path, name), below) for name, below in entries.items()]
    return found


def put(remote: MemoryRemote, path: str, data: bytes, attributes: NodeAttributes | None = None) -> None:
    """Another client's write."""
    built = build_file(data, attributes or NodeAttributes())
    remote.store.update(built.blocks)
    names = tuple(name.encode() for name in path.split("/"))
    edited = drive(edit_tree(remote.at, {names: built.link}), remote._get)
    remote.store.update(edited.blocks)
    remote.at = edited.link.cid
