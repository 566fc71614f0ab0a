"""What the histories of the model tests are made of: few names, so that they collide, and verbs that both sides know."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from support.world import World

from bucketfs.errors import BucketfsError
from bucketfs.mount import errno_of
from bucketfs.vfs import BatchLimits

NAMES = ("a", "b", "c")
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
sizes = st.sampled_from([0, 1, 5, 4096, 262_143, 262_144, 262_145, 600_000])
limits = st.sampled_from([BatchLimits(), BatchLimits(nodes=1), BatchLimits(nodes=3), BatchLimits(bytes=262_144)])
bodies = st.tuples(st.integers(0, 255), sizes).map(lambda pair: bytes([pair[0]]) * pair[1])


async def run_step(world: World, verb: str, arguments: tuple[object, ...]) -> int:
    """One step on the VFS: the errno, 0 when it worked."""
    verbs: dict[str, Callable[..., object]] = {
        "write": world.write,
        "truncate": world.truncate,
        "mkdir": world.mkdir,
        "unlink": world.unlink,
        "rmdir": world.rmdir,
        "rename": world.rename,
        "symlink": lambda path: world.symlink(path, "target"),
        "chmod": world.chmod,
        "utimens": world.utime,
        "remove all of": lambda path: remove_all(world, path),
    }
    try:
        await verbs[verb](*arguments)  # type: ignore[misc]
    except BucketfsError as error:
        return errno_of(error)
    return 0


async def remove_all(world: World, path: str) -> None:
    """As ``rm -r``."""
    below = await world.tree(path)
    for inside, value in reversed(below.items()):
        await (world.rmdir(inside) if value is None else world.unlink(inside))
    await world.rmdir(path)
