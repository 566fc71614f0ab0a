"""Finds and clears what a test run may leave behind: mounts, processes, folders.

Every run has an identifier: pid and start time of the process that began it, so that a stale run is told from a living one
even when pids come around again. Each folder, and so each mount, is named after it, and each process a test starts carries
the folder in its environment (``MOUNTTEST_HOME``). Nothing else is ever touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUN_VARIABLE = "MOUNTTEST_RUN"
HOME_VARIABLE = "MOUNTTEST_HOME"
PREFIX = "bfs-"
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot (proc(5), stat field 22). Raises OSError when it is gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def run_name() -> str:
    """The identifier of this run; the first process that asks begins one, its children inherit it."""
    return os.environ.setdefault(RUN_VARIABLE, f"{os.getpid()}-{_started(os.getpid())}")


def _alive(run: str) -> bool:
    pid, _, started = run.partition("-")
    try:
        return _started(int(pid)) == started
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class MountEntry:
    """One line of /proc/self/mountinfo."""

    where: Path
    kind: str


def mounts() -> list[MountEntry]:
    """All mounts, in the order they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]:
        before, _, after = line.partition(b" - ")
        where = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), before.split(b" ")[4])
        found.append(MountEntry(Path(os.fsdecode(where)), after.split(b" ")[0].decode()))
    return found


def mounts_below(folder: Path) -> list[MountEntry]:
    return [mount for mount in mounts() if mount.where == folder or folder in mount.where.parents]


def unmount_lazily(where: Path) -> None:
    """Take a mount out of sight at once; it ends when its last user does. Raises OSError."""
    if os.geteuid() != 0:
        status = os.spawnlp(os.P_WAIT, "fusermount3", "fusermount3", "-u", "-z", "-q", str(where))
        if status:
            raise OSError(f"fusermount3 could not unmount {where}")
    elif _libc.umount2(os.fsencode(where), MNT_DETACH):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(where))


def processes(home: Path, *, exact: bool = True) -> list[int]:
    """The processes (never this one, never zombies) that carry this home; with ``exact`` false, one whose path so begins."""
    wanted = os.fsencode(f"{HOME_VARIABLE}={home}")
    found = []
    for entry in os.listdir("/proc"):
        # A process may end, or belong to somebody else, while we look.
        with contextlib.suppress(OSError):
            if entry.isdigit() and int(entry) != os.getpid():
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if any(one == wanted if exact else one.startswith(wanted) for one in variables):
                    found.append(int(entry))
    return found


def command_of(pid: int) -> str:
    """The command line of a process, or an empty text when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def wait_until_gone(pids: list[int], timeout_s: float) -> list[int]:
    """Wait for processes that are nobody's children here; returns those still there after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    waiting = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            waiting.append((pid, os.pidfd_open(pid)))
    left = []
    for pid, descriptor in waiting:
        if not _readable(descriptor, max(0.0, deadline - time.monotonic())):
            left.append(pid)
        os.close(descriptor)
    return left


def _readable(descriptor: int, timeout_s: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], timeout_s)[0])


def end(pids: list[int]) -> None:
    """SIGKILL, and wait."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(pids, 10)


def _stages() -> Iterator[tuple[str, Path]]:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        run = re.match(rf"{PREFIX}(\d+-\d+)-", folder.name)
        if run:
            yield run[1], folder


def sweep(run: str) -> list[str]:
    """End the processes of a run, unmount its mounts, remove its folders. Returns what had to be ended, in words."""
    said = []
    pids = processes(Path(tempfile.gettempdir()) / f"{PREFIX}{run}-", exact=False)
    said += [f"process {pid}: {command_of(pid)}" for pid in pids]
    folders = [folder for owner, folder in _stages() if owner == run]
    # First the processes: a hung mount answers ENOTCONN as soon as its server is gone, and nothing below can hang.
    end(pids)
    for folder in folders:
        for mount in reversed(mounts_below(folder)):
            said.append(f"mount {mount.where} ({mount.kind})")
            unmount_lazily(mount.where)
        shutil.rmtree(folder)
    return said


def sweep_stale() -> list[str]:
    """Sweep runs whose first process is gone."""
    stale = {run for run, _ in _stages() if not _alive(run)}
    return [said for run in sorted(stale) for said in sweep(run)]


def new_stage(worker: str) -> Path:
    """A fresh folder for one test process, open to all users (a mount is also tested as a plain one), its path short (a
    socket's path has at most 107 bytes)."""
    stage = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{run_name()}-{worker}-"))
    stage.chmod(0o755)
    return stage
