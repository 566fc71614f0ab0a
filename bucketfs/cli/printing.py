"""Printing lines for people. Whatever others named, a line stays one line, and a terminal shows it and does nothing else.

What programs read is JSON, which is exact.
"""

from __future__ import annotations

import codecs
import sys
from typing import TextIO

import click

from bucketfs.quoting import in_list, quoted, visible


def say(*columns: str, err: bool = False) -> None:
    """Print a line; ``columns`` are set apart by tabs."""
    encoding = _encoding(sys.stderr if err else sys.stdout)
    click.echo("\t".join(visible(column, encoding) for column in columns), err=err)


def named(text: str) -> str:
    """A name or path as a part of a line."""
    return quoted(text, _encoding(sys.stdout))


def listed(text: str) -> str:
    """A name in a list of names: as ``ls`` prints it on a terminal; for a program as it is, as far as that is one line."""
    return named(text) if sys.stdout.isatty() else in_list(text)


def _encoding(stream: TextIO) -> str:
    """What can be shown. A pipe or file takes everything."""
    return codecs.lookup(stream.encoding).name if stream.isatty() and stream.encoding else "utf-8"
