"""A disk that damages what waits for the Hub: an error for who reads it, nothing wrong at the Hub, and no harm to all else."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from support import acknowledged
from support.foreground import Foreground
from support.home import Home
from support.served import ServedHub
from support.waiting import eventually
from support.writing import at_the_hub

from bucketfs.errors import BucketfsError

BUCKET = "dear"
LARGE = bytes(range(256)) * 3000

HURRIED = """
# Checksums come after a fifth of a second and not after half a minute.
import sys
from bucketfs.cli import main
from bucketfs.sync import scheduler

scheduler.SEAL_EVERY_S, scheduler.SEAL_QUIET_S = 0.1, 0.2
sys.exit(main())
"""


def mount(home: Home) -> Foreground:
    return Foreground.start(home, BUCKET, command=[sys.executable, "-c", HURRIED])


def drafts_below(home: Home) -> list[Path]:
    return list(home.state.glob("mounts/*/buckets/*/drafts/*/*"))


def draft_with(home: Home, data: bytes) -> Path:
    (found,) = [path for path in drafts_below(home) if path.read_bytes() == data]
    return found


def sealed(daemon: Foreground) -> int:
    (bucket,) = daemon.ask("status")["buckets"]
    return int(bucket["journal"]["drafts_sealed"])


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def unreadable(folder: Path, names: list[str]) -> dict[str, bytes]:
    """What can be read of them; the rest must be an I/O error."""
    found = {}
    for name in names:
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            assert error.errno == errno.EIO, name
    return found


@pytest.mark.timeout(120)
def test_what_the_disk_damaged_is_an_error_and_never_reaches_the_hub(home: Home) -> None:
    """Bytes that the local disk damaged would replace the good copy at the Hub, without an error."""
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("writer")
        home.extra.update(account.variables())
        (home.root / "Buckets").mkdir()
        home.cli("buck", "create", BUCKET)
        daemon = mount(home)
        folder = daemon.place
        (folder / "kept").write_bytes(b"the good copy")
        daemon.ask("sync")
        hub.kill()
        (folder / "new").mkdir()
        waits = {f"new/sound{number}": b"%d" % number * 5000 for number in range(8)}
        waits |= {"kept": b"a later state", "large": LARGE, "new/short": b"s" * 9000, "new/lost": b"l" * 100}
        for name, data in waits.items():
            (folder / name).write_bytes(data)
        eventually(lambda: sealed(daemon) == len(waits), "not all have their checksums")
        # A write over sealed bytes does not touch them.
        with (folder / "large").open("r+b") as file:
            file.seek(300_000)
            file.write(b"PATCH")
        waits["large"] = LARGE[:300_000] + b"PATCH" + LARGE[300_005:]
        daemon.kill()

        flip(draft_with(home, b"a later state"), 4)
        os.truncate(draft_with(home, b"s" * 9000), 8999)
        draft_with(home, b"l" * 100).unlink()
        damaged = {"kept", "new/short", "new/lost"}
        daemon = mount(home)
        sound = {name: data for name, data in waits.items() if name not in damaged}
        assert unreadable(folder, list(waits)) == sound
        hub.start()
        with pytest.raises(BucketfsError, match="damaged on this disk"):
            daemon.ask("sync")
        (bucket,) = daemon.ask("status")["buckets"]
        assert {item["path"] for item in bucket["damaged"]} == damaged and not bucket["refused"] and not bucket["error"]
        shown = home.cli("status", folder).stdout
        assert "3 files that wait here were damaged by this disk" in shown and "'new/short', not at the Hub yet" in shown
        with account.plain() as plain:
            assert at_the_hub(plain, BUCKET) == sound | {"kept": b"the good copy", "new": None}

            (folder / "kept").write_bytes(b"written anew")
            (folder / "new/short").write_bytes(b"short")
            (folder / "new/lost").unlink()
            daemon.ask("sync")
            wanted = sound | {"kept": b"written anew", "new/short": b"short", "new": None}
            assert at_the_hub(plain, BUCKET) == wanted == acknowledged.look(folder)
        assert drafts_below(home) == []
        mounted = daemon.mounted()
        mounted.expect("are damaged on this disk")
        mounted.expect("had lost its process and is cleared")
        mounted.expect(r"the Hub \S+ is away|changes wait here")
        assert daemon.stop() == 0
        mounted.check_log()
