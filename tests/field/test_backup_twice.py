"""A backup of what did not change finds nothing changed, however the mount has been treated between two runs."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

from support.home import Home
from support.kernel import forget_inodes

COUNT = 40


def fill(folder: Path) -> None:
    """Files written in several ways."""
    chance = random.Random(0)
    for number in range(COUNT):
        path = folder / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.write(chance.randbytes(chance.randrange(1, 20_000)))
            if number % 2:
                file.flush()
                file.write(b"more")
        if number % 5 == 0:
            path.write_bytes(b"anew")
        if number % 7 == 0:
            path.chmod(0o600)
            path.rename(path.with_name(f"renamed {number}"))
    (folder / "link").symlink_to("d0")


class Restic:
    def __init__(self, home: Home) -> None:
        self._home = home
        home.extra["RESTIC_PASSWORD"] = "secret"
        self._repository = home.root / "restic"
        home.run(["restic", "init", "-q", "-r", self._repository])

    def backup(self, folder: Path) -> int:
        """How many files it found new or changed."""
        done = self._home.run(["restic", "backup", "-q", "--json", "-r", self._repository, folder])
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["total_files_processed"] == COUNT + 1, summary
        return int(summary["files_new"]) + int(summary["files_changed"])


class Borg:
    def __init__(self, home: Home) -> None:
        self._home = home
        home.extra["BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK"] = "yes"
        self._repository = home.root / "borg"
        self._count = 0
        home.run(["borg", "init", "--encryption=none", self._repository])

    def backup(self, folder: Path) -> int:
        self._count += 1
        create = ["borg", "create", "--list", "--filter=AMCE", f"{self._repository}::{self._count}", str(folder)]
        lines = self._home.run(create).stderr.splitlines()
        # It never trusts the file with the newest ctime, for that might be written to in the same tick.
        return sum(1 for line in lines if not line.endswith("/the newest"))


def test_backup_tools_find_nothing_changed(home: Home) -> None:
    """restic and borg would read and store all files again with each backup."""
    mounted = home.mount()
    folder = mounted.path / "home/documents"
    folder.mkdir()
    fill(folder)
    time.sleep(0.05)  # more than a tick of any kernel
    (folder / "d0/the newest").write_bytes(b"")
    tools: dict[str, Callable[[Path], int]] = {"restic": Restic(home).backup, "borg": Borg(home).backup}
    assert all(backup(folder) >= COUNT for backup in tools.values())

    def assert_nothing_changed(when: str) -> None:
        assert {name: backup(folder) for name, backup in tools.items()} == dict.fromkeys(tools, 0), when

    assert_nothing_changed("at once")
    if not forget_inodes(mounted.path):
        mounted.umount()
        mounted = home.mount()
    assert_nothing_changed("after the kernel forgot the inodes")
    mounted.sync()
    mounted.umount()
    home.forget("cache")
    mounted = home.mount()
    assert_nothing_changed("after a push, and a remount without the cache")
    mounted.umount()
