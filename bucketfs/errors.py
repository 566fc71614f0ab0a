"""The one tree of errors.

::

    BucketfsError
    ├── Refused                     the request itself cannot be done
    │   ├── NotFound   Exists   NotEmpty   NotADirectory   IsADirectory   CrossDevice   Busy
    │   ├── Denied (EACCES)   NotPermitted (EPERM)   ReadOnly   Stale
    │   ├── NameInvalid   NameTooLong   InvalidArgument   Unsupported   TooLarge
    │   └── Usage                   bad input of a command or a configuration: one line, exit code 2
    ├── Hub                         what a Hub answered
    │   ├── Unauthenticated         key, secret, signature, session or token is not accepted
    │   ├── RootMoved               a compare-and-swap met another root; sync expects it, users never see it
    │   ├── BlocksMissing           a swap named blocks that the Hub lacks (``cids``)
    │   └── OverQuota               a limit of the owner is used up
    └── Trouble                     the request was fine; something below us is not
        ├── Unavailable             the Hub cannot be reached, or answered that it cannot serve now; may be retried
        │   └── HubFull             it has no room for more: its disk is full
        ├── TimedOut                a deadline passed; may be retried
        ├── Corrupt                 bytes that are not what their name or checksum says
        ├── NoSpace                 a disk is full
        └── DiskFailed              a disk answered an error
            └── TooManyOpen         the limit of open files is used up (ENFILE)

Foreign errors become these where they enter (client/channel.py, disk.py); these become errnos in mount/errno.py and exit codes
in cli. A message is one line that says what was attempted and on what; the cause travels in ``__cause__``. Messages never
hold secrets.
"""

from __future__ import annotations

from collections.abc import Sequence


class BucketfsError(Exception):
    """Anything bucketfs can explain. ``str()`` is one line for the user; ``hint`` says what to do next, when known."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or type(self).__name__)
        self.hint = hint


class Refused(BucketfsError):
    """The request itself cannot be done."""


class NotFound(Refused):
    """No such name, bucket, thread or block."""


class Exists(Refused):
    """The name is taken."""


class NotEmpty(Refused):
    """The directory or bucket still has entries."""


class NotADirectory(Refused):
    """A directory was needed."""


class IsADirectory(Refused):
    """Something other than a directory was needed."""


class CrossDevice(Refused):
    """A rename or link would cross from one bucket into another."""


class Busy(Refused):
    """The thing is in use: a mount point, a state folder, a bucket that is being pushed."""


class Denied(Refused):
    """The caller's rights do not allow it (EACCES)."""


class NotPermitted(Refused):
    """Not possible here, whoever asks (EPERM): reserved names, changes for root only."""


class ReadOnly(Refused):
    """The mount or the place is read-only."""


class Stale(Refused):
    """The file behind the inode or handle is gone."""


class NameInvalid(Refused):
    """A name that cannot be carried: not UTF-8 (EILSEQ)."""


class NameTooLong(Refused):
    """A name over 255 bytes or a symlink target over 4,095."""


class InvalidArgument(Refused):
    """An argument that makes no sense."""


class Unsupported(Refused):
    """Not offered, by this Hub or by bucketfs."""


class TooLarge(Refused):
    """A size beyond what the format or a limit allows (EFBIG)."""


class Usage(Refused):
    """Bad input to a command or in a configuration file."""


class HubError(BucketfsError):
    """What a Hub answered. ``code`` is the gRPC status name, ``details`` its text."""

    def __init__(self, message: str = "", *, hint: str = "", code: str = "", details: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.details = details


class Unauthenticated(HubError):
    """The key, secret, signature, session or token was not accepted."""


class RootMoved(HubError):
    """The bucket's root is not the expected one."""


class BlocksMissing(HubError):
    """The Hub lacks blocks that the new root needs; ``cids`` names (some of) them, in binary."""

    def __init__(self, message: str = "", *, cids: Sequence[bytes] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint, code="NOT_FOUND")
        self.cids = tuple(cids)


class OverQuota(HubError):
    """A limit of the owner is used up (EDQUOT)."""


class Trouble(BucketfsError):
    """The request was fine; something below us is not."""


class Unavailable(Trouble):
    """The Hub cannot be reached or cannot serve now. May be retried."""


class HubFull(Unavailable):
    """The Hub's disk has no room for more (ENOSPC). May be retried."""


class TimedOut(Trouble):
    """A deadline passed. May be retried."""


class Corrupt(Trouble):
    """Bytes are not what their name or checksum says."""


class NoSpace(Trouble):
    """A disk is full (ENOSPC)."""


class DiskFailed(Trouble):
    """A disk answered an error other than being full (EIO)."""


class TooManyOpen(DiskFailed):
    """The limit of open files is used up (ENFILE). The disk itself is sound; what is closed may be opened again."""
