"""A replay whose base is lost: somebody has pushed since, the Hub has collected the old tree, and nothing of it is kept here.

Then the folders that nobody has count as empty, for this replay and the rebase that follows it, so that everything else is taken
in. In such a folder

- what was made or written as a whole here is as new: it stands beside what the Hub has at its name by now, if that is another;
- what was written to a part of a file cannot be told from what was there: its bytes are set aside in the journal's folder;
- a removal, a rename or another mode of something that was there before cannot be done any more, and each is said.

What the Hub's newest tree still names is not lost but damaged there, and may be mended: changes of it wait (see `stuck`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bucketfs.errors import Corrupt, NotADirectory, NotFound
from bucketfs.ops import Create, MakeDirectory, MakeSymlink, Op, Place, Remove, SetContent
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.deferred import paths_of
from bucketfs.vfs.tree.namespace import DEFAULT_MODE
from bucketfs.vfs.tree.node import DirectoryNode, FileNode
from bucketfs.vfs.tree.volume import Volume


async def find_lost(base_tree: BaseTree, base: Cid, theirs: Cid, ops: Iterable[Op]) -> list[str]:
    """Find the folders of ``base`` that ``ops`` need, nobody has, and the Hub's newest tree ``theirs`` does not name; have the tree
    take them for empty. Their paths. Raises Unavailable, TimedOut."""
    if base == theirs:
        return []
    lost: list[str] = []
    folders: dict[str, Cid | None] = {}
    # The root is needed even when nothing waits.
    needed = {""} | {parent for op in ops for path in paths_of(op) for parent in _folders(path)}
    for path in sorted(needed, key=lambda path: path.count("/") if path else -1):
        cid = folders[path] = await _below(base_tree, folders.get(path.rpartition("/")[0]), path) if path else base
        # The Hub's tree is looked at only where it matters: a start must not wait for what it does not need.
        if cid is not None and await _entries(base_tree, cid) is None and await _at(base_tree, theirs, path) != cid:
            base_tree.lost.add(cid)
            lost.append(path)
    return lost


async def _below(base_tree: BaseTree, folder: Cid | None, path: str) -> Cid | None:
    """What a folder has at the last name of a path."""
    entries = None if folder is None else await _entries(base_tree, folder)
    link = (entries or {}).get(path.rpartition("/")[2].encode())
    return None if link is None else link.cid


async def _at(base_tree: BaseTree, root: Cid, path: str) -> Cid | None:
    """What a tree has at a path."""
    cid: Cid | None = root
    for name in path.split("/") if path else []:
        cid = await _below(base_tree, cid, name)
    return cid


async def _entries(base_tree: BaseTree, cid: Cid) -> Mapping[bytes, Link] | None:
    """The names of a folder, None when nobody has it. What is there and no folder has none."""
    try:
        return (await base_tree.load(lambda: base_tree.directory(cid))).entries
    except (Corrupt, NotFound):
        return None
    except NotADirectory:
        return {}


def _folders(path: str) -> list[str]:
    """The folders above a path, the root first."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(len(names))]


def prepare(volume: Volume, op: Op) -> None:
    """Make what ``op`` needs, a folder or the file itself, where it was in a folder that is lost. An attempt. Raises NotFound for
    part of a file that is lost, and for what was removed."""
    if not isinstance(op, Create | MakeDirectory | MakeSymlink | Place | SetContent | Remove):
        return
    above, _, name = op.path.rpartition("/")
    at: DirectoryNode = volume.root
    lost = _is_lost(at)
    for part in above.split("/") if above else []:
        found = volume.find(at, part.encode())
        if found is None and lost and not isinstance(op, Remove):
            found = DirectoryNode(volume, volume.numbers.fresh(), None, NO_ATTRIBUTES, op.time_ns, op.time_ns)
            _put(at, part, found, op.time_ns)
        if not isinstance(found, DirectoryNode):
            return
        at, lost = found, lost or _is_lost(found)
    if isinstance(op, SetContent | Remove) and lost and volume.find(at, name.encode()) is None:
        if isinstance(op, Remove):
            raise NotFound("nobody knows any more what it was; if the Hub has it, it is back")
        if op.lower_limit_bytes:
            raise NotFound("it was written in part, and nobody has the rest any more")
        _put(at, name, FileNode(volume, volume.numbers.fresh(), None, NO_ATTRIBUTES, op.time_ns, op.time_ns, 0), op.time_ns)


def _is_lost(directory: DirectoryNode) -> bool:
    return directory.link is not None and directory.link.cid in directory.volume.base_tree.lost


def _put(parent: DirectoryNode, name: str, node: FileNode | DirectoryNode, time_ns: int) -> None:
    node.attributes = NodeAttributes(mode=DEFAULT_MODE[node.kind], mtime_ns=time_ns)
    node.volume.place(parent, name.encode(), node, time_ns)
    node.touch()
