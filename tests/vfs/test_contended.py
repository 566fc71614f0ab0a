"""A bucket that somebody else pushes to again and again: a push that lost the swap is quicker the next time."""

import random
from pathlib import Path

from world import MemoryRemote, World

from bucketfs.sync import Pusher

SIZE = 1_000_000


def pusher_of(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append)  # type: ignore[arg-type]


async def test_a_push_that_lost_the_swap_builds_only_what_changed_since(tmp_path: Path) -> None:
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    world = await World(tmp_path / "world", remote).open()
    bodies = {name: random.Random(number).randbytes(SIZE) for number, name in enumerate("abcd")}
    for name, body in bodies.items():
        await world.write(name, body)
    true_swap, lost = remote.swap, 0

    async def late(*arguments: object) -> None:
        """The other one is quicker, three times; meanwhile one of the files here is written to and another's mode is changed."""
        nonlocal lost
        if lost < 3:
            lost += 1
            remote.swap = true_swap  # type: ignore[method-assign]
            await pusher_of(other).follow(remote.at)
            await other.write(f"theirs {lost}", b"x")
            await pusher_of(other).push()
            remote.swap = late  # type: ignore[assignment, method-assign]
            if lost == 2:
                bodies["a"] = b"changed" + bodies["a"][7:]
                await world.write("a", b"changed", truncate=False)
                await world.chmod("b", 0o600)
        await true_swap(*arguments)  # type: ignore[arg-type]

    remote.swap = late  # type: ignore[assignment, method-assign]
    pusher = pusher_of(world)
    done = await pusher.push()
    assert done is not None and lost == 3 and done.conflicts == []
    # Four files, then the two that changed, and folders.
    assert 6 * SIZE < pusher.total.bytes_made < 6.1 * SIZE
    wanted = bodies | {f"theirs {number}": b"x" for number in (1, 2, 3)}
    assert await world.tree() == wanted
    await pusher_of(other).follow(remote.at)
    assert await other.tree() == wanted
    for one in (world, other):
        one.close()
