"""A machine with a folder that is mirrored with a bucket in memory, and plain verbs for what its user does."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from dying import Life, MortalRemote, living
from world import MemoryRemote

from bucketfs.mirror import Mirror, MirrorState, Round
from bucketfs.transfer import listed_asides
from bucketfs.transfer.local_fs import PLAIN

_times = itertools.count(1_600_000_000_000_000_000, 1_000_000_007)


def later_ns() -> int:
    """A clock so far ahead that no file looks as if it were just being written: what is written gets a time of its own."""
    return time.time_ns() + 10**18


class Machine:
    """``top`` is the folder."""

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
        self.rights = PLAIN

    def conflict_name(self, name: bytes, taken: Callable[[bytes], bool]) -> bytes:
        for count in itertools.count(1):
            candidate = name + f" (conflict {self.name} {count})".encode()
            if not taken(candidate):
                return candidate
        raise AssertionError

    async def round(
        self,
        dies_after: int | None = None,
        now_ns: Callable[[], int] = later_ns,
        hub_ahead_ns: Callable[[], int] = lambda: 0,
    ) -> Round:
        """A round of a mirror that was just started: nothing is in memory but what the state says. With ``dies_after`` it is
        killed after so many acts, if it comes so far: Killed is raised then."""
        life = Life(dies_after)
        state = MirrorState(self.state_file)
        try:
            with listed_asides(self.aside_place, self.top) as asides, living(life):
                remote = MortalRemote(self.remote, life)
                done = await Mirror(
                    remote,
                    self.top,
                    state,
                    self.conflict_name,
                    asides=asides,
                    rights=self.rights,
                    now_ns=now_ns,
                    hub_ahead_ns=hub_ahead_ns,
                ).round()
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


async def settle(*machines: Machine) -> None:
    """Rounds of each in turn until none has anything to do."""
    for _ in range(6):
        done = [await machine.round() for machine in machines]
        if not any(each.did_something for each in done):
            return
    raise AssertionError(f"they do not come to rest: {[machine.rounds[-1] for machine in machines]}")
