"""What pushes and pulls of whole folders share: their options, and the figures that tell how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bucketfs.errors import BucketfsError
from bucketfs.remote import Sent
from bucketfs.transfer.local_fs import PLAIN, Preserve
from bucketfs.types import Cid, Kind

Names = tuple[bytes, ...]
"""A path in a bucket."""

SEED_IS_TAKEN = "the Hub keeps a file of its own under this name"


def path_text(path: Names) -> str:
    """A path of a bucket for messages."""
    return b"/".join(path).decode(errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left as it is, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Figures:
    """What a transfer has done so far. Bytes of files count when they are read or written; those sent are of blocks.
    ``progress`` is called with the figures whenever they are worth showing."""

    files: int = 0
    folders: int = 0
    symlinks: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes_done: int = 0
    path: str = ""
    sent: Sent = field(default_factory=Sent)
    skipped: list[Skipped] = field(default_factory=list)
    root: Cid | None = None
    progress: Progress = field(default=lambda figures: None, repr=False, compare=False)

    def count(self, kind: Kind | None) -> None:
        """One more file or symlink."""
        if kind is Kind.SYMLINK:
            self.symlinks += 1
        else:
            self.files += 1

    def bytes_were_done(self, size_bytes: int) -> None:
        """So many bytes more were read or written."""
        self.bytes_done += size_bytes
        self.show()

    def skip(self, path: Names, reason: BucketfsError | str) -> None:
        """A path is left as it is."""
        hint = f"; {reason.hint}" if isinstance(reason, BucketfsError) and reason.hint else ""
        self.skipped.append(Skipped(path_text(path), f"{reason}{hint}"))

    def show(self) -> None:
        """Calls ``progress``."""
        self.progress(self)


Progress = Callable[[Figures], None]


@dataclass(frozen=True, slots=True)
class PushOptions:
    """``attributes`` False leaves mode and mtime out (other clients then see the CIDs they would make themselves);
    ``delete`` removes from the bucket what is not in the folder, and what is of another kind there; ``reread`` reads files whose
    size and mtime are those in the bucket, and offers the Hub the blocks of what is unchanged, in case it lost some; ``into`` makes
    the path of a file that of the folder it goes into, ``exact`` that of itself, also where a folder is.
    """

    attributes: bool = True
    delete: bool = False
    reread: bool = False
    into: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``delete`` removes locally what is not in the bucket, and what is of another kind there; ``reread`` compares files by content
    even if size and mtime agree; ``into`` makes the local path of a file that of the folder it goes into; ``preserve`` says which
    attributes of the bucket files get here.
    """

    delete: bool = False
    reread: bool = False
    into: bool = False
    preserve: Preserve = PLAIN


PUSH_DEFAULTS = PushOptions()
PULL_DEFAULTS = PullOptions()


def unwatched(_figures: Figures) -> None:
    """The progress of a transfer that shows none."""


def left_out(path: Names, impossible: Sequence[bytes]) -> list[Skipped]:
    """What is reported of entries with impossible names. The path is that of their folder: with such a name it would be the path of
    something else."""
    at = path_text(path) or "."
    return [Skipped(at, f"an entry with the name {name[:100]!r}, which no path can have") for name in impossible]
