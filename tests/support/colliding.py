"""Writers that do collide: several mounts of one bucket, and in each a program that writes to the same few names.

A file is a sequence of records, each with a name of its own. A program opens a file, looks what it holds and, through the same
descriptor, adds a record or puts one in the place of all; so it knows exactly which records it has done away with, whatever
becomes of the name meanwhile. It logs that once the file is closed. What holds in the end, however often the mounts met:

- every file is a sequence of whole records: never a mix of two versions, never a part of one;
- a record that was acknowledged and that nobody did away with is in some file of its name, be it a conflict copy.

A name is removed without a look inside (there is no descriptor for that): all records that may have been in it by then count as
done away with. The writer runs as a process of its own (``python colliding.py FOLDER LOG SEED``) with the standard library only.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT = tuple(f"kept {number}.txt" for number in range(6))
FLEETING = tuple(f"fleeting {number}" for number in range(4))
SIZES = (0, 10, 3000, 70_000, 300_000)
BYTES_MAX = 1_000_000
COPY = re.compile(r" \(conflict [^)]*\)")
COPIES_MAX = 60
COPY_AGE_S = 30.0
HEAD = re.compile(rb"<([0-9a-z.]+) (\d+)>\n")


def body(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def record(name: str, size: int) -> bytes:
    """The bytes of a record: its name, how long it is, and bytes that only it has."""
    return b"<%s %d>\n" % (name.encode(), size) + body(name, size)


def records(data: bytes) -> list[str] | None:
    """The names of the records that ``data`` is made of; None when it is not made of whole records."""
    names, at = [], 0
    while at < len(data):
        head = HEAD.match(data, at)
        if head is None:
            return None
        name, size = head[1].decode(), int(head[2])
        if data[head.end() : head.end() + size] != body(name, size):
            return None
        names.append(name)
        at = head.end() + size
    return names


def original(name: str) -> str:
    """The name that a conflict copy is a copy of."""
    return COPY.sub("", name)


# The check


@dataclass
class Claims:
    """What several logs together say must be there."""

    complaints: list[str] = field(default_factory=list)
    acts: int = 0
    homes: dict[str, str] = field(default_factory=dict)
    """Acknowledged records, with the name of the file that each was written to."""
    written_ns: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    removals: list[tuple[str, int]] = field(default_factory=list)

    def add(self, log: Path) -> None:
        for line in log.read_bytes().splitlines():
            said = json.loads(line)
            self.acts += 1
            if "complaint" in said:
                self.complaints.append(said["complaint"])
            elif "removed" in said:
                self.removals.append((said["removed"], said["at_ns"]))
                self.gone.update(said["held"])
            else:
                self.homes[said["wrote"]] = said["name"]
                self.written_ns[said["wrote"]] = said["begun_ns"]
                self.gone.update(said["over"])

    def differences(self, files: dict[str, bytes]) -> list[str]:
        """Why ``files`` (the folder in the end) is not what the logs allow; nothing when it is."""
        said: list[str] = []
        found: set[tuple[str, str]] = set()
        for name, data in files.items():
            names = records(data)
            if names is None:
                said.append(f"{name!r} is not made of whole records")
                continue
            found.update((original(name), one) for one in names)
        for one, home in self.homes.items():
            if one in self.gone or (home, one) in found:
                continue
            # Whoever removed the name may have removed this without knowing it.
            if not any(name == home and at_ns >= self.written_ns[one] for name, at_ns in self.removals):
                said.append(f"record {one} of {home!r} is lost")
        return said


# The writer


class Collider:
    """Writes until SIGTERM."""

    def __init__(self, folder: Path, log: int, seed: int) -> None:
        self._folder = folder
        self._log = log
        self._seed = seed
        self._chance = random.Random(seed)
        self._count = 0
        self._stop = False
        signal.signal(signal.SIGTERM, self._asked_to_stop)

    def _asked_to_stop(self, *_: object) -> None:
        self._stop = True

    def say(self, said: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(said).encode() + b"\n")

    def run(self) -> None:
        while not self._stop:
            try:
                self._act()
            except OSError as error:
                self.say({"complaint": f"after {self._count} records: {error}"})
                return
            time.sleep(self._chance.expovariate(20))

    def _act(self) -> None:
        if self._chance.random() < 0.05:
            self._tidy()
        elif self._chance.random() < 0.1:
            self._remove(self._chance.choice(FLEETING), set())
        else:
            self._write(self._chance.choice(KEPT + FLEETING))

    def _write(self, name: str) -> None:
        chance, begun_ns = self._chance, time.monotonic_ns()
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            old = _all_of(descriptor)
            names = records(old)
            over: list[str] = []
            if names is None or len(old) > BYTES_MAX or chance.random() < 0.4:
                over = _names_in(old)
                os.ftruncate(descriptor, 0)
                old = b""
            self._count += 1
            one = f"{self._seed}.{self._count}"
            data, done = record(one, chance.choice(SIZES)), 0
            step = chance.choice((len(data), len(data) // 3 + 1))
            while done < len(data):
                done += os.pwrite(descriptor, data[done : done + step], len(old) + done)
            if chance.random() < 0.2:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.say({"wrote": one, "name": name, "over": over, "begun_ns": begun_ns})

    def _remove(self, name: str, held: Iterable[str]) -> None:
        try:
            os.unlink(self._folder / name)
        except FileNotFoundError:
            return
        self.say({"removed": name, "held": sorted(held), "at_ns": time.monotonic_ns()})

    def _tidy(self) -> None:
        """Remove conflict copies that nobody can be writing to any more, when there are many."""
        copies = [entry for entry in os.scandir(self._folder) if COPY.search(entry.name)]
        if len(copies) <= COPIES_MAX:
            return
        for entry in copies:
            try:
                if time.time() - entry.stat().st_mtime > COPY_AGE_S:
                    self._remove(entry.name, _names_in(Path(entry.path).read_bytes()))
            except FileNotFoundError:
                continue


def _all_of(descriptor: int) -> bytes:
    data = bytearray()
    while piece := os.pread(descriptor, 1 << 20, len(data)):
        data += piece
    return bytes(data)


def _names_in(data: bytes) -> list[str]:
    """The records that begin somewhere in ``data``, whole or not."""
    return [head[1].decode() for head in HEAD.finditer(data)]


def main() -> None:
    folder, log, seed = sys.argv[1:]
    Collider(Path(folder), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), int(seed)).run()


if __name__ == "__main__":
    main()
