"""The stream of events of a mount: nothing is missing in it, and nobody waits for who reads it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import trio
import trio.testing
from support.manybuckets import ManyBuckets, MemorySession, many_buckets
from support.world import ME

from bucketfs.cache import Source
from bucketfs.daemon.control.events import stream_events
from bucketfs.daemon.control.mount_paths import MountPaths
from bucketfs.dag import cid_text
from bucketfs.types import BucketKey

ALL = MountPaths(Path("/m"), False, "")


class Reader:
    """Follows a mount; reads one portion for each ``more``."""

    def __init__(
        self, mount: ManyBuckets, asked: str = "", where: MountPaths = ALL, *, patient: bool = False, events_max: int = 1000
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._stream = partial(
            stream_events, mount.volumes, where, cast(Source, mount.session), asked, self._progress, events_max=events_max
        )
        self._portions = trio.Semaphore(0 if not patient else 1 << 20)

    async def _progress(self, document: dict[str, Any]) -> None:
        await self._portions.acquire()
        self.events += document["events"]

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await self._stream()

    def more(self, portions: int = 1) -> None:
        for _ in range(portions):
            self._portions.release()

    def told(self) -> list[tuple[str, str]]:
        return [(event["kind"], event.get("file", "")) for event in self.events if event["kind"] != "attributes"]


async def change(mount: ManyBuckets, key: BucketKey, name: str, data: bytes) -> None:
    await mount.write(name, data)
    await mount.volumes.open[key].scheduler.drain()


async def test_a_reader_that_stands_still_keeps_nobody(tmp_path: Path) -> None:
    """A stopped `bucketfs events` would stop the mount or fill its memory; or the reader would not learn that events were
    lost."""
    session = MemorySession()
    key = session.make("b").key
    async with many_buckets(tmp_path / "mount", session) as mount, trio.open_nursery() as nursery:
        mount.volumes.feed.waiting_max = 3
        reader = Reader(mount)
        await nursery.start(reader.run)
        await trio.testing.wait_all_tasks_blocked()
        start = mount.volumes.open[key].volume.base
        for number in range(8):
            await change(mount, key, f"b/f{number}", b"%d" % number)
        base = mount.volumes.open[key].volume.base
        reader.more(100)
        await mount.volumes.feed.close()
        # The first was being sent, three waited, and the rest is one.
        assert reader.events[0]["kind"] == "start" and reader.events[0]["root"] == cid_text(start)
        assert reader.told()[1:] == [("added", f"/m/b/f{number}") for number in range(3)] + [("lost", "")]
        last = reader.events[-1]
        assert last["old_root"] == reader.events[-2]["root"] and last["root"] == cid_text(base)
        assert last["origin"] == "local"


async def test_more_than_can_be_told(tmp_path: Path) -> None:
    """A reader of events would take a part of a large change for the whole of it."""
    session = MemorySession()
    key = session.make("b").key
    async with many_buckets(tmp_path / "mount", session) as mount, trio.open_nursery() as nursery:
        reader = Reader(mount, patient=True, events_max=2)
        await nursery.start(reader.run)
        await mount.write("b/one", b"1")
        await change(mount, key, "b/two", b"2")
        await change(mount, key, "b/one", b"3")
        await mount.volumes.feed.close()
        assert reader.told() == [("start", ""), ("lost", ""), ("changed", "/m/b/one")]
        assert reader.events[1]["reason"] == "more than 2 differences"


async def test_what_was_not_asked_for_is_not_told(tmp_path: Path) -> None:
    """A reader of the events of one folder would be told of others, or miss its own."""
    session = MemorySession()
    one, other = session.make("one").key, session.make("other").key
    async with many_buckets(tmp_path / "mount", session) as mount, trio.open_nursery() as nursery:
        await mount.vfs.mkdir(await mount.inode("one"), b"d", 0o755, ME)
        for name in ("one/d/f", "one/d/g", "other/f"):
            await mount.write(name, b"base")
        for key in (one, other):
            await mount.volumes.open[key].scheduler.drain()
        readers = [Reader(mount, asked, patient=True) for asked in ("", "one", "one/d/f", "two", "on")]
        for reader in readers:
            await nursery.start(reader.run)
        for name, key in (("one/d/g", one), ("other/f", other), ("one/d/f", one)):
            await change(mount, key, name, b"changed")
        await mount.volumes.feed.close()
        told = [[file for kind, file in reader.told() if kind != "start"] for reader in readers]
        assert told == [
            ["/m/one/d/g", "/m/other/f", "/m/one/d/f"],
            ["/m/one/d/g", "/m/one/d/f"],
            ["/m/one/d/f"],
            [],
            [],
        ]
        assert [len([kind for kind, _ in reader.told() if kind == "start"]) for reader in readers] == [2, 1, 1, 0, 0]
