"""The quarantined changes of a mount, as documents, and exporting them: what ``bucketfs recover`` asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.buckets.volumes import Volumes
from bucketfs.daemon.mount_paths import Where, is_under
from bucketfs.disk import make_private_folder
from bucketfs.errors import BucketfsError, InvalidArgument

Document = dict[str, Any]


def quarantine_documents(volumes: Volumes, where: Where, asked: str = "") -> list[Document]:
    """Every quarantined change of the buckets that ``asked``, a path inside the mount, lies in or above: the path in the bucket,
    and what was done to it."""
    return [
        {"bucket": one.info.name, "key": str(one.info.key), "path": path, "change": change}
        for one in _chosen(volumes, where, asked)
        for path, change in one.journal.quarantine.by_path().items()
    ]


async def export_quarantine(volumes: Volumes, where: Where, asked: str, target: str) -> Document:
    """Write what is quarantined in these buckets into folders of ``target``, one for each bucket. The answer has what was
    ``exported`` and what ``failed``, with why. Raises InvalidArgument for a path that is not whole, NoSpace, DiskFailed."""
    if not os.path.isabs(target):
        raise InvalidArgument(f"{target!r} is not a whole path")
    exported: list[Document] = []
    failed: list[Document] = []
    for one in _chosen(volumes, where, asked):
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


def _chosen(volumes: Volumes, where: Where, asked: str) -> Iterator[OpenVolume]:
    for one in list(volumes.open.values()):
        top = where.inside(one.name, "") or ""
        if len(one.journal.quarantine) and (is_under(asked, top) or is_under(top, asked)):
            yield one
