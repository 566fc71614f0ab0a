"""What the commands about buckets print, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bucketfs.cli.printing import listed_name, moment_text, print_json, print_line, print_table, quoted_name
from bucketfs.cli.progress import ProgressLine
from bucketfs.client import BucketInfo, PathItem
from bucketfs.dag import RAW, cid_text, codec_of, node_info
from bucketfs.errors import Refused
from bucketfs.keys import thread_text
from bucketfs.remote import NodeSource
from bucketfs.transfer import Figures
from bucketfs.types import Kind

NODES_PER_ASK = 32
"""How many root blocks ``ls -l`` asks for at once: the root block of a small file is the whole file."""


def print_bucket(info: BucketInfo, as_json: bool) -> None:
    """One bucket."""
    if as_json:
        print_json(_bucket_document(info), indent=None)
        return
    for name, value in _bucket_document(info).items():
        # People get a time and no number of nanoseconds.
        print_line(f"{name.removesuffix('_ns').replace('_', ' '):<12}{_value_text(value)}")


def print_buckets(buckets: Sequence[BucketInfo], as_json: bool) -> None:
    """A table of buckets."""
    ordered = sorted(buckets, key=lambda info: (info.name, info.created_at_ns))
    if as_json:
        print_json([_bucket_document(info) for info in ordered], indent=None)
        return
    rows = [
        [
            listed_name(info.name) if info.name else "-",
            info.key,
            _known_time(info.updated_at_ns),
            *(["private"] if info.private else []),
        ]
        for info in ordered
    ]
    print_table(rows, separator="\t")


def _bucket_document(info: BucketInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "key": info.key,
        "root": cid_text(info.root),
        "thread": thread_text(info.thread),
        "owner": info.owner,
        "private": info.private,
        "created_at_ns": info.created_at_ns,
        "updated_at_ns": info.updated_at_ns,
    }


def entry_document(item: PathItem) -> dict[str, Any]:
    """What the Hub's listing says of an entry."""
    return {
        "name": item.name,
        "kind": (Kind.DIRECTORY if item.is_directory else Kind.FILE).value,
        "cid": cid_text(item.cid),
        "dag_size_bytes": item.tsize,
        "updated_at_ns": item.updated_at_ns,
    }


async def add_attributes(source: NodeSource, items: Sequence[PathItem], documents: Sequence[dict[str, Any]]) -> None:
    """Add to the documents what only the root blocks say: kind, mode, mtime, size, target."""
    for start in range(0, len(items), NODES_PER_ASK):
        window = items[start : start + NODES_PER_ASK]
        nodes = await source.get_many([item.cid for item in window if codec_of(item.cid) != RAW])
        for item, document in zip(window, documents[start : start + NODES_PER_ASK], strict=True):
            if item.cid not in nodes:
                document["size_bytes"] = item.tsize
                continue
            info = node_info(item.cid, nodes[item.cid])
            document |= {"kind": info.kind.value, "mode": info.attributes.mode, "mtime_ns": info.attributes.mtime_ns}
            document["size_bytes"] = info.size_bytes
            if info.target is not None:
                document["target"] = info.target.decode(errors="surrogateescape")


_LETTERS = {Kind.DIRECTORY.value: "d", Kind.SYMLINK.value: "l", Kind.FILE.value: "-"}


def print_entries(documents: Sequence[dict[str, Any]], long: bool, as_json: bool) -> None:
    """The entries of a folder."""
    if as_json:
        print_json(documents, indent=None)
    elif long:
        print_table([_long_row(document) for document in documents], separator=" ", formats={1: ">14"})
    else:
        for document in documents:
            print_line(_entry_name(document))


def _entry_name(document: dict[str, Any]) -> str:
    return listed_name(document["name"]) + ("/" if document["kind"] == Kind.DIRECTORY.value else "")


def _long_row(document: dict[str, Any]) -> tuple[str, ...]:
    mode, mtime_ns = document.get("mode"), document.get("mtime_ns")
    return (
        f"{_LETTERS[document['kind']]}{'    ' if mode is None else f'{mode:04o}'}",
        str(document.get("size_bytes", document["dag_size_bytes"])),
        _known_time(document["updated_at_ns"]) if mtime_ns is None else moment_text(mtime_ns),
        _entry_name(document) + (f" -> {listed_name(document['target'])}" if "target" in document else ""),
    )


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _known_time(value) if isinstance(value, int) else str(value)


def _known_time(time_ns: int) -> str:
    """The Hub says 0 where it has no time."""
    return moment_text(time_ns) if time_ns else "-"


class TransferProgress(ProgressLine):
    """How far a push or pull is; for programs nothing is shown."""

    def __init__(self, activity: str, as_json: bool) -> None:
        super().__init__(quiet=as_json)
        self._activity = activity

    def update(self, figures: Figures) -> None:
        """Show the figures as they are now."""
        self.show(f"{self._activity}: {figures.files + figures.symlinks} files", figures.bytes_done)


def print_outcome(figures: Figures, as_json: bool) -> None:
    """The last line of a push or pull. Raises Refused when something was left out."""
    if as_json:
        document = {
            "root": cid_text(figures.root) if figures.root else None,
            "files": figures.files,
            "folders": figures.folders,
            "symlinks": figures.symlinks,
            "unchanged": figures.unchanged,
            "removed": figures.removed,
            "bytes_done": figures.bytes_done,
            "bytes_sent": figures.sent.bytes_sent,
            "skipped": [{"path": item.path, "reason": item.reason} for item in figures.skipped],
        }
        print_json(document, indent=None)
    else:
        print_line(_summary(figures))
        for item in figures.skipped:
            print_line(f"left out: {quoted_name(item.path)}: {item.reason}", err=True)
    if figures.skipped:
        raise Refused(f"{len(figures.skipped)} left out, the rest is done")


def _summary(figures: Figures) -> str:
    parts = [f"{figures.files} files", f"{figures.folders} folders", f"{figures.unchanged} unchanged"]
    if figures.symlinks:
        parts.append(f"{figures.symlinks} symlinks")
    if figures.removed:
        parts.append(f"{figures.removed} removed")
    if figures.sent.bytes_sent:
        parts.append(f"{figures.sent.bytes_sent} bytes sent")
    return ", ".join(parts)
