"""``main``: what is put in order before a command is imported: Ctrl-C, standard streams, how text becomes bytes.

Importing takes up to a second, and Ctrl-C comes when it wants: so this file imports nothing that takes time, and until a command
runs an interrupt ends the process where it stands. Tests that call ``main`` with arguments keep their process as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bucketfs.cli import interrupts

ESCAPE = "bucketfs-escape"
"""The error handler of our output: what the encoding lacks becomes an escape, and bytes that were no text become themselves."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``bucketfs ARGUMENTS`` (those of the process, when left out) and return the exit code."""
    if arguments is not None:
        from bucketfs.cli.outcome import run

        return run(arguments)
    interrupts.take_over()
    open_missing_streams()
    _speak_utf8()
    _never_fail_to_encode()
    from bucketfs.cli.outcome import run

    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        # Only in the few instructions around ``run``'s own handler.
        return interrupts.INTERRUPTED
    finally:
        interrupts.at_once()
        _drop_unheard()


def _drop_unheard() -> None:
    """What standard error did not take (a full disk, a descriptor for reading) stays in its buffer. Python would try once more at
    exit, and end with 120 in place of the exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def open_missing_streams() -> None:
    """Give the standard streams that are closed (``bucketfs status >&-``) to /dev/null, as openssh and git do. The next file that
    is opened would take the free number, and what is printed would go into it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)
    # Python has None where it found a stream closed.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale is another one. Names at a Hub and in a mount are UTF-8; in any other
    encoding an argument would name something else than the same bytes in the mount do. The locale decides only about what a
    terminal can show."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _never_fail_to_encode() -> None:
    import codecs
    import locale

    codecs.register_error(ESCAPE, _escaped)
    for stream in (sys.stdout, sys.stderr):
        # The encoding of the terminal is that of the locale, also in UTF-8 mode. A pipe or file gets the bytes of the names.
        encoding = locale.getencoding() if stream.isatty() else None
        stream.reconfigure(encoding=encoding, errors=ESCAPE)  # type: ignore[union-attr]  # these are TextIOWrapper


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    data = error.object[error.start : error.end].encode("utf-8", "surrogateescape")
    if all("\udc80" <= c <= "\udcff" for c in error.object[error.start : error.end]):
        return data, error.end
    return "".join(f"\\{byte:03o}" for byte in data), error.end
