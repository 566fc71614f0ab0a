"""The one table from our errors to errnos.

An errno is all that a program learns, so each row is chosen for what programs do with it: a backup tool skips a file on EACCES
and goes on, stops on ENOSPC, retries nothing on EIO. A Hub that is away is EIO (the README promises that), because callers of
read(2) do not expect ETIMEDOUT and EHOSTUNREACH. ``status`` and the log tell the reason.
"""

from __future__ import annotations

import errno
import logging

from bucketfs import errors

log = logging.getLogger(__name__)

TABLE: dict[type[BaseException], int] = {
    # The request itself cannot be done.
    errors.NotFound: errno.ENOENT,
    errors.Exists: errno.EEXIST,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.CrossDevice: errno.EXDEV,
    errors.Busy: errno.EBUSY,
    errors.Denied: errno.EACCES,
    errors.NotPermitted: errno.EPERM,
    errors.ReadOnly: errno.EROFS,
    errors.Stale: errno.ESTALE,
    errors.NameInvalid: errno.EILSEQ,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.InvalidArgument: errno.EINVAL,
    errors.Unsupported: errno.EOPNOTSUPP,
    errors.TooLarge: errno.EFBIG,
    errors.Usage: errno.EINVAL,
    # What a Hub answered. RootMoved never leaves sync; if it did, that would not be the program's fault.
    errors.Unauthenticated: errno.EACCES,
    errors.RootMoved: errno.EIO,
    errors.BlocksMissing: errno.EIO,
    errors.OverQuota: errno.EDQUOT,
    errors.HubError: errno.EIO,
    # The request was fine; something below us is not.
    errors.Unavailable: errno.EIO,
    errors.HubFull: errno.ENOSPC,
    errors.TimedOut: errno.EIO,
    errors.Corrupt: errno.EIO,
    errors.NoSpace: errno.ENOSPC,
    errors.DiskFailed: errno.EIO,
    errors.TooManyOpen: errno.ENFILE,
}


def errno_of(error: BaseException) -> int:
    """The errno for ``error``: of its class, or of the nearest class above it that has a row.

    A group (from a nursery inside a handler) counts as its first member: the members of a request fail for one reason. An error
    without a row is a bug of ours: EIO, and its traceback is logged here, and only here.
    """
    if isinstance(error, BaseExceptionGroup):
        return errno_of(error.exceptions[0])
    for kind in type(error).__mro__:
        number = TABLE.get(kind)
        if number is not None:
            return number
    log.error("a request failed in a way that was not foreseen; it is answered with EIO", exc_info=error)
    return errno.EIO
