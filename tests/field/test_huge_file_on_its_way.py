"""A huge file arrives in a watched folder for minutes: small changes of both sides pass it, and it ends when it is removed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio
from support.home import program
from support.unixfs import file_root
from support.waiting import eventually

from bucketfs.cache import run_steps
from bucketfs.cli.buck.target import find_target
from bucketfs.config import load_config
from bucketfs.daemon import open_session
from bucketfs.dag import LEAF_SIZE, cid_of, edit_tree
from bucketfs.remote import NodeSource
from bucketfs.types import Cid, UploadId

HUGE_BYTES = 1 << 37
"""All zeros, so that it is small on the disk, here and at the Hub; to fetch it takes a minute or more all the same."""


async def put_huge(name: bytes) -> None:
    """What another client has done."""
    zeros = bytes(LEAF_SIZE)
    built = file_root([(cid_of(zeros), LEAF_SIZE)] * (HUGE_BYTES // LEAF_SIZE))
    async with open_session(load_config()) as session:
        remote = (await find_target(session, "home")).remote
        root = await remote.root()
        made: dict[Cid, bytes] = {**built.blocks, cid_of(zeros): zeros}
        edited = await run_steps(edit_tree(root, {(name,): built.link}), NodeSource(remote))
        made |= edited.blocks

        async def batches() -> AsyncIterator[Sequence[tuple[Cid, bytes]]]:
            yield list(made.items())

        upload = UploadId(os.urandom(16))
        await remote.put(batches(), upload)
        await remote.swap(root, edited.link.cid, upload)


@contextmanager
def watching(top: Path) -> Iterator[None]:
    with (top.parent / "watch.log").open("wb") as log:
        watch = subprocess.Popen([*program(), "buck", "watch", "--quiet", "0.2", str(top), "home"], stdout=log, stderr=log)
        try:
            yield
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(30) == 0, (top.parent / "watch.log").read_text()
        finally:
            watch.kill()
            watch.wait()


def names(top: Path) -> set[str]:
    return {"aside" if name.startswith(".bucketfs-aside-") else name for name in os.listdir(top)}


def test_small_changes_pass_a_huge_file_that_is_removed_in_the_end(buck: Callable[..., str], tmp_path: Path) -> None:
    """Small changes would wait until a huge file has arrived, or the download would go on after the file was removed."""
    top, other = tmp_path / "top", tmp_path / "other"
    top.mkdir()
    other.write_text("from there")
    trio.run(put_huge, b"huge")
    with watching(top):
        eventually(lambda: "aside" in names(top), "the huge file is not on its way")
        (top / "here").write_text("from here")
        eventually(lambda: "here" in buck("ls", "home"), "a small change here waits for the huge file")
        buck("push", other, "home/there")
        eventually(lambda: "there" in names(top), "a small change there waits for the huge file")
        assert names(top) == {"aside", "here", "there"}
        buck("rm", "home/huge")
        eventually(lambda: names(top) == {"here", "there"}, "it goes on after its file was removed")
