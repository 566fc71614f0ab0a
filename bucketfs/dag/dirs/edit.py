"""Editing one directory, or many paths of a tree at once.

What a directory's CID depends on: its entries, its attributes and the fields kept for others, never the way it came about.
It is sharded when its links-bytes (the bytes of all names and CIDs) are more than SHARD_THRESHOLD, plain otherwise: Kubo's
and Helia's default estimate. An edit that changes nothing gives back the very directory, in whatever form it was written.

Of a tree, each directory on the way is read once and written once.

The changes are laid out as a tree of their own. Going down, level by level, the directories that it names are found; going
up, each is edited with what became of its children. Both passes ask for all blocks of a level together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bucketfs.dag.codec import DAG_PB, Built, UnixFs, UnixFsType, built_node, codec_of, encode_unixfs, with_attributes
from bucketfs.dag.dirs.directory import (
    OpenDirectory,
    decode_directory,
    empty_directory,
    entries_named,
    open_directory,
    plain_entries,
    resolve,
)
from bucketfs.dag.dirs.hamt import ShardEditor, all_entries, links_bytes
from bucketfs.dag.steps import fetch_one, gather
from bucketfs.errors import NotADirectory, NotFound
from bucketfs.names import check_name
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

SHARD_THRESHOLD = 262_144
"""Links-bytes above which a directory is sharded (equal stays plain)."""

TreePath = tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class _Edit:
    """A path that changes, or that has changes below it.

    ``base`` is what stands there before the changes below: the link given for this very path, or the original's.
    """

    path: TreePath
    replaced: bool = False
    base: Link | None = None
    attributes: NodeAttributes | None = None
    below: dict[bytes, _Edit] = field(default_factory=dict)
    result: Link | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing has to be looked up: what stands here is what was given."""
        return not self.below and self.attributes is None


def edit_tree(
    root: Cid | None,
    changes: Mapping[TreePath, Link | None],
    attributes: Mapping[TreePath, NodeAttributes] | None = None,
    *,
    cid_version: int = 1,
    threshold: int = SHARD_THRESHOLD,
) -> Steps[Built]:
    """The tree ``root`` (None: an empty directory) with links set at paths, or removed where a change is None.

    A change is applied before those below its path, so a directory can be put somewhere and changed inside in one go; the
    driver must know its blocks. Missing parents of what is set are made; removing what is not there changes nothing, and
    directories that become empty stay. ``attributes`` replaces those of files, directories and symlinks at paths, after all else.

    Raises NotADirectory when something is set below a file, NotFound for attributes of nothing, and what ``edit_directory``
    raises.
    """
    levels = _lay_out(root, changes, attributes or {})
    blocks: dict[Cid, bytes] = {}
    for level in levels:
        yield from gather([_look_below(edit) for edit in level if edit.below], blocks)
    made: dict[Cid, bytes] = {}
    for level in reversed(levels):
        edits = [_carry_out(edit, cid_version=cid_version, threshold=threshold) for edit in level if not edit.is_final]
        for built in (yield from gather(edits, blocks)):
            made |= built.blocks
    top = levels[0][0]
    if top.result is None:
        empty = empty_directory(cid_version=cid_version)
        return Built(empty.link, made | dict(empty.blocks))
    if top.result.tsize < 0:
        return Built((yield from resolve(top.result.cid, ())) or top.result, made)
    return Built(top.result, made)


def _lay_out(
    root: Cid | None, changes: Mapping[TreePath, Link | None], attributes: Mapping[TreePath, NodeAttributes]
) -> list[list[_Edit]]:
    """The edits of all paths, by depth; the first level is the root alone."""
    top = _Edit(())
    levels = [[top]]
    if root is not None:
        # The cumulative size is computed when the block comes by.
        top.base = top.result = Link(root, -1)
    for path in sorted([*changes, *attributes], key=len):
        edit = top
        for depth, name in enumerate(path, start=1):
            if name not in edit.below:
                edit.below[name] = _Edit(path[:depth])
                if depth == len(levels):
                    levels.append([])
                levels[depth].append(edit.below[name])
            edit = edit.below[name]
        if path in changes:
            edit.replaced = True
            edit.base = edit.result = changes[path]
        if path in attributes:
            edit.attributes = attributes[path]
    return levels


def _look_below(edit: _Edit) -> Steps[None]:
    """Find what stands at the children of a path, where that is not given and is needed."""
    names = [name for name, child in edit.below.items() if not child.replaced and not child.is_final]
    if edit.base is None:
        return
    block = b"" if codec_of(edit.base.cid) != DAG_PB else (yield from fetch_one(edit.base.cid))
    directory = decode_directory(edit.base.cid, block)
    if directory is None:
        if _sets_anything(edit):
            raise NotADirectory(f"{_shown(edit.path)} is not a directory")
        # Only removals: there is nothing to remove below a file.
        edit.below.clear()
        return
    edit.base = edit.base if edit.path else directory.link
    found = yield from entries_named(directory, names)
    for name in names:
        edit.below[name].base = edit.below[name].result = found.get(name)


def _sets_anything(edit: _Edit) -> bool:
    """Whether something below a path is more than a removal."""
    waiting = list(edit.below.values())
    while waiting:
        child = waiting.pop()
        if child.attributes is not None or (child.replaced and child.result is not None):
            return True
        waiting += child.below.values()
    return False


