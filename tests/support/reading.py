"""A program that follows what another machine changes, and holds the mount to it: once it has shown the new state of a file,
nothing may show the old one again."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 0.001
LOOKS_AFTER = 5


class Stale(Exception):
    """The old state was shown after the new one."""


@dataclass(frozen=True)
class Reader:
    """Follows one folder. ``patience_s`` is how long a change may take to arrive."""

    folder: Path
    patience_s: float = 60.0

    def until(self, name: str, content: bytes | None) -> float:
        """Wait until ``name`` reads ``content`` (None: is gone); the moment, by ``time.perf_counter``. Raises Stale when a later
        read, stat or listing shows something else, TimeoutError when it does not come."""
        deadline = time.perf_counter() + self.patience_s
        while self._read(name) != content:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{name} is not there after {self.patience_s:.0f} s")
            time.sleep(LOOK_EVERY_S)
        seen = time.perf_counter()
        for _ in range(LOOKS_AFTER):
            self.check(name, content)
        return seen

    def check(self, name: str, content: bytes | None) -> None:
        """Look in every way there is. Raises Stale."""
        if self._read(name) != content:
            raise Stale(f"{name} reads as before")
        listed = {entry.name: entry.inode() for entry in os.scandir(self.folder)}
        if content is None:
            if name in listed or (self.folder / name).exists():
                raise Stale(f"{name} is there again")
            return
        facts = os.stat(self.folder / name)
        if facts.st_size != len(content):
            raise Stale(f"{name} has its old size")
        if listed.get(name) != facts.st_ino:
            raise Stale(f"a listing shows the old {name}")

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
