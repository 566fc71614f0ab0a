"""What BUCKET or BUCKET/PATH on a command line names at the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from bucketfs.cli.printing import quoted_name
from bucketfs.client import BucketInfo, PathItem
from bucketfs.daemon import Session
from bucketfs.errors import NotADirectory, NotFound, Usage
from bucketfs.remote import NativeRemote, NodeSource


async def find_bucket_of(session: Session, text: str) -> BucketInfo:
    """A bucket by its name or key, with or without slashes around it. Raises NotFound, Usage."""
    name = text.strip("/")
    if not name or "/" in name:
        raise Usage(f"{quoted_name(text)} is not a bucket", hint="name a bucket alone, without a path")
    return await session.find_bucket(name)


async def find_target(session: Session, text: str) -> Target:
    """The bucket and path that ``BUCKET/PATH`` names; nothing need be at the path. Raises NotFound, Usage."""
    name, _, path = text.strip("/").partition("/")
    if not name:
        raise Usage(f"{text!r} names no bucket", hint="write BUCKET or BUCKET/PATH")
    parts = [part for part in path.split("/") if part]
    if {".", ".."} & set(parts):
        raise Usage(f"{text!r} is not a path in a bucket", hint="leave out '.' and '..'")
    return Target(session, await find_bucket_of(session, name), "/".join(parts), text)


def names_folder(text: str) -> bool:
    """Whether ``BUCKET/PATH`` is written as a folder: a bucket alone, or a path that ends in a slash."""
    return text.endswith("/") or "/" not in text.strip("/")


@dataclass(frozen=True)
class Target:
    """A path in a bucket. ``text`` is what the user wrote, for messages."""

    session: Session
    bucket: BucketInfo
    path: str
    text: str

    @property
    def shown(self) -> str:
        """What the user wrote, as a part of a line."""
        return quoted_name(self.text)

    @property
    def names(self) -> tuple[bytes, ...]:
        """The path as names in a tree."""
        return tuple(part.encode() for part in self.path.split("/") if part)

    def lineage(self) -> Iterator[str]:
        """The path of the bucket's root, then each folder down to the path itself."""
        yield ""
        yield from ("/".join(self.path.split("/")[: count + 1]) for count in range(len(self.names)))

    async def item(self) -> PathItem:
        """What the Hub says of the path. Raises NotFound, and NotADirectory where the user wrote a slash at the end of a file."""
        try:
            item, _ = await self.session.buckets.list_path(self.bucket.key, self.path)
        except NotFound as error:
            raise NotFound(f"no such file or folder: {self.shown}") from error
        if self.text.endswith("/") and not item.is_directory:
            raise NotADirectory(f"{self.shown} is no folder", hint="leave out the slash at the end")
        return item

    async def is_native(self) -> bool:
        """Whether the content can be read and written as blocks (`Session.is_native`)."""
        return await self.session.is_native(self.bucket)

    async def need_native(self) -> None:
        """Raises Unsupported where it cannot."""
        await self.session.need_native(self.bucket)

    @cached_property
    def remote(self) -> NativeRemote:
        """The bucket as a tree of blocks under a root."""
        return self.session.remote(self.bucket)

    @cached_property
    def source(self) -> NodeSource:
        """The bucket's blocks."""
        return NodeSource(self.remote)
