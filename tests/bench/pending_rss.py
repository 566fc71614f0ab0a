"""Memory of the daemon while much waits to be pushed: prints a table, asserts nothing.

    python tests/bench/pending_rss.py [FOLDER [small|sparse|dense]]    FOLDER on a real disk with 15 GB of room, or /var/tmp

Three backlogs, each of a fresh mount whose Hub is away while they are made and comes back then: 100,000 small files, one
sparse file of 20 GiB with a 4 KiB write in each GiB, and one dense file of 4 GiB. RSS is read from /proc every 50 ms.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.foreground import Foreground
from support.home import Home
from support.served import ServedHub

from bucketfs.errors import BucketfsError

MIB = 1 << 20


@dataclass
class Peak:
    """The largest RSS of a process since the last ``take``."""

    pid: int
    mib: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.stop.wait(0.05):
            self.mib = max(self.mib, self.now())

    def now(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MIB

    def take(self) -> float:
        found, self.mib = self.mib, self.now()
        return found


def small_files(folder: Path) -> None:
    for number in range(100_000):
        if number % 1000 == 0:
            (folder / f"d{number // 1000}").mkdir()
        (folder / f"d{number // 1000}/f{number}").write_bytes(b"%d" % number * 100)


def sparse_file(folder: Path) -> None:
    with (folder / "sparse").open("wb") as file:
        file.truncate(20 << 30)
        for number in range(20):
            file.seek(number << 30)
            file.write(os.urandom(4096))


def dense_file(folder: Path) -> None:
    generator = random.Random(1)
    with (folder / "dense").open("wb") as file:
        for _ in range(4096):
            file.write(generator.randbytes(MIB))


def measure(name: str, make: Callable[[Path], None], root: Path) -> None:
    home = Home(root)
    try:
        with ServedHub(home, home.root / "hub") as hub:
            home.extra.update(hub.account("writer").variables())
            home.cli("buck", "create", "big")
            (home.root / "Buckets").mkdir()
            daemon = Foreground.start(home, "big")
            hub.kill()
            peak = Peak(daemon.process.pid)
            watcher = threading.Thread(target=peak.watch)
            watcher.start()
            idle = peak.now()
            began = time.monotonic()
            make(daemon.place)
            made_s, writing = time.monotonic() - began, peak.take()
            time.sleep(35)  # the oldest change is 30 s old now: a push was tried
            waiting = peak.take()
            hub.start()
            began = time.monotonic()
            while True:
                try:
                    daemon.ask("sync")
                    break
                except BucketfsError:
                    time.sleep(0.2)
            pushed_s, pushing = time.monotonic() - began, peak.take()
            peak.stop.set()
            watcher.join()
            after = peak.now()
            daemon.stop(200)
        figures = (idle, writing, waiting, pushing, after, made_s, pushed_s)
        print("| ".join(["", f"{name} ", *(f"{figure:.0f} " for figure in figures), ""]).rstrip(), flush=True)
    finally:
        home.end()
        shutil.rmtree(home.root, ignore_errors=True)


CASES: dict[str, Callable[[Path], None]] = {
    "100,000 small files": small_files,
    "sparse 20 GiB": sparse_file,
    "dense 4 GiB": dense_file,
}


def main() -> None:
    scratch = Path(tempfile.mkdtemp(prefix="pending-", dir=sys.argv[1] if len(sys.argv) > 1 else "/var/tmp"))
    chosen = sys.argv[2:] or list(CASES)
    print("| what waits | idle MiB | writing | waiting | pushing | after | written in s | pushed in s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    try:
        for number, name in enumerate(CASES):
            if any(word in name for word in chosen):
                measure(name, CASES[name], scratch / str(number))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
