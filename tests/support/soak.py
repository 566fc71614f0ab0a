"""The long run of two mounts: programs write in both, at names of their own and at names that all share, while the Hub is killed
under them; in the end both mounts and the Hub hold the same, and all that was acknowledged."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from support import acknowledged, colliding
from support.acknowledged import Tree
from support.foreground import Foreground
from support.pair import BUCKET, Pair
from support.writing import Writing, assert_as_written, at_the_hub

from bucketfs.errors import BucketfsError

OWN_PAUSE_S = 0.1
"""Without a pause the writers and their models keep both processors, and the mounts get to push nothing."""


@dataclass(eq=False)
class Colliding:
    """A writer of `support.colliding` that runs."""

    folder: Path
    log: Path
    seed: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Colliding:
        command = [sys.executable, "-I", "-S", colliding.__file__, str(self.folder), str(self.log), str(self.seed)]
        self.process = subprocess.Popen(command, cwd="/")
        return self

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            assert self.process.wait(60) == 0, "the writer itself broke"
        finally:
            self.process.kill()
            self.process.wait()


@dataclass(eq=False)
class Memory:
    """Samples of what both daemons hold of the machine's memory, in KiB."""

    mounts: tuple[Foreground, ...]
    samples: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def take(self, at_s: float) -> None:
        sizes = []
        for mount in self.mounts:
            status = Path(f"/proc/{mount.process.pid}/status").read_text()
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
        self.samples.append((at_s, tuple(sizes)))

    def floor(self, from_s: float, to_s: float) -> list[int]:
        """The least of each mount's samples in a span of time. Once a minute a daemon gives back what is free; what it holds right
        after that is what it keeps."""
        chosen = [sizes for at_s, sizes in self.samples if from_s <= at_s <= to_s]
        return [min(column) for column in zip(*chosen, strict=True)]


def soak(pair: Pair, lasts_s: float, kills_s: list[float], seed: int) -> Memory:
    """Four writers, two in each mount: one in a folder of its own, one at the names that all share. The Hub is killed at the given
    times. Holds all that was acknowledged to what both mounts and the Hub have in the end."""
    chance = random.Random(seed)
    pair.expect("changes wait here: ")  # the Hub is killed
    own: dict[str, Writing] = {}
    for name, mount in (("of a", pair.a), ("of b", pair.b)):
        (mount.place / name).mkdir()
        own[name] = Writing(mount.place / name, mount.home.root / "own.log", seed + len(own), pause_s=OWN_PAUSE_S)
    (pair.a.place / "common").mkdir()
    pair.settle()
    for one in own.values():
        one.start()
    common = [
        Colliding(mount.place / "common", mount.home.root / "common.log", seed * 10 + number).start()
        for number, mount in enumerate(pair.both)
    ]
    memory, begun_s = Memory(pair.both), time.monotonic()
    stop = threading.Event()

    def push(mount: Foreground) -> None:
        """Now and then a push is asked for, so that pushes meet each other, too."""
        asked = random.Random(seed)
        while not stop.wait(asked.expovariate(1)):
            with suppress(BucketfsError):  # the Hub may be away
                mount.ask("sync", {"timeout_s": 5})

    pushing = [threading.Thread(target=push, args=(mount,)) for mount in pair.both]
    for thread in pushing:
        thread.start()
    try:
        kills = sorted(kills_s)
        while (at_s := time.monotonic() - begun_s) < lasts_s:
            memory.take(at_s)
            if kills and at_s >= kills[0]:
                kills.pop(0)
                pair.hub.kill()
                time.sleep(chance.uniform(0.2, 1.0))
                pair.hub.start()
            time.sleep(0.25)
    finally:
        stop.set()
        for thread in pushing:
            thread.join(60)
        for writer in common:
            writer.stop()
    for one in own.values():
        one.stop()
    check_soak(pair, own, common)
    return memory


def check_soak(pair: Pair, own: dict[str, Writing], common: list[Colliding]) -> None:
    equal(pair)
    found = acknowledged.look(pair.a.place)
    with pair.account.plain() as client:
        assert at_the_hub(client, BUCKET) == found
    for name, one in own.items():
        assert_as_written(one.model, below(found, name), name)
    claims = colliding.Claims()
    for writer in common:
        claims.add(writer.log)
    assert claims.complaints == []
    assert claims.acts > 10, "the writers hardly wrote"
    files = {path: data for path, data in below(found, "common").items() if data is not None}
    differences = claims.differences(files)
    assert not differences, "\n".join(differences[:12])
    for mount in pair.both:
        status = mount.ask("status")
        assert status["mount"]["overdue"] == 0
        assert status["pending_count"] == 0 and status["error"] is None
    sys.stdout.write(f"{claims.acts} acts at common names, {sum(map(is_copy, files))} conflict copies at the end\n")


def is_copy(name: str) -> bool:
    return colliding.COPY.search(name) is not None


def equal(pair: Pair, limit_s: float = 120) -> None:
    """Both settle, and then show the same."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            pair.settle()
            break
        except BucketfsError as error:
            assert time.monotonic() < deadline, f"not at the Hub after {limit_s} s: {error}"
    one, other = acknowledged.look(pair.a.place), acknowledged.look(pair.b.place)
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == []


def below(tree: Tree, folder: str) -> Tree:
    return {path.removeprefix(f"{folder}/"): data for path, data in tree.items() if path.startswith(f"{folder}/")}
