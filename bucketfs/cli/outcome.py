"""``run``: run a command and turn how it ended into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from bucketfs.cli import interrupts
from bucketfs.cli.interrupts import INTERRUPTED
from bucketfs.daemon import ERROR, journal_listens, levelled, notify_failed, report_failed
from bucketfs.errors import BucketfsError, DiskFailed, NotFound, Usage
from bucketfs.quoting import visible

DONE, FAILED, WRONG = 0, 1, 2
READER_LEFT = 141
"""What a shell reports for a program that SIGPIPE ended, like ``ls`` in ``ls | head``: not done, and no error either."""

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EAGAIN)


def run(arguments: Sequence[str], program: click.Command | None = None, context: object = None) -> int:
    """Run ``bucketfs ARGUMENTS`` and return the exit code. A test may give another ``program`` than ours, and the object of click's
    ``context``."""
    # gRPC prints lines of its own about connections that come and go; our messages cover them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if program is None:
        from bucketfs.cli.commands import bucketfs

        program = bucketfs
    words = verbose_first(list(arguments))
    verbose = words[:1] == ["-v"]
    try:
        interrupts.by_exception()
        _run(program, words, context)
        # At exit Python would flush what is left, where no handler catches a failure.
        sys.stdout.flush()
        interrupts.at_once()
    except BaseException as error:
        interrupts.at_once()
        return _ended(error, verbose)
    return DONE


def _ended(error: BaseException, verbose: bool) -> int:
    """Print the line of a command that raised and return its exit code. ``SystemExit`` and the like are raised on."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if _is_interrupt(error):
        return _report("interrupted", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _report(_click_line(error), WRONG)
    if not isinstance(error, Exception):
        raise error
    cause = single(error)
    if isinstance(cause, BrokenPipeError):
        return _reader_left()
    if isinstance(cause, OSError) and cause.filename is None and cause.errno in _OUTPUT_ERRORS:
        # Any other access to a disk has made an error of ours of it.
        _drop_output()
        cause = DiskFailed(f"the output cannot be written: {cause.strerror}", hint="make room where it goes")
    if isinstance(cause, FileNotFoundError) and cause.filename is None and not _has_folder():
        cause = NotFound("the current folder was removed", hint="'cd' to one that exists")
    if isinstance(cause, UnicodeEncodeError) and "surrogates" in cause.reason:
        # Only arguments and variables whose bytes are not UTF-8 become texts with surrogates.
        cause = Usage(f"{visible(cause.object)} is not UTF-8, but names at a Hub must be", hint="write it in UTF-8")
    return _failed(cause, verbose)


def _has_folder() -> bool:
    """Whether there is a folder that relative paths start from."""
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _is_interrupt(error: BaseException) -> bool:
    interrupts = (click.Abort, KeyboardInterrupt, EOFError)
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(interrupts) is not None
    return isinstance(error, interrupts)


def _run(program: click.Command, words: list[str], context: object) -> None:
    if "_BUCKETFS_COMPLETE" in os.environ:
        # A shell asks for completions: click answers and ends the process.
        program.main(args=words, prog_name="bucketfs")
    # Not ``main``: it turns a closed pipe into exit code 1.
    try:
        with program.make_context("bucketfs", words, obj=context) as root:
            program.invoke(root)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())


def _reader_left() -> int:
    """The program that read our output (``head``, say) has ended."""
    _drop_output()
    return READER_LEFT


def _drop_output() -> None:
    """Send the rest to /dev/null: Python would report the same failure again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def verbose_first(words: list[str]) -> list[str]:
    """``-v`` may stand anywhere before ``--``; click understands it in front only."""
    end = words.index("--") if "--" in words else len(words)
    before = [word for word in words[:end] if word not in ("-v", "--verbose")]
    return [*(["-v"] if len(before) != end else []), *before, *words[end:]]


def single(error: Exception) -> Exception:
    """The first error in a group: a nursery wraps even a single one."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def daemon_command(command: Callable[..., None]) -> Callable[..., None]:
    """A command that becomes a daemon: with the hidden option ``--ready-fd``. When it fails, the process that started this one and
    a service manager get the reason, too."""

    @click.option("--ready-fd", type=int, default=None, hidden=True)
    @functools.wraps(command)
    def reporting(*arguments: Any, ready_fd: int | None, **options: Any) -> None:
        try:
            command(*arguments, ready_fd=ready_fd, **options)
        except Exception as error:
            cause = single(error)
            if not isinstance(cause, BucketfsError):
                cause = BucketfsError(f"it failed: {type(cause).__name__}: {cause}")
            report_failed(ready_fd, cause)
            notify_failed(cause)
            raise

    return reporting


def raise_all(failures: Sequence[BucketfsError]) -> None:
    """Report several failures, each in a line of its own; the last one is raised and so ends the command."""
    for failure in failures[:-1]:
        _report(line_of(failure), FAILED)
    if failures:
        raise failures[-1]


def line_of(error: Exception) -> str:
    """What went wrong and what to do next, in one line."""
    if isinstance(error, BucketfsError):
        return ": ".join(part for part in (_flat(str(error)), _flat(error.hint)) if part)
    return f"unexpected {type(error).__name__}: {_flat(str(error))}: this is a bug in bucketfs; -v shows where"


def _failed(error: Exception, verbose: bool) -> int:
    code = _report(line_of(error), WRONG if isinstance(error, Usage) else FAILED)
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


def _report(line: str, code: int) -> int:
    # When standard error cannot be written, there is still the exit code.
    with suppress(OSError):
        text = f"bucketfs: {line}"
        print(levelled(text, ERROR) if journal_listens() else text, file=sys.stderr)
    return code
