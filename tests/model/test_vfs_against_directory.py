"""Random histories on the VFS and on a real directory: the same answers, the same trees, whatever is pushed or killed between.

Names are few, so that they collide. A push, a push that fails, checksums for what waits, a kill with a restart, and the loss of the
cache come at any point, and must not be seen in the tree.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.histories import bodies, limits, paths, run_step
from support.memory_remote import MemoryRemote, lose_the_answer, nothing
from support.world import World

from bucketfs.errors import Unavailable
from bucketfs.sync import Pusher
from bucketfs.vfs import BatchLimits, RenameFlags, queue_recovered, seal

steps = st.one_of(
    st.tuples(st.just("write"), paths, bodies, st.sampled_from([0, 0, 3, 262_144, 700_000]), st.booleans()),
    st.tuples(st.just("truncate"), paths, st.sampled_from([0, 2, 262_144, 300_000])),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o644, 0o755])),
    st.tuples(st.just("push")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("during"), paths, bodies),
    st.tuples(st.just("lost"), paths, bodies),
    st.tuples(st.just("seal")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("forget")),
)


class Reference:
    """The same verbs on a real directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def do(self, step: tuple[object, ...]) -> int:
        """The errno, 0 when it worked."""
        try:
            self._do(*step)  # type: ignore[arg-type]
        except OSError as error:
            return error.errno or -1
        return 0

    def _do(self, verb: str, *arguments: object) -> None:
        at = str(self._folder / str(arguments[0]))
        if verb == "write":
            _, body, offset, truncate = arguments
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_TRUNC if truncate else 0)
            file = os.open(at, flags, 0o644)
            try:
                os.pwrite(file, body, offset)  # type: ignore[arg-type]
            finally:
                os.close(file)
        elif verb == "truncate":
            if os.path.islink(at):
                raise OSError(errno.EISDIR, "not a file")
            os.truncate(at, arguments[1])  # type: ignore[arg-type]
        elif verb == "mkdir":
            os.mkdir(at)
        elif verb == "unlink":
            os.unlink(at)
        elif verb == "rmdir":
            os.rmdir(at)
        elif verb == "rename":
            os.rename(at, self._folder / str(arguments[1]))
        elif verb == "symlink":
            os.symlink("target", at)
        elif verb == "chmod" and not os.path.islink(at):
            os.chmod(at, arguments[1])  # type: ignore[arg-type]

    def tree(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for root, folders, files in os.walk(self._folder):
            for name in [*folders, *files]:
                path = Path(root) / name
                key = str(path.relative_to(self._folder))
                mode = path.lstat().st_mode & 0o7777
                if path.is_symlink():
                    found[key] = ("-> " + os.readlink(path), 0o777)
                elif path.is_dir():
                    found[key] = (None, mode)
                else:
                    found[key] = (path.read_bytes(), mode)
        return found


def plain(tree: dict[str, tuple[object, int, int]]) -> dict[str, object]:
    return {path: (data, mode) for path, (data, mode, _) in tree.items()}


# What the kernel decides before the file system is asked differs from what we are asked for; these pairs mean the same refusal.
SAME = {
    frozenset({errno.ELOOP, errno.EISDIR}),
    frozenset({errno.ENOTDIR, errno.ELOOP}),
    frozenset({errno.ENOTDIR, errno.ENOENT}),  # through a link that leads nowhere
    frozenset({errno.EISDIR, errno.ENOTEMPTY}),  # a file onto the directory that it is in
}


async def history(folder: Path, steps: list[tuple[object, ...]], limits: BatchLimits) -> None:
    (folder / "real").mkdir()
    reference = Reference(folder / "real")
    remote = MemoryRemote()
    world = await World(folder / "world", remote).open()
    for verb, *arguments in steps:
        pusher = world.pusher(limits=limits)
        if verb == "push":
            done = await pusher.push()
            assert done is None or not done.conflicts
            assert not world.volume.root.dirty
        elif verb == "fail":
            remote.away = True
            try:
                await pusher.push()
            except Unavailable:
                assert world.volume.root.dirty
            remote.away = False
        elif verb == "during":
            await push_with_changes(world, pusher, reference, arguments)
        elif verb == "lost":
            await push_with_changes(world, pusher, reference, arguments, lost=True)
        elif verb == "kill":
            world.close()
            source = world.source
            world = World(folder / "world", remote)
            world.source = source
            await world.open()
            assert world.quarantined == []
            queue_recovered(world.volume)
        elif verb == "seal":
            await seal(world.volume, 0)
        elif verb == "forget":
            world.source.forget()
        else:
            expected = reference.do((verb, *arguments))
            got = await run_step(world, str(verb), tuple(arguments))
            assert got == expected or frozenset({got, expected}) in SAME, (verb, arguments[0], got, expected)
    assert plain(await world.stat_tree()) == reference.tree()
    await world.pusher().push()
    before = await world.stat_tree()
    world.close()
    other = await World(folder / "other", remote).open()
    assert await other.stat_tree() == before
    other.close()


async def push_with_changes(
    world: World, pusher: Pusher, reference: Reference, arguments: list[object], lost: bool = False
) -> None:
    """A push, with a removal, a write and a rename between its upload and its swap, whose answer may be lost."""
    remote = world.remote

    async def change() -> None:
        remote.before_swap = nothing
        path, body = arguments
        for step in [("unlink", path), ("write", path, body, 1, False), ("rename", path, "b"), ("rmdir", "c")]:
            verb, *rest = step
            expected = reference.do(step)
            got = await run_step(world, str(verb), tuple(rest))
            assert got == expected or frozenset({got, expected}) in SAME, (step, got, expected)
        await seal(world.volume, 0)
        if lost:
            remote.after_swap = lose_the_answer

    remote.before_swap = change
    try:
        done = await pusher.push()
        assert done is None or not done.conflicts
    except Unavailable:
        assert lost and world.volume.root.dirty
    finally:
        remote.before_swap = remote.after_swap = nothing


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25), limits)
def test_vfs_and_a_real_directory_agree(steps: list[tuple[object, ...]], limits: BatchLimits) -> None:
    """A program would get another answer, or find another tree, than in a local folder, perhaps only after a push or a kill."""
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(history, folder, steps, limits)
    finally:
        shutil.rmtree(folder)


def test_rename_flags_are_those_of_the_kernel() -> None:
    """A rename that must not replace would swap two files instead, or the reverse."""
    assert (RenameFlags.NOREPLACE, RenameFlags.EXCHANGE) == (1, 2)
