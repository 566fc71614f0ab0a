"""Measures bucketfs beside the disk below and beside a bare pyfuse3 passthrough, in one run.

    python tests/bench/run.py                                  print the table
    python tests/bench/run.py --write docs/benchmarks.md       and put it into the document
    python tests/bench/run.py --rounds 1 --files 500 --size-mib 64 --tree cut        a quick look

Every round begins with fresh mounts, a fresh Hub and contents never seen before; grounds take turns within a round, so that
a noisy minute of the machine meets all three. Names are ``<op>_<pattern>_<size>_<state>``. "cold" is: page cache dropped
(as root), the file systems mounted anew and, for bucketfs, its block cache deleted, so that every byte comes from the Hub.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import leftovers, trees
from support.home import CHECKOUT, Home, Mounted

MIB = 1 << 20
BEGIN, END = "<!-- numbers: written by `make bench` -->", "<!-- end of numbers -->"


@dataclass(frozen=True)
class Sizes:
    """What a run works on."""

    files: int
    size_bytes: int
    tree: Path
    tree_files: int

    @property
    def big(self) -> str:
        return f"{self.size_bytes >> 30}g" if self.size_bytes % (1 << 30) == 0 else f"{self.size_bytes // MIB}m"


class Ground:
    """A folder to work in. ``refresh`` makes what was written cold; ``settle`` waits until it is where it belongs."""

    name = "disk"

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.folder = root

    def refresh(self) -> None:
        drop_page_cache()

    def settle(self) -> None:
        return None

    def close(self) -> None:
        shutil.rmtree(self.root)


class PassthroughGround(Ground):
    name = "passthrough"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.folder = root / "mount"
        (root / "below").mkdir()
        self.folder.mkdir()
        self._server = self._start()

    def _start(self) -> subprocess.Popen[str]:
        script = str(Path(__file__).with_name("passthrough.py"))
        server = subprocess.Popen(
            [sys.executable, script, str(self.root / "below"), str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {leftovers.HOME_VARIABLE: str(self.root)},
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", "the passthrough did not start"
        return server

    def _stop(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.folder)], check=True)
        self._server.communicate(timeout=30)

    def refresh(self) -> None:
        self._stop()
        drop_page_cache()
        self._server = self._start()

    def close(self) -> None:
        self._stop()
        super().close()


class BucketGround(Ground):
    name = "bucketfs"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._home = Home(root / "home")
        self._mounted: Mounted = self._home.mount()
        self.folder = self._mounted.path / "home"

    def settle(self) -> None:
        self._mounted.sync(timeout_s=3600)

    def refresh(self) -> None:
        self._mounted.umount(timeout_s=3600)
        self._home.forget("cache")
        drop_page_cache()
        self._mounted = self._home.mount()

    def close(self) -> None:
        self._mounted.umount(timeout_s=3600)
        self._home.end()
        super().close()


GROUNDS: dict[str, type[Ground]] = {ground.name: ground for ground in (Ground, PassthroughGround, BucketGround)}


def drop_page_cache() -> None:
    os.sync()
    # Without root the kernel keeps its pages; the table says so.
    with contextlib.suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("3")


# What is measured. Each yields (name, seconds, amount, unit of the rate)

Measured = tuple[str, float, float, str]


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def create_files(folder: Path, count: int, seed: bytes) -> None:
    folder.mkdir()
    for number in range(count):
        with (folder / f"file-{number:05d}").open("wb", buffering=0) as file:
            file.write((seed + b"%d " % number).ljust(1024, b"."))


def write_big(path: Path, size_bytes: int, seed: bytes) -> None:
    """Blocks that all differ, and differ from every other round's; ends with fsync."""
    noise = bytearray(os.urandom(MIB))
    with path.open("wb", buffering=0) as file:
        for start in range(0, size_bytes, MIB):
            for chunk in range(0, MIB, 1 << 18):
                noise[chunk : chunk + 8] = (start + chunk).to_bytes(8, "big")
            file.write(noise[: min(MIB, size_bytes - start)])
        os.fsync(file.fileno())


def read_big(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], check=True)


def measure(ground: Ground, sizes: Sizes, seed: bytes) -> Iterator[Measured]:
    folder, amount = ground.folder, sizes.size_bytes / MIB

    name = f"small_{sizes.files}x1k"
    yield f"create_{name}", timed(lambda: create_files(folder / "small", sizes.files, seed)), sizes.files, "files/s"
    yield f"sync_{name}", timed(ground.settle), sizes.files, "files/s"

    big = folder / "big"
    yield f"write_seq_{sizes.big}_fsync", timed(lambda: write_big(big, sizes.size_bytes, seed)), amount, "MiB/s"
    yield f"sync_{sizes.big}", timed(ground.settle), amount, "MiB/s"
    ground.refresh()
    yield f"read_seq_{sizes.big}_cold", timed(lambda: read_big(big)), amount, "MiB/s"
    yield f"read_seq_{sizes.big}_warm", timed(lambda: read_big(big)), amount, "MiB/s"
    big.unlink()

    tree = folder / "tree"
    yield "rsync_tree_first", timed(lambda: rsync(sizes.tree, tree)), sizes.tree_files, "files/s"
    yield "sync_tree", timed(ground.settle), sizes.tree_files, "files/s"
    yield "rsync_tree_noop", timed(lambda: rsync(sizes.tree, tree)), sizes.tree_files, "files/s"
    ground.refresh()
    yield "rsync_tree_noop_cold", timed(lambda: rsync(sizes.tree, tree)), sizes.tree_files, "files/s"


