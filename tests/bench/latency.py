"""Measures how soon a change made in one mount is read in another, on one machine and one Hub.

    python tests/bench/latency.py                          500 changes with the feed, 20 without it
    python tests/bench/latency.py --changes 50 --polled 5  a quick look

One change: a file is written on A and `sync` asked for on A's control socket; when that has returned the clock runs until a
program on B reads the new content by name. "closed → read" is the same from the moment the file was closed on A, so it has
the push in it. After B has once read the new content, every further read, stat and listing must show it; one that does not
ends the run. Without the feed a proxy that refuses ``Listen`` stands before B, which then finds changes by asking every ``--poll``
seconds.

The machine's own mood is measured in the same run, between the changes: a bare unary call to the Hub, and a bare notification
(a swap of the root, until a bare ``Listen`` tells of it).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc
from bench.run import machine, write_document
from support import leftovers
from support.callproxy import Feed
from support.pair import Pair, two_mounts
from support.plainclient import PlainClient, unbase32
from support.reading import Reader

from bucketfs.wire import blocks_pb2, buckets_pb2

PATIENCE_S = 60.0
REFERENCE_EVERY = 5
BEGIN = "<!-- latency: written by `make latency` -->"


@dataclass
class Spread:
    """Seconds of one thing, told as milliseconds."""

    seconds: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    def text(self) -> str:
        """Columns of the table."""
        return f"{self.at(0.5):.0f} ms | {self.at(0.99):.0f} ms | {self.at(1):.0f} ms | {len(self.seconds)}"


def contents(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and what to write to them: new files, rewritten ones, ones of the same length and ones that grow."""
    for number in range(count):
        yield f"file {number % 40}", f"change {number} ".encode().ljust((64, 64, 5000, 300_000)[number % 4], b"x")


class Reference:
    """What a call and a notification cost without any mount, in a thread of their own on the same Hub."""

    def __init__(self, client: PlainClient) -> None:
        self._client = client
        self.call, self.news = Spread(), Spread()
        client.thread = client.new_thread("reference")
        made = client.bucket("Create", buckets_pb2.CreateRequest(name="reference"))
        self._key = made.root.key
        # Two roots to go to and fro between.
        self._roots = [client.push_paths(self._key, {"a": content}).root.path for content in (b"1", b"2")]
        self._heard: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._stream = client.listening(self._key)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for _ in self._stream:
                self._heard.put(time.perf_counter())

    def measure(self) -> None:
        begun = time.perf_counter()
        self._client.bucket("Root", buckets_pb2.RootRequest(key=self._key))
        self.call.seconds.append(time.perf_counter() - begun)
        old, new = reversed(self._roots)
        begun = time.perf_counter()
        request = blocks_pb2.SwapRootRequest(key=self._key, expected=binary(old), new=binary(new))
        self._client.call(blocks_pb2, "Blocks", "SwapRoot", request)
        self.news.seconds.append(self._heard.get(timeout=PATIENCE_S) - begun)
        self._roots = [old, new]

    def close(self) -> None:
        self._stream.cancel()


def binary(root_path: str) -> bytes:
    """The CID of a root path ``/ipfs/b…``."""
    return unbase32(root_path.removeprefix("/ipfs/"))


def run(pair: Pair, count: int, reference: Reference) -> tuple[Spread, Spread]:
    """``count`` changes; from the return of the sync, and from the close, until they were read."""
    for mount in pair.both:
        (mount.place / "folder").mkdir(exist_ok=True)
        pair.settle()
    reader, after_sync, after_close = Reader(pair.b.place / "folder", PATIENCE_S), Spread(), Spread()
    for number, (name, content) in enumerate(contents(count)):
        (pair.a.place / "folder" / name).write_bytes(content)
        closed = time.perf_counter()
        pair.a.ask("sync")
        synced = time.perf_counter()
        seen = reader.until(name, content)
        after_sync.seconds.append(seen - synced)
        after_close.seconds.append(seen - closed)
        if number % REFERENCE_EVERY == 0:
            reference.measure()
    return after_sync, after_close


def measure(root: Path, how: str, count: int, feed: Feed, *options: str) -> list[str]:
    """The lines of the table for one way of hearing."""
    with two_mounts(root, feed=feed, options=options) as pair, pair.account.plain() as client:
        reference = Reference(client)
        after_sync, after_close = run(pair, count, reference)
        reference.close()
    return [
        f"| `sync` returned → read, {how} | {after_sync.text()} |",
        f"| closed → read, {how} | {after_close.text()} |",
        f"| *a bare call, in the same run* | {reference.call.text()} |",
        f"| *a bare swap until a bare listener is told* | {reference.news.text()} |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="How soon a change made in one mount is read in another.")
    parser.add_argument("--changes", type=int, default=500, help="with the feed")
    parser.add_argument("--polled", type=int, default=20, help="changes without the feed")
    parser.add_argument("--poll", default="2s", help="how often B asks then")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="put the table into this document")
    options = parser.parse_args()

    leftovers.sweep_stale()
    load = os.getloadavg()[0]
    stage = leftovers.new_stage("latency")
    lines = ["| from → to | p50 | p99 | max | times |", "| --- | --- | --- | --- | --- |"]
    try:
        lines += measure(stage / "f", "with the feed", options.changes, Feed.OPEN)
        if options.polled:
            how = f"asking every {options.poll}"
            lines += measure(stage / "p", how, options.polled, Feed.REFUSED, "--poll", options.poll)
    finally:
        leftovers.sweep(leftovers.run_name())
    table = "\n".join(lines)
    numbers = (
        f"{machine()}. Both mounts and the Hub share the machine; its load when the run began was {load:.1f}.\n\n{table}"
    )
    sys.stdout.write(numbers + "\n")
    if options.write:
        write_document(options.write, numbers, BEGIN)


if __name__ == "__main__":
    main()
