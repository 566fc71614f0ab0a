"""What another client pushed meets what was changed here: nothing that was acknowledged is lost."""

from pathlib import Path

import pytest
from world import MemoryRemote, World

from bucketfs.errors import Unavailable
from bucketfs.sync import Pusher


def pusher_of(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append)  # type: ignore[arg-type]


async def push(world: World) -> None:
    await pusher_of(world).push()


async def test_a_file_renamed_during_a_push_that_meets_its_own_lost_answer_stays(tmp_path: Path) -> None:
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    world = await World(tmp_path / "world", remote).open()
    await world.mkdir("d")
    await world.mkdir("d/e")
    await world.write("d/e/f", b"precious")
    true_swap = remote.swap

    async def lost(*arguments: object) -> None:
        await true_swap(*arguments)  # type: ignore[arg-type]
        raise Unavailable("the answer is lost")

    async def renamed_meanwhile(*arguments: object) -> None:
        remote.swap = true_swap  # type: ignore[method-assign]
        await world.rename("d/e/f", "d/e/g")
        await true_swap(*arguments)  # type: ignore[arg-type]

    remote.swap = lost  # type: ignore[assignment, method-assign]
    with pytest.raises(Unavailable):
        await push(world)
    remote.swap = true_swap  # type: ignore[method-assign]
    await pusher_of(other).follow(remote.at)
    await other.write("another", b"o")
    await push(other)
    remote.swap = renamed_meanwhile  # type: ignore[assignment, method-assign]
    await push(world)
    wanted = {"another": b"o", "d": None, "d/e": None, "d/e/g": b"precious"}
    assert await world.tree() == wanted
    await pusher_of(other).follow(remote.at)
    assert await other.tree() == wanted
    for one in (world, other):
        one.close()


async def test_a_chmod_of_a_folder_elsewhere_is_not_undone_by_a_file_made_in_it_here(tmp_path: Path) -> None:
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    for name in ("theirs", "ours"):
        await other.mkdir(name)
        await other.write(f"{name}/x", b"x")
    await push(other)
    world = await World(tmp_path / "world", remote).open()
    await world.write("theirs/mine", b"m")
    await world.write("ours/mine", b"m")
    await world.chmod("ours", 0o750)
    await other.chmod("theirs", 0o700)
    await other.chmod("ours", 0o700)
    await push(other)
    await push(world)
    await pusher_of(other).follow(remote.at)
    for one in (world, other):
        modes = {path: value[1] for path, value in (await one.tree(times=True)).items()}  # type: ignore[index]
        assert (modes["theirs"], modes["ours"]) == (0o700, 0o750)
        one.close()
