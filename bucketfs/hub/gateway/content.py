"""Answers with the content of a tree: a file, whole or a range of it, or the index of a folder.

Caching: what is asked for by CID never changes; what is asked for by name is asked for again, and ``ETag`` (the CID) makes that
cheap. RFC 9110 (ranges, conditions), RFC 9111 (caching).
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import quote

from bucketfs.dag import cid_text
from bucketfs.hub.gateway import pages
from bucketfs.hub.trees import BucketTree, Path
from bucketfs.types import Cid, Link

FOREVER = "public, max-age=31536000, immutable"
BY_NAME = "no-cache"
BY_LINK = "private, no-cache"
_SNIFFED_BYTES = 512
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_TYPES = mimetypes.MimeTypes(filenames=())
for _ending, _type in (
    (".js", "application/javascript"),
    (".md", "text/plain"),
    (".webmanifest", "application/manifest+json"),
):
    _TYPES.add_type(_type, _ending)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. ``body`` comes in pieces; its length is in the headers."""

    status: int
    headers: Mapping[str, str]
    body: Iterator[bytes] = field(default_factory=lambda: iter(()), repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants besides a path. Header names are lower case."""

    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    head_only: bool = False
    token: str = field(repr=False, default="")
    as_json: bool = False
    download: bool = False


@dataclass(frozen=True, slots=True)
class ContentPlace:
    """What is at a path of a tree, and how it may be kept by a browser. ``url`` is the quoted path of the request, without a slash
    at its end; ``levels`` how many names of it are inside the tree."""

    tree: BucketTree
    link: Link
    path: Path
    key: bytes | None
    url: str
    caching: str


def page(status: int, body: bytes, caching: str = "no-store", kind: str = "text/html; charset=utf-8") -> Answer:
    """A page of the Hub's own."""
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": caching}
    return Answer(status, headers, iter((body,)))


def answer_place(place: ContentPlace, asked: Asked, title: str) -> Answer:
    """A file or the index of a folder. Raises NotFound, Corrupt."""
    if place.tree.is_directory(place.link.cid):
        etag = f'W/"{cid_text(place.link.cid)}"'
        if _unchanged(asked, etag):
            return _not_modified(etag, place)
        children = place.tree.listing(place.link, b"").children
        body = pages.folder(title, place.url, children, asked.token, top=not place.path)
        found = page(200, body, place.caching)
        return Answer(200, {**found.headers, "ETag": etag}, found.body)
    return _answer_file(place, asked)


def _answer_file(place: ContentPlace, asked: Asked) -> Answer:
    cid = place.link.cid
    etag = f'"{cid_text(cid)}"'
    if _unchanged(asked, etag):
        return _not_modified(etag, place)
    size = place.tree.content_size(cid)
    headers = _file_headers(place, etag) | {"Accept-Ranges": "bytes"}
    wanted = _range(asked, etag, size)
    if wanted is None:
        first, rest = _begun(place.tree.read(cid, place.key))
        start, stop = 0, size
    else:
        start, stop = wanted
        if start >= stop:
            return Answer(416, headers | {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        first, rest = _begun(place.tree.read(cid, place.key, start, stop))
    headers["Content-Length"] = str(stop - start)
    headers["Content-Type"] = _kind(place, cid, first if not start else b"")
    if asked.download and place.path:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(place.path[-1], safe='')}"
    return Answer(200 if wanted is None else 206, headers, iter(()) if asked.head_only else chain((first,), rest))


def _begun(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first piece, read before the status is sent: what cannot be read at all is told by the status."""
    return next(pieces, b""), pieces


def _file_headers(place: ContentPlace, etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": place.caching, "X-Content-Type-Options": "nosniff"}


def _not_modified(etag: str, place: ContentPlace) -> Answer:
    return Answer(304, _file_headers(place, etag))


def _unchanged(asked: Asked, etag: str) -> bool:
    known = asked.headers.get("if-none-match", "")
    bare = etag.removeprefix("W/")
    return known.strip() == "*" or any(one.strip().removeprefix("W/") == bare for one in known.split(","))


def _range(asked: Asked, etag: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that are asked for; ``None`` for all of them. Several ranges are answered by the whole file, as RFC
    9110 allows. An empty range is one that the file has not."""
    match = _RANGE.fullmatch(asked.headers.get("range", "").strip().lower())
    condition = asked.headers.get("if-range", etag).strip()
    if match is None or condition != etag or match.groups() == ("", ""):
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is None:
        return max(size - (last or 0), 0), size
    if last is not None and last < first:
        return None
    return first, size if last is None else min(last + 1, size)


def _kind(place: ContentPlace, cid: Cid, head: bytes) -> str:
    if place.tree.is_symlink(cid):
        return "inode/symlink"
    name = place.path[-1].decode("utf-8", "replace") if place.path else ""
    named, coding = _TYPES.guess_type(name)
    if named is not None and coding is None:
        return f"{named}; charset=utf-8" if named.startswith("text/") or named == "application/javascript" else named
    return _sniffed(head[:_SNIFFED_BYTES])


def _sniffed(head: bytes) -> str:
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    try:
        # The end may be the half of a character.
        text = head.decode("utf-8", "strict" if len(head) < _SNIFFED_BYTES else "ignore")
    except UnicodeDecodeError:
        return "application/octet-stream"
    plain = bool(text) and all(c.isprintable() or c in "\t\n\r\f" for c in text)
    return "text/plain; charset=utf-8" if plain else "application/octet-stream"


_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
