"""The conflicts of a mount, as documents, and resolving them: what ``bucketfs conflicts`` asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from bucketfs.daemon.buckets import OpenVolume, Volumes
from bucketfs.daemon.control.mount_paths import MountPaths, is_under
from bucketfs.daemon.host import Document
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError, NotFound, Usage
from bucketfs.journal import Conflict
from bucketfs.vfs import VFS, Keep


@dataclass(frozen=True, slots=True)
class _Listed:
    """A conflict, and the paths of its two files inside the mount."""

    one: OpenVolume
    conflict: Conflict
    copy: str
    original: str


def conflict_documents(volumes: Volumes, paths: MountPaths, asked: str = "") -> list[Document]:
    """Every conflict at or below ``asked``, a path inside the mount, oldest first in each bucket. ``copy`` and ``original`` are
    absolute paths; ``copy_is`` says whose version the copy is, ``mine`` or ``theirs``; ``root`` is the root that the Hub had then;
    times are seconds since 1970."""
    return [_document(listed, paths) for listed in _listed(volumes, paths, asked)]


def _listed(volumes: Volumes, paths: MountPaths, asked: str) -> Iterator[_Listed]:
    for one in volumes.open.values():
        for conflict in one.volume.pending.conflicts:
            copy, original = paths.inside(one.name, conflict.copy), paths.inside(one.name, conflict.original)
            if copy is not None and original is not None and (is_under(copy, asked) or is_under(original, asked)):
                yield _Listed(one, conflict, copy, original)


def _document(listed: _Listed, paths: MountPaths) -> Document:
    conflict = listed.conflict
    return {
        "bucket": listed.one.info.name,
        "key": str(listed.one.info.key),
        "original": paths.absolute(listed.original),
        "copy": paths.absolute(listed.copy),
        "copy_is": "mine" if conflict.ours else "theirs",
        "root": cid_text(conflict.root),
        "time_s": conflict.time_ns / 1e9,
    }


async def resolve_conflicts(
    volumes: Volumes, vfs: VFS, paths: MountPaths, asked: str, keep: Keep, *, everything: bool
) -> Document:
    """Resolve the conflict whose file or copy is ``asked``, a path inside the mount, or, with ``everything``, all at and below it.

    The answer lists what was ``resolved`` and what ``failed``, with the error. Raises NotFound when there is no conflict, Usage
    when several are meant without ``everything``, and the error when only one is meant.
    """
    chosen = list(_listed(volumes, paths, asked))
    exact = [listed for listed in chosen if asked in (listed.copy, listed.original)]
    chosen = exact or chosen
    place = paths.absolute(asked)
    if not chosen and everything:
        return {"resolved": [], "failed": []}
    if not chosen:
        raise NotFound(f"there is no conflict at {place}", hint="'bucketfs conflicts' lists them")
    if not everything and not exact:
        raise Usage(f"{len(chosen)} conflicts are below {place}", hint="name one, or give --all")
    if not everything and len(exact) > 1:
        raise Usage(f"{len(exact)} copies are beside {place}", hint="name one of them, or give --all")
    resolved: list[Document] = []
    failed: list[Document] = []
    rivals = Counter((listed.one.info.key, listed.original) for listed in chosen if _takes_the_name(listed, keep))
    for listed in chosen:
        document = _document(listed, paths)
        try:
            if rivals[listed.one.info.key, listed.original] > 1 and _takes_the_name(listed, keep):
                raise Usage("several copies would take this name", hint="name the one to keep")
            await vfs.resolve(listed.one.volume, listed.conflict, keep)
        except BucketfsError as error:
            if not everything:
                raise
            failed.append({**document, "error": str(error), "hint": error.hint})
        else:
            resolved.append(document)
    return {"resolved": resolved, "failed": failed}


def _takes_the_name(listed: _Listed, keep: Keep) -> bool:
    return keep is not Keep.BOTH and (keep is Keep.MINE) == listed.conflict.ours