def _carry_out(edit: _Edit, *, cid_version: int, threshold: int) -> Steps[Built]:
    """What becomes of a path with changes below it or new attributes; its children are done."""
    base = edit.base
    if base is not None and base.tsize < 0:
        base = yield from resolve(base.cid, ())
    below = {name: child.result for name, child in edit.below.items() if child.replaced or child.result != child.base}
    if base is None:
        below = {name: link for name, link in below.items() if link is not None}
        if not below:
            if edit.attributes is not None:
                raise NotFound(f"{_shown(edit.path)} does not exist: it can have no attributes")
            return Built(Link(Cid(b""), 0))
    block = b"" if base is None or edit.below else (yield from fetch_one(base.cid))
    if base is None or edit.below or decode_directory(base.cid, block) is not None:
        cid = None if base is None else base.cid
        built = yield from edit_directory(cid, below, edit.attributes, cid_version=cid_version, threshold=threshold)
    else:
        built = with_attributes(base.cid, block, edit.attributes or NO_ATTRIBUTES, base.tsize)
    edit.result = built.link
    return built


def _shown(path: TreePath) -> str:
    return "/" + b"/".join(path).decode(errors="replace")


# One directory


def edit_directory(
    cid: Cid | None,
    changes: Mapping[bytes, Link | None],
    attributes: NodeAttributes | None = None,
    *,
    cid_version: int = 1,
    threshold: int = SHARD_THRESHOLD,
) -> Steps[Built]:
    """The directory ``cid`` (None: an empty one) with entries set, or removed where a change is None.

    ``attributes`` None keeps those it has. Entries with impossible names stay, unless a change removes them. The result holds the
    new link and new blocks only. Removing a name that is not there changes nothing. ``cid_version`` and ``threshold`` are for
    tests against other writers.
    Raises NotADirectory, Corrupt, and NameInvalid or NameTooLong for a name that is to be set.

    The cost of editing a sharded directory is in proportion to the change. Only when its links-bytes shrink, other shards
    are read too, until they add up to more than the threshold.
    """
    for name, link in changes.items():
        if link is not None:
            check_name(name)
    original = None if cid is None else (yield from open_directory(cid))
    form = _Form(cid_version, threshold)
    if original is None:
        message = UnixFs(UnixFsType.DIRECTORY).with_attributes(attributes or NO_ATTRIBUTES)
        return _build({name: link for name, link in changes.items() if link is not None}, message, form)
    message = original.message.with_attributes(original.message.attributes if attributes is None else attributes)
    same_message = encode_unixfs(message) == encode_unixfs(original.message)
    if original.sharded:
        return (yield from _edit_sharded(original, changes, message, form, same_message))
    entries = plain_entries(original.links)
    effective = _effective(entries, changes)
    if same_message and not effective:
        return Built(original.link)
    return _build(_applied(entries, effective), message, form)


@dataclass(frozen=True, slots=True)
class _Form:
    """How directories are to be written."""

    cid_version: int
    threshold: int


def _effective(entries: Mapping[bytes, Link], changes: Mapping[bytes, Link | None]) -> dict[bytes, Link | None]:
    """The changes that change something."""
    return {name: link for name, link in changes.items() if entries.get(name) != link}


def _applied(entries: Mapping[bytes, Link], changes: Mapping[bytes, Link | None]) -> dict[bytes, Link]:
    applied = dict(entries)
    for name, link in changes.items():
        if link is None:
            applied.pop(name, None)
        else:
            applied[name] = link
    return applied


def _build(entries: Mapping[bytes, Link], message: UnixFs, form: _Form) -> Built:
    """A directory from all its entries, with what ``message`` says besides."""
    if sum(links_bytes(name, link) for name, link in entries.items()) > form.threshold:
        # A shard has no place for the empty name, which means a child shard there; no path leads to it.
        entries = {name: link for name, link in entries.items() if name}
        return ShardEditor(cid_version=form.cid_version).edit({}, entries, message)
    plain = replace(message, type=UnixFsType.DIRECTORY, data=b"", filesize=None, hash_type=None, fanout=None)
    return built_node(plain, [(link.cid, name, link.tsize) for name, link in entries.items()], form.cid_version)


def _edit_sharded(
    original: OpenDirectory, changes: Mapping[bytes, Link | None], message: UnixFs, form: _Form, same_message: bool
) -> Steps[Built]:
    top = original.shard()
    editor = ShardEditor(top.fanout, form.cid_version)
    existing = yield from editor.load(top, changes)
    effective = _effective(existing, changes)
    if same_message and not effective:
        return Built(original.link)
    old = sum(links_bytes(name, existing[name]) for name in effective if name in existing)
    new = sum(links_bytes(name, link) for name, link in effective.items() if link is not None)
    if new < old:
        # The directory may be plain again. Its old entries may add up to the threshold and what is taken away from them.
        entries = yield from all_entries(top, loaded=editor.loaded, budget=form.threshold + old - new)
        if entries is not None:
            return _build(_applied(dict(entries), effective), message, form)
    return editor.edit(top.buckets, effective, message)
