"""Which conflicts a path means, and what is refused rather than guessed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.manybuckets import ManyBuckets, MemorySession, many_buckets
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.daemon.control.conflicts import conflict_documents, resolve_conflicts
from bucketfs.daemon.control.mount_paths import MountPaths
from bucketfs.errors import IsADirectory, NotFound, Usage
from bucketfs.vfs import Keep

ALL = MountPaths(Path("/m"), False, "")


async def elsewhere(folder: Path, remote: MemoryRemote, name: str, data: bytes) -> None:
    """Another client writes a file."""
    other = await World(folder, remote).open()
    await other.write(name, data)
    await other.pusher().push()
    other.close()


@asynccontextmanager
async def conflicts(folder: Path, *names: str) -> AsyncGenerator[ManyBuckets, None]:
    """Conflicts about these files of the bucket ``b``, one after another."""
    session = MemorySession()
    info = session.make("b")
    async with many_buckets(folder / "mount", session) as mount:
        scheduler = mount.volumes.open[info.key].scheduler
        for number, name in enumerate(names):
            await scheduler.drain()
            await mount.write(f"b/{name}", b"mine %d" % number)
            await elsewhere(folder / f"other{number}", session.remotes[info.key], name, b"theirs %d" % number)
            await scheduler.drain()
        assert len(conflict_documents(mount.volumes, ALL)) == len(names)
        yield mount


async def test_what_a_path_means(tmp_path: Path) -> None:
    """`conflicts --resolve` would throw away a version of a file that the user did not name."""
    async with conflicts(tmp_path, "one", "two", "three") as mount:
        documents = conflict_documents(mount.volumes, ALL)
        assert [document["original"] for document in documents] == ["/m/b/one", "/m/b/two", "/m/b/three"]
        for asked in ("b/one", documents[0]["copy"].removeprefix("/m/")):
            assert conflict_documents(mount.volumes, ALL, asked) == documents[:1]
        for asked in ("b/on", "c", "b/one/x"):
            assert conflict_documents(mount.volumes, ALL, asked) == []
            with pytest.raises(NotFound, match="no conflict at /m/"):
                await resolve_conflicts(mount.volumes, mount.vfs, ALL, asked, Keep.BOTH, everything=False)
        for asked in ("", "b"):
            with pytest.raises(Usage, match="3 conflicts are below /m"):
                await resolve_conflicts(mount.volumes, mount.vfs, ALL, asked, Keep.MINE, everything=False)
        done = await resolve_conflicts(mount.volumes, mount.vfs, ALL, documents[1]["copy"][3:], Keep.MINE, everything=False)
        assert done == {"resolved": documents[1:2], "failed": []}
        assert await mount.read("b/two") == b"mine 1"
        done = await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b", Keep.THEIRS, everything=True)
        assert [document["original"] for document in done["resolved"]] == ["/m/b/one", "/m/b/three"]
        assert await mount.names("b") == ["one", "three", "two"] and await mount.read("b/one") == b"theirs 0"
        assert await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b", Keep.THEIRS, everything=True) == {
            "resolved": [],
            "failed": [],
        }


async def test_several_copies_of_one_file_are_not_laid_over_one_another(tmp_path: Path) -> None:
    """Of several copies of one file all but the last would be lost when each is to be kept."""
    async with conflicts(tmp_path, "one", "two", "one") as mount:
        documents = conflict_documents(mount.volumes, ALL)
        with pytest.raises(Usage, match="2 copies are beside /m/b/one"):
            await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b/one", Keep.MINE, everything=False)
        done = await resolve_conflicts(mount.volumes, mount.vfs, ALL, "", Keep.MINE, everything=True)
        assert [document["original"] for document in done["resolved"]] == ["/m/b/two"]
        assert {document["error"] for document in done["failed"]} == {"several copies would take this name"}
        assert len(await mount.names("b")) == 4, "no copy is gone"
        await resolve_conflicts(mount.volumes, mount.vfs, ALL, documents[0]["copy"][3:], Keep.MINE, everything=False)
        assert await mount.read("b/one") == b"mine 0"
        await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b/one", Keep.THEIRS, everything=False)
        assert await mount.names("b") == ["one", "two"] and await mount.read("b/one") == b"mine 0"


async def test_one_that_cannot_be_settled_keeps_no_other(tmp_path: Path) -> None:
    """One conflict that cannot be resolved would leave all the others unresolved, or be reported as done."""
    async with conflicts(tmp_path, "one", "two") as mount:
        await mount.vfs.unlink(await mount.inode("b"), b"one", ME)
        await mount.vfs.mkdir(await mount.inode("b"), b"one", 0o755, ME)
        with pytest.raises(IsADirectory):
            await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b/one", Keep.MINE, everything=False)
        done = await resolve_conflicts(mount.volumes, mount.vfs, ALL, "b", Keep.MINE, everything=True)
        assert [document["original"] for document in done["resolved"]] == ["/m/b/two"]
        assert [(document["original"], document["hint"]) for document in done["failed"]] == [
            ("/m/b/one", "move it away, or keep both")
        ]


def test_paths_of_a_mount_of_one_folder() -> None:
    """A mount of a subfolder would show conflicts and events under paths that do not exist, or hide its own."""
    where = MountPaths(Path("/m"), True, "docs/new")
    assert [where.inside(b"", path) for path in ("docs/new/a", "docs/new", "docs", "", "docs/newer", "x")] == [
        "a",
        "",
        "",
        "",
        None,
        None,
    ]
    one = MountPaths(Path("/m"), True, "")
    assert (one.inside(b"", "a/b"), one.inside(b"", ""), one.absolute("")) == ("a/b", "", "/m")
    assert (ALL.inside(b"b", "a"), ALL.inside(b"b", ""), ALL.absolute("b/a")) == ("b/a", "b", "/m/b/a")
