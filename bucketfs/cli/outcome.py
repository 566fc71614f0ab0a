"""``run``: run a command and turn how it ended into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import click

from bucketfs.cli import interrupts
from bucketfs.cli.interrupts import INTERRUPTED
from bucketfs.daemon import ERROR, journal_listens, levelled, notify_failed, tell_failed
from bucketfs.errors import BucketfsError, DiskFailed, NotFound, Usage
from bucketfs.quoting import visible

DONE, FAILED, WRONG = 0, 1, 2
READER_LEFT = 141
"""What a shell says of a program that SIGPIPE ended, ``ls`` in ``ls | head`` say: it was not done, and nobody was to know."""

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)


def run(arguments: Sequence[str]) -> int:
    """Run ``bucketfs ARGUMENTS`` and return the exit code."""
    # gRPC would print its own lines about connections that come and go; ours say it better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from bucketfs.cli.commands import bucketfs

    words = _verbose_first(list(arguments))
    verbose = words[:1] == ["-v"]
    try:
        interrupts.by_exception()
        _run(bucketfs, words)
        # What is left of it would fail where nobody catches it.
        sys.stdout.flush()
        interrupts.at_once()
    except BaseException as error:
        interrupts.at_once()
        return _ended(error, verbose)
    return DONE


def _ended(error: BaseException, verbose: bool) -> int:
    """The exit code of a command that raised, with its line. Raises what is no failure of a command (``SystemExit``)."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if _is_interrupt(error):
        return _say("interrupted", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _say(_click_line(error), WRONG)
    if not isinstance(error, Exception):
        raise error
    cause = single(error)
    if isinstance(cause, BrokenPipeError):
        return _reader_left()
    if isinstance(cause, OSError) and cause.filename is None and cause.errno in _OUTPUT_ERRORS:
        # On every other way to a disk an error has become one of ours.
        _drop_output()
        cause = DiskFailed(f"what is printed cannot be written: {cause.strerror}", hint="make room where it goes")
    if isinstance(cause, FileNotFoundError) and cause.filename is None and not _has_folder():
        cause = NotFound("the current folder was removed", hint="'cd' to one that is there")
    if isinstance(cause, UnicodeEncodeError) and "surrogates" in cause.reason:
        # The only texts with surrogates are arguments and variables whose bytes were no UTF-8.
        cause = Usage(f"{visible(cause.object)} is not UTF-8, and names at a Hub are", hint="give it in UTF-8")
    return _failed(cause, verbose)


def _has_folder() -> bool:
    """Whether there is a folder that relative paths start from."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _is_interrupt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, (click.Abort, KeyboardInterrupt, EOFError))


def _run(command: click.Command, words: list[str]) -> None:
    if "_BUCKETFS_COMPLETE" in os.environ:
        # A shell asks for completions: click answers, and ends the process.
        command.main(args=words, prog_name="bucketfs")
    # Not ``main``, which makes a failure of a reader who left.
    try:
        with command.make_context("bucketfs", words) as context:
            command.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())


def _reader_left() -> int:
    """Whoever read what we print (head, say) had enough."""
    _drop_output()
    return READER_LEFT


def _drop_output() -> None:
    """Python would complain once more when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _verbose_first(words: list[str]) -> list[str]:
    """``-v`` belongs to the whole and may stand anywhere before ``--``; where it is understood is in front."""
    end = words.index("--") if "--" in words else len(words)
    before = [word for word in words[:end] if word not in ("-v", "--verbose")]
    return [*(["-v"] if len(before) != end else []), *before, *words[end:]]


def single(error: Exception) -> Exception:
    """The one error that a group stands for: what a nursery raised for one reason."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def telling(ready_fd: int | None) -> Iterator[None]:
    """What fails on the way to a running daemon is told to whoever started this process, and to a service manager."""
    try:
        yield
    except Exception as error:
        cause = single(error)
        told = cause if isinstance(cause, BucketfsError) else BucketfsError(f"it failed: {type(cause).__name__}: {cause}")
        tell_failed(ready_fd, told)
        notify_failed(told)
        raise


def raise_all(failures: Sequence[BucketfsError]) -> None:
    """What failed of several things that were asked for: each is a line, and the last one ends the command."""
    for failure in failures[:-1]:
        _say(line_of(failure), FAILED)
    if failures:
        raise failures[-1]


def line_of(error: Exception) -> str:
    """What went wrong and what to do next, in one line."""
    if isinstance(error, BucketfsError):
        return ": ".join(part for part in (_flat(str(error)), _flat(error.hint)) if part)
    return f"unexpected {type(error).__name__}: {_flat(str(error))}: this is a fault of bucketfs; -v shows where"


def _failed(error: Exception, verbose: bool) -> int:
    code = _say(line_of(error), WRONG if isinstance(error, Usage) else FAILED)
    if verbose:
        with suppress(OSError):
            _explain(error)
    return code


def _explain(error: Exception) -> None:
    if not isinstance(error, BucketfsError):
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(visible(line), file=sys.stderr)
    cause = error.__cause__
    while cause is not None:
        print(f"  because of {type(cause).__name__}: {_flat(str(cause))}", file=sys.stderr)
        cause = cause.__cause__


def _click_line(error: click.ClickException) -> str:
    text = _flat(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text}: see '{context.command_path} --help'" if context is not None else text


def _flat(text: str) -> str:
    return visible(" ".join(text.split()))


def _say(line: str, code: int) -> int:
    # Who does not hear it still gets the exit code.
    with suppress(OSError):
        said = f"bucketfs: {line}"
        print(levelled(said, ERROR) if journal_listens() else said, file=sys.stderr)
    return code
