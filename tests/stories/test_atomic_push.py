"""Who looks at the Hub never sees half of a push: every root that can be observed is one moment of the folder.

A writer renames a folder of files back and forth, and replaces a pair of files by renaming a folder with the new pair into its
place, while pushes follow one another. An observer reads root after root by blocks, whole trees below the moving names.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from support.foreground import Foreground
from support.home import Home
from support.kernel import EXCHANGE, renameat2
from support.plainclient import PlainClient
from support.served import ServedHub

from bucketfs.dag import drive, list_directory
from bucketfs.dag.files.read import read_file
from bucketfs.errors import BucketfsError
from bucketfs.types import Cid, Link
from bucketfs.wire import blocks_pb2

BUCKET = "moving"
FILES = 20


class Writer(threading.Thread):
    """Until ``stop`` is set. What is true of the folder at every moment is said at each step."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        self._folder = folder
        self._random = random.Random(seed)
        self.stop = threading.Event()
        self.steps = 0
        self.error: OSError | None = None

    def prepare(self) -> None:
        (self._folder / "here").mkdir()
        (self._folder / "there").mkdir()
        (self._folder / "here/box").mkdir()
        for number in range(FILES):
            (self._folder / f"here/box/{number}").write_text(f"file {number}")
        self._new_pair("pair", 0)

    def _new_pair(self, name: str, generation: int) -> None:
        (self._folder / name).mkdir()
        for half in ("left", "right"):
            (self._folder / name / half).write_text(f"{generation}")

    def run(self) -> None:
        try:
            while not self.stop.wait(self._random.uniform(0, 0.004)):
                self._step()
        except OSError as error:
            self.error = error

    def _step(self) -> None:
        self.steps += 1
        old, new = ("here", "there") if (self._folder / "here/box").exists() else ("there", "here")
        (self._folder / old / "box").rename(self._folder / new / "box")
        # Both files of the pair are exchanged in one rename; the old pair goes where nobody looks.
        aside = self._folder / "aside"
        aside.mkdir(exist_ok=True)
        self._new_pair("aside/next", self.steps)
        renameat2(aside / "next", self._folder / "pair", EXCHANGE)
        for half in ("left", "right"):
            (aside / "next" / half).unlink()
        (aside / "next").rmdir()


class Observer:
    """Reads trees by CID through the plain client."""

    def __init__(self, client: PlainClient) -> None:
        self._client = client
        self._blocks: dict[Cid, bytes] = {}

    def root(self) -> Cid:
        answer = self._client.call(blocks_pb2, "Blocks", "Roots", blocks_pb2.RootsRequest())
        return next(Cid(bucket.root) for bucket in answer.buckets if bucket.name == BUCKET)

    def _get(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        lacking = [cid for cid in cids if cid not in self._blocks]
        for cid, data in self._client.get_blocks(lacking).items() if lacking else ():
            assert data is not None, "the Hub shows a root whose blocks it lacks"
            self._blocks[Cid(cid)] = data
        return {cid: self._blocks[cid] for cid in cids}

    def entries(self, cid: Cid) -> dict[str, Link]:
        found = drive(list_directory(cid), self._get)
        return {name.decode(): link for name, link in found.entries.items()}

    def text(self, link: Link) -> str:
        return drive(read_file(link.cid), self._get).decode()

    def complaints(self, root: Cid) -> Iterator[str]:
        """What is not one moment of the folder."""
        top = self.entries(root)
        boxes = [name for name in ("here", "there") if "box" in self.entries(top[name].cid)]
        if len(boxes) != 1:
            yield f"the box is in {boxes}"
        for name in boxes:
            box = self.entries(self.entries(top[name].cid)["box"].cid)
            texts = {file: self.text(link) for file, link in box.items()}
            if texts != {str(number): f"file {number}" for number in range(FILES)}:
                yield f"the box holds {texts}"
        pair = {half: self.text(link) for half, link in self.entries(top["pair"].cid).items()}
        if pair.keys() != {"left", "right"} or pair["left"] != pair["right"]:
            yield f"the pair is {pair}"


def check_roots(home: Home, wanted: int, limit_s: float) -> None:
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        (home.root / "Buckets").mkdir()
        daemon = Foreground.start(home, BUCKET)
        writer = Writer(daemon.place, seed=3)
        writer.prepare()
        daemon.ask("sync")
        writer.start()
        pushing = threading.Thread(target=push_until, args=(daemon, writer.stop))
        pushing.start()
        seen: set[Cid] = set()
        try:
            with account.plain() as client:
                observer = Observer(client)
                deadline = time.monotonic() + limit_s
                while len(seen) < wanted:
                    assert time.monotonic() < deadline, f"only {len(seen)} roots in {limit_s} s"
                    root = observer.root()
                    if root not in seen:
                        seen.add(root)
                        assert list(observer.complaints(root)) == []
        finally:
            writer.stop.set()
            writer.join()
            pushing.join()
        assert writer.error is None
        assert daemon.ask("status")["conflicts"] == []
        assert daemon.stop() == 0
        daemon.mounted().check_log()


def push_until(daemon: Foreground, stop: threading.Event) -> None:
    while not stop.is_set():
        with suppress(BucketfsError):
            daemon.ask("sync")


def test_every_root_is_one_moment_cut(home: Home) -> None:
    """Who reads the bucket during a push would see half of a rename, or one new file beside its old partner."""
    check_roots(home, 150, 90)


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_every_root_is_one_moment_whole(home: Home) -> None:
    """The same over many more pushes: a rare order of changes would show half of a rename at the Hub."""
    check_roots(home, 1000, 700)
