"""Trees of files to put into a mount, and the questions asked of them afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

CUT = ("asyncio", "collections", "email", "encodings", "importlib", "json", "lib2to3", "unittest", "wsgiref", "xml")
"""The packages of the standard library that stand for the whole in the quick run: some 500 files of all sizes."""


def standard_library(target: Path, *, whole: bool) -> int:
    """Copy the standard library's folder (or a cut of it) as it is, ``cp -a``; returns the number of files.

    A copy, because a Python that runs meanwhile may write ``__pycache__`` into the original.
    """
    target.mkdir()
    names = sorted(os.listdir(STANDARD_LIBRARY)) if whole else CUT
    for name in names:
        source = STANDARD_LIBRARY / name
        if name == "site-packages":
            continue  # not part of the library; may be as large as a machine
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target / name, symlinks=True)
        else:
            shutil.copy2(source, target / name, follow_symlinks=False)
    shutil.copystat(STANDARD_LIBRARY, target)
    return sum(len(files) for _, _, files in os.walk(target))


def oddities(folder: Path) -> None:
    """What a library of Python files lacks: links, odd modes and times, empty things, strange names, a chunk's edges."""
    folder.mkdir()
    (folder / "empty").touch()
    (folder / "an empty directory").mkdir()
    (folder / "chunk-1").write_bytes(bytes(262143))
    (folder / "chunk").write_bytes(random.Random(1).randbytes(262144))
    (folder / "chunk+1").write_bytes(random.Random(2).randbytes(262145))
    (folder / "two chunks and a bit").write_bytes(random.Random(3).randbytes(600_001))
    (folder / "Grüße, 世界 🗂").write_text("names are text\n")
    (folder / ("n" * 255)).write_text("as long as a name can be\n")
    (folder / "trailing dot.").write_text("x")
    (folder / " spaces ").write_text("x")
    (folder / "back\\slash").write_text("x")
    (folder / "new\nline").write_text("x")
    (folder / "-rf").write_text("x")
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    (folder / "read only").write_text("x")
    (folder / "read only").chmod(0o444)
    (folder / "sticky").mkdir()
    (folder / "sticky").chmod(0o1770)
    (folder / "link").symlink_to("script")
    (folder / "dangling").symlink_to("nowhere/to be found")
    (folder / "absolute").symlink_to("/etc/hostname")
    (folder / "long link").symlink_to("d/" * 1000 + "f")
    (folder / "up").symlink_to("..")
    deep = folder
    for depth in range(40):
        deep = deep / f"level {depth}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("deep\n")
    os.utime(folder / "chunk", ns=(0, 1_234_567_890_123_456_789))
    os.utime(folder / "chunk+1", ns=(0, 1))
    os.utime(folder / "empty", ns=(0, 0))
    os.utime(folder / "secret", ns=(0, -86_400_000_000_001))
    os.utime(folder / "sticky", ns=(0, 4_000_000_000_999_999_999))
    os.utime(folder / "link", ns=(0, 1_000_000_000_000_000_007), follow_symlinks=False)


def age(folder: Path) -> None:
    """Give everything below (and ``folder``) that was made just now a time of its own in the past, with nanoseconds.

    rsync compares whole seconds: it leaves the time of a directory alone that was made in the same second as its twin.
    """
    recent_ns = time.time_ns() - 86_400 * 10**9
    for number, path in enumerate([folder, *sorted(folder.rglob("*"))]):
        if recent_ns < path.lstat().st_mtime_ns < recent_ns + 2 * 86_400 * 10**9:
            past_ns = 1_700_000_000_000_000_000 + number * 1_000_000_007
            os.utime(path, ns=(past_ns, past_ns), follow_symlinks=False)


@dataclass(frozen=True)
class Seen:
    """What there is to see of one path."""

    mode: int
    size_bytes: int
    mtime_ns: int
    content: str
    """Digest of a file's bytes, a link's target, the number of a directory's entries."""


def look(folder: Path) -> dict[str, Seen]:
    """Everything below ``folder``, itself included as ``.``."""
    seen = {}
    for parent, directories, files in os.walk(folder):
        for name in [*directories, *files, "."]:
            path = Path(parent) if name == "." else Path(parent, name)
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            elif stat.S_ISDIR(found.st_mode):
                content = str(len(os.listdir(path)))
            else:
                content = digest(path)
            size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
            seen[str(path.relative_to(folder))] = Seen(found.st_mode, size, found.st_mtime_ns, content)
    return seen


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_random(path: Path, size_bytes: int, seed: int) -> None:
    """A file of bytes that nothing compresses or repeats, from a seed, a MiB at a time."""
    generator = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size_bytes, 1 << 20):
            file.write(generator.randbytes(min(1 << 20, size_bytes - start)))
