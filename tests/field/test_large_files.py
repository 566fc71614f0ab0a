"""Large files: a change costs what it changes, what was removed is not carried on, and progress is a part of what there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.foreground import Foreground
from support.home import Home
from support.proxy import Proxy, Weather
from support.served import ServedHub
from support.waiting import eventually

from bucketfs.errors import BucketfsError, TimedOut

MIB = 1 << 20
TIB = 1 << 40


@contextmanager
def over_a_link(home: Home, weather: Weather) -> Iterator[tuple[Foreground, Proxy]]:
    """A mount of all buckets, with a slow link between it and its Hub."""
    (home.root / "Buckets").mkdir()
    with ServedHub(home, home.root / "hub") as hub, Proxy(hub.address, 1) as proxy:
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", "home")
        home.extra["BUCKETFS_HUB"] = proxy.address
        daemon = Foreground.start(home, "--drain", "1s")
        proxy.weather = weather
        try:
            yield daemon, proxy
        finally:
            proxy.weather = Weather()
            if daemon.process.poll() is None:
                daemon.stop()


def test_writing_once_into_sixteen_tebibytes_of_hole(home: Home) -> None:
    """One small write into a huge sparse file, as disk images are, would make `sync` run for hours."""
    (home.root / "Buckets").mkdir()
    daemon = Foreground.start(home)
    folder = daemon.place / "home"
    with (folder / "sparse").open("wb") as file:
        file.truncate(16 * TIB - 4096)
    daemon.ask("sync", timeout_s=30)
    before = daemon.ask("status")["buckets"][0]["sent"]
    with (folder / "sparse").open("r+b") as file:
        file.seek(5 * TIB)
        file.write(b"once")
    (folder / "beside").write_bytes(b"beside")
    daemon.ask("sync", timeout_s=30)
    after = daemon.ask("status")["buckets"][0]["sent"]
    assert after["blocks"] - before["blocks"] < 20, "a leaf, the nodes above it, two folders"
    assert os.stat(folder / "sparse").st_size == 16 * TIB - 4096
    with (folder / "sparse").open("rb") as file:
        file.seek(5 * TIB - 2)
        assert file.read(8) == b"\0\0once\0\0"
    assert daemon.stop() == 0


@pytest.mark.timeout(120)
def test_rm_of_a_file_that_is_being_pushed(home: Home) -> None:
    """Over a link that would take a quarter of a minute for it: what was written beside it is at the Hub long before. And what is
    told of the push is a part of what there is to push, never more, also while the Hub is gone."""
    with over_a_link(home, Weather(bytes_per_s=4 * MIB)) as (daemon, proxy):
        folder = daemon.place / "home"
        seen: list[dict[str, Any]] = []
        (folder / "large").write_bytes(os.urandom(60 * MIB))
        eventually(lambda: proxy.up_bytes > MIB, "the push did not begin")
        with pytest.raises(TimedOut):
            daemon.ask("sync", {"timeout_s": 1.5}, 60, seen.append)
        assert any(report.get("total_bytes") for report in seen), "nothing was told of the push"
        (folder / "large").unlink()
        (folder / "small").write_bytes(b"small")
        daemon.ask("sync", timeout_s=60, on_progress=seen.append)
        assert proxy.up_bytes < 30 * MIB, "a file that was gone was pushed on"
        assert sorted(path.name for path in folder.iterdir()) == ["small"]
        assert daemon.ask("status")["pending_count"] == 0
        proxy.weather = Weather(refuse=True)
        proxy.cut()
        (folder / "more").write_bytes(b"12")
        with pytest.raises(BucketfsError):
            daemon.ask("sync", {"timeout_s": 1.5}, 60, seen.append)
        for report in seen:
            assert report.get("done_bytes", 0) <= report.get("total_bytes", 0), report
