"""A home of its own for the real ``bucketfs``: private XDG folders, the command line, and real mounts."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import leftovers

CHECKOUT = Path(__file__).resolve().parents[2]

TROUBLE = re.compile(
    r'\b(?:WARNING|ERROR|CRITICAL)\b|"level": ?"(?:warning|error|critical)"|^Traceback \(most recent', re.MULTILINE
)
"""What a log line says that no healthy run says."""

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class User:
    """Who acts. ``None`` as uid: whoever runs the tests."""

    uid: int | None = None
    gid: int | None = None

    def arguments(self) -> dict[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


MYSELF = User()


def plain_user() -> User:
    """A user without rights: who runs the tests, or (as root) the first uid from 1000 up, named or not."""
    if os.geteuid() != 0:
        return MYSELF
    taken = sorted(entry.pw_uid for entry in pwd.getpwall() if 1000 <= entry.pw_uid < 60000)
    return User(taken[0], taken[0]) if taken else User(1000, 1000)


def program() -> list[str]:
    """How to start bucketfs: the installed script, or the checkout when it is not installed."""
    script = Path(sys.executable).with_name("bucketfs")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from bucketfs.cli import main; sys.exit(main())"]


@dataclass(eq=False)
class Home:
    """One user's private folders. Everything bucketfs keeps for this user is below ``root``."""

    root: Path
    user: User = MYSELF
    extra: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    """A command to run programs under, as ``unshare --mount …``; it is started with the rights of whoever runs the tests."""

    def __post_init__(self) -> None:
        for name in ("config", "state", "data", "cache", "run"):
            (self.root / name).mkdir(parents=True, mode=0o700)
        if self.user.uid is not None:
            for folder in (self.root, *self.root.iterdir()):
                os.chown(folder, self.user.uid, self.user.gid if self.user.gid is not None else -1)

    # Where things are

    @property
    def config(self) -> Path:
        return self.root / "config/bucketfs"

    @property
    def state(self) -> Path:
        return self.root / "state/bucketfs"

    @property
    def data(self) -> Path:
        return self.root / "data/bucketfs"

    @property
    def cache(self) -> Path:
        return self.root / "cache/bucketfs"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BUCKETFS_", "XDG_", "PYTEST_"))}
        return kept | {
            "HOME": str(self.root),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_DATA_HOME": str(self.root / "data"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "PYTHONPATH": str(CHECKOUT),
            # A warning that Python itself has to give (a resource not closed, a coroutine not awaited) goes to stderr.
            "PYTHONWARNINGS": "default",
            "LC_ALL": "C.UTF-8",
            leftovers.HOME_VARIABLE: str(self.root),
            **self.extra,
        }

    # Acting

    def run(
        self, command: Sequence[str | Path], *, check: bool = True, timeout_s: float = 60, stdin: str | None = None
    ) -> Completed:
        """Run any program as this user with this environment. ``check``: a failure is an AssertionError with all it said."""
        done = subprocess.run(
            [*self.wrapper, *map(str, command)],
            env=self.environment(),
            cwd=self.root,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            timeout=timeout_s,
            **({} if self.wrapper else self.user.arguments()),
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def cli(self, *arguments: str | Path, check: bool = True, timeout_s: float = 60, stdin: str | None = None) -> Completed:
        """Run ``bucketfs …`` to its end. A mount has returned when it is ready; its server lives on."""
        return self.run([*program(), *arguments], check=check, timeout_s=timeout_s, stdin=stdin)

    def complaint(self, *arguments: str | Path, timeout_s: float = 60) -> str:
        """Run ``bucketfs …`` that must fail: its one line on stderr, which is held to be one line without a traceback."""
        done = self.cli(*arguments, check=False, timeout_s=timeout_s)
        assert done.returncode not in (0, None), f"{arguments} succeeded: {done.stdout}"
        said = done.stderr.strip()
        assert "Traceback" not in said, said
        assert said, f"{arguments} failed with {done.returncode} and said nothing"
        assert len(said.splitlines()) == 1, f"more than one line:\n{said}"
        return said

    def mount(self, *arguments: str | Path, where: Path | None = None, make: bool = True, timeout_s: float = 60) -> Mounted:
        """Mount on ``where`` (default ``Buckets`` in the home). ``arguments`` come before the mount point."""
        place = where if where is not None else self.root / "Buckets"
        if make and not place.exists():
            place.mkdir()
            if self.user.uid is not None:
                os.chown(place, self.user.uid, self.user.gid if self.user.gid is not None else -1)
        marks = {path: path.stat().st_size for path in self.logs()}
        done = self.cli("mount", *arguments, place, timeout_s=timeout_s)
        assert any(mount.where == place for mount in leftovers.mounts()), f"said it was ready, and is not: {done.stdout}"
        return Mounted(self, place, done.stdout, marks)

    def logs(self) -> list[Path]:
        return sorted(path for place in ("state", "cache", "data", "run") for path in (self.root / place).rglob("*.log"))

    def pids(self, *words: str) -> list[int]:
        """Processes of this home (those whose command line has all ``words``)."""
        return [pid for pid in leftovers.processes(self.root) if all(word in leftovers.command_of(pid) for word in words)]

    def forget(self, *names: str) -> None:
        """Delete whole folders of bucketfs: ``cache``, ``state``, ``data``, ``config``."""
        for name in names:
            folder = self.root / name / "bucketfs"
            if folder.exists():
                shutil.rmtree(folder)

    def end(self) -> None:
        """Kill what is left and unmount what is left, whatever went wrong before."""
        leftovers.end(self.pids())
        for mount in reversed(leftovers.mounts_below(self.root)):
            leftovers.unmount_lazily(mount.where)


@dataclass(eq=False)
class Mounted:
    """A live mount. ``said`` is what ``bucketfs mount`` printed."""

    home: Home
    path: Path
    said: str
    log_marks: Mapping[Path, int]
    expected: list[str] = field(default_factory=list)

    def sync(self, *arguments: str | Path, timeout_s: float = 300) -> Completed:
        """Wait until all of it is at the Hub."""
        return self.home.cli("sync", *(arguments or (self.path,)), timeout_s=timeout_s)

    def status(self) -> Any:
        """What ``bucketfs status --json`` says of this mount."""
        return json.loads(self.home.cli("status", "--json", self.path).stdout)

    @property
    def is_mounted(self) -> bool:
        return any(mount.where == self.path for mount in leftovers.mounts())

    def umount(self, *, timeout_s: float = 90) -> Completed:
        """Unmount, and hold that mount and server are really gone afterwards and that the log is clean."""
        done = self.home.cli("umount", self.path, timeout_s=timeout_s)
        assert not self.is_mounted, f"umount returned and it is still mounted: {done.stdout}{done.stderr}"
        left = leftovers.wait_until_gone(self.home.pids("mount"), 30)
        assert not left, f"still running 30 s after umount: {[leftovers.command_of(pid) for pid in left]}"
        self.check_log()
        return done

    def kill(self) -> None:
        """kill -9 of everything that serves it, and take the dead mount away as a reboot would. Nothing is flushed."""
        leftovers.end(self.home.pids())
        if self.is_mounted:
            leftovers.unmount_lazily(self.path)

    def expect(self, pattern: str) -> None:
        """Log lines with this regular expression are part of the test."""
        self.expected.append(pattern)

    def log_text(self) -> str:
        """What the daemon has logged since this mount began."""
        parts = []
        for path in self.home.logs():
            with path.open(errors="replace") as log:
                log.seek(self.log_marks.get(path, 0))
                parts.append(log.read())
        return "".join(parts)

    def check_log(self) -> None:
        """Fail on any line of WARNING or worse, and on tracebacks, that no ``expect`` covers."""
        text = self.log_text()
        lines = text.splitlines()
        bad = [
            number
            for number, line in enumerate(lines)
            if TROUBLE.search(line) and not any(re.search(pattern, line) for pattern in self.expected)
        ]
        if bad:
            excerpt = "\n".join(lines[max(0, bad[0] - 3) : bad[0] + 40])
            raise AssertionError(
                f"{len(bad)} unexpected line(s) in the daemon's log; the first with its surroundings:\n{excerpt}"
            )


class Watchdog:
    """Kills the servers of a home when a test takes too long.

    A process that waits for a FUSE answer cannot be interrupted by the signal that ends a slow test; once the server is gone
    the kernel answers it with ENOTCONN, and the test fails in place of hanging.
    """

    def __init__(self, home: Home, after_s: float) -> None:
        self._timer = threading.Timer(after_s, self._bite, (home,))
        self._timer.daemon = True
        self.bitten = False

    def _bite(self, home: Home) -> None:
        self.bitten = True
        leftovers.end(home.pids())

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        assert not self.bitten, "the test hung on the mount; its server was killed"
