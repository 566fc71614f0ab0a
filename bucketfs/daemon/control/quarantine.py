"""The quarantined changes of a mount, as documents, and exporting them: what ``bucketfs recover`` asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator

from bucketfs.daemon.buckets import OpenVolume, Volumes
from bucketfs.daemon.control.mount_paths import MountPaths, is_under
from bucketfs.daemon.host import Document
from bucketfs.disk import make_private_folder
from bucketfs.errors import BucketfsError, InvalidArgument


def quarantine_documents(volumes: Volumes, paths: MountPaths, asked: str = "") -> list[Document]:
    """Every quarantined change of the buckets at, above or below ``asked``, a path inside the mount: the path in the bucket, and
    what was done to it."""
    return [
        {"bucket": one.info.name, "key": str(one.info.key), "path": path, "change": change}
        for one in _chosen(volumes, paths, asked)
        for path, change in one.journal.quarantine.by_path().items()
    ]


async def export_quarantine(volumes: Volumes, paths: MountPaths, asked: str, target: str) -> Document:
    """Write what is quarantined in these buckets into folders of ``target``, one for each bucket. The answer has what was
    ``exported`` and what ``failed``, with why. Raises InvalidArgument for a path that is not whole, NoSpace, DiskFailed."""
    if not os.path.isabs(target):
        raise InvalidArgument(f"{target!r} is not a whole path")
    exported: list[Document] = []
    failed: list[Document] = []
    for one in _chosen(volumes, paths, asked):
        folder = f"{target}/{one.name.decode() or one.info.key}"
        document: Document = {"bucket": one.info.name, "key": str(one.info.key), "folder": folder}
        try:
            make_private_folder(target)
            document["files"] = await one.scheduler.export_quarantine(folder)
        except BucketfsError as error:
            failed.append(document | {"error": str(error), "hint": error.hint})
        else:
            exported.append(document)
    return {"exported": exported, "failed": failed}


def _chosen(volumes: Volumes, paths: MountPaths, asked: str) -> Iterator[OpenVolume]:
    for one in list(volumes.open.values()):
        top = paths.inside(one.name, "") or ""
        if len(one.journal.quarantine) and (is_under(asked, top) or is_under(top, asked)):
            yield one