@dataclass
class Series:
    """All rounds of one operation on one ground."""

    amount: float
    unit: str
    seconds: list[float] = field(default_factory=list)

    def text(self) -> str:
        middle = statistics.median(self.seconds)
        spread = f" ({min(self.seconds):.3g}–{max(self.seconds):.3g})" if len(self.seconds) > 1 else ""
        return f"{middle:.3g} s{spread}, {self.amount / middle:,.0f} {self.unit}"


Results = dict[str, dict[str, Series]]


def run(stage: Path, grounds: list[str], rounds: int, sizes: Sizes) -> Results:
    results: Results = {}
    for number in range(rounds):
        for name in grounds:
            ground = GROUNDS[name](stage / f"{name}{number}")
            for operation, seconds, amount, unit in measure(ground, sizes, os.urandom(12)):
                if operation.startswith("sync") and name != "bucketfs":
                    continue
                series = results.setdefault(operation, {}).setdefault(name, Series(amount, unit))
                series.seconds.append(seconds)
                sys.stderr.write(f"round {number + 1} {name:12} {operation:28} {seconds:8.2f} s\n")
            ground.close()
    return results


def table(results: Results, grounds: list[str], stage: Path) -> str:
    below = [mount for mount in leftovers.mounts() if mount.where in stage.parents]
    kind = max(below, key=lambda mount: len(mount.where.parts)).kind
    titles = [kind if name == "disk" else name for name in grounds]
    lines = [
        "| operation | " + " | ".join(titles) + " | bucketfs : passthrough |",
        "| --- |" + " --- |" * (len(grounds) + 1),
    ]
    for operation, by_ground in results.items():
        cells = [by_ground[name].text() if name in by_ground else "–" for name in grounds]
        ratio = "–"
        if {"bucketfs", "passthrough"} <= by_ground.keys():
            times = [statistics.median(by_ground[name].seconds) for name in ("bucketfs", "passthrough")]
            ratio = f"{times[0] / times[1]:.1f} × the time"
        lines.append(f"| `{operation}` | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def machine() -> str:
    """When, what and on what."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}: {os.cpu_count()} CPUs, {memory_gib:.0f} GiB of memory, "
        f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def circumstances(rounds: int, sizes: Sizes, load: float) -> str:
    dropped = "dropped for cold reads" if os.geteuid() == 0 else "NOT dropped for cold reads (not root)"
    return (
        f"{machine()}; {rounds} rounds, the median with the lowest and highest in parentheses; "
        f"the tree is {sizes.tree_files} files of the standard library; page cache {dropped}. "
        f"Hub and mount share the machine; its load when the run began was {load:.1f}."
    )


def write_document(path: Path, numbers: str, begin: str = BEGIN) -> None:
    """Replace what stands between the two marks; the prose around it is written by hand."""
    before, found, rest = path.read_text().partition(begin)
    after = rest.partition(END)[2]
    if not found or END not in rest:
        raise SystemExit(f"{path} has no place for the numbers; it needs the lines {begin!r} and {END!r}")
    path.write_text(f"{before}{begin}\n\n{numbers}\n\n{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure bucketfs beside the disk and a bare passthrough.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=5000, help="small files to create")
    parser.add_argument("--size-mib", type=int, default=1024, help="size of the big file")
    parser.add_argument("--tree", choices=("whole", "cut"), default="whole", help="how much of the standard library")
    parser.add_argument("--grounds", nargs="+", choices=list(GROUNDS), default=list(GROUNDS))
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the table into this document")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all seconds of all rounds")
    options = parser.parse_args()

    leftovers.sweep_stale()
    load = os.getloadavg()[0]
    stage = leftovers.new_stage("bench")
    try:
        tree_files = trees.standard_library(stage / "source", whole=options.tree == "whole")
        sizes = Sizes(options.files, options.size_mib * MIB, stage / "source", tree_files)
        results = run(stage, options.grounds, options.rounds, sizes)
        numbers = f"{circumstances(options.rounds, sizes, load)}\n\n{table(results, options.grounds, stage)}"
    finally:
        leftovers.sweep(leftovers.run_name())
    sys.stdout.write(numbers + "\n")
    if options.write:
        write_document(options.write, numbers)
    if options.json:
        seconds = {operation: {name: s.seconds for name, s in by.items()} for operation, by in results.items()}
        options.json.write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    main()
