"""docs/semantics.md is true: every pair of its table, in both orders, on two mounts without a kernel."""

from __future__ import annotations

from pathlib import Path

from support.memory_remote import MemoryRemote
from support.outcomes import INSIDE, NEW, ON_BOTH, ON_FOLDERS, SAME, Case, alone, cases, difference, needed, outcomes
from support.world import World


def test_the_document_has_every_pair() -> None:
    """A user would find two actions of which docs/semantics.md does not say what becomes of them."""
    told = set(outcomes())
    missing = [
        cell for cell in needed() if cell not in told and (cell[0] == INSIDE or (cell[0], cell[2], cell[1]) not in told)
    ]
    assert missing == []
    assert len(alone()) == 15


def test_only_what_cannot_meet_has_no_outcome() -> None:
    """One verb needs a file at the name, the other a folder."""
    for (relation, row, column), outcome in outcomes().items():
        apart = {row, column} & set(ON_FOLDERS) and {row, column} - {*ON_FOLDERS, *ON_BOTH, *NEW}
        assert (outcome == "-") == bool(relation == SAME and apart), (relation, row, column)


async def run(world: World, steps: tuple[tuple[str, str, tuple[object, ...]], ...]) -> None:
    for verb, path, arguments in steps:
        if verb == "append":
            size = (await world.vfs.getattr(await world.inode(path))).size_bytes
            (data,) = arguments
            assert isinstance(data, bytes)
            await world.write(path, data, offset=size, truncate=False)
        else:
            await getattr(world, verb)(path, *arguments)


async def sync(world: World) -> None:
    pusher = world.pusher()
    await pusher.push()
    if world.volume.base != world.remote.at:
        await pusher.rebaser.follow(world.remote.at)


def below(folder: str, tree: dict[str, tuple[object, int, int]]) -> dict[str, tuple[str, bytes, int, int]]:
    found: dict[str, tuple[str, bytes, int, int]] = {}
    for path, value in tree.items():
        if path.startswith(f"{folder}/"):
            data, mode, mtime_ns = value
            kind, plain = "folder", b""
            if isinstance(data, str):
                kind, plain = "link", data.removeprefix("-> ").encode()
            elif isinstance(data, bytes):
                kind, plain = "file", data
            found[path.removeprefix(f"{folder}/")] = (kind, plain, mode, mtime_ns)
    return found


async def both(tmp_path: Path, every: list[Case], remote: MemoryRemote) -> tuple[World, World]:
    first = await World(tmp_path / "first", remote).open()
    for case in every:
        await run(first, case.prepare)
    await sync(first)
    second = await World(tmp_path / "second", remote).open()
    second.clock.at_ns += 1  # no two things of the two are made in the same nanosecond
    for case in every:
        await run(first, case.first)
        await run(second, case.second)
    return first, second


async def test_every_cell_has_the_outcome_that_is_told(tmp_path: Path) -> None:
    """Two users who changed the same things would get another outcome than docs/semantics.md promises, or different trees."""
    every = cases()
    first, second = await both(tmp_path, every, MemoryRemote())
    for world in (first, second, first):
        await sync(world)
    trees = [await world.stat_tree() for world in (first, second)]
    assert trees[0] == trees[1]
    told = {number: cell for cell, number in zip([c for c, o in outcomes().items() if o != "-"], range(1000), strict=False)}
    wrong = [
        f"{told[index // 2]} {'row' if index % 2 == 0 else 'column'} first: {why}"
        for index, case in enumerate(every)
        if (why := difference(case, below(case.folder, trees[0])))
    ]
    assert wrong == [], "\n".join(wrong)
    for world in (first, second):
        assert not world.volume.root.dirty
        world.close()
