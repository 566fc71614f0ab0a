"""The errno table is complete, and what it does not know is EIO with one traceback."""

from __future__ import annotations

import errno
import logging

import pytest

from bucketfs import errors
from bucketfs.mount import errno_of


def leaves(kind: type[errors.BucketfsError]) -> list[type[errors.BucketfsError]]:
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]


@pytest.mark.parametrize("kind", [*leaves(errors.BucketfsError), errors.HubError], ids=lambda kind: kind.__name__)
def test_every_leaf_class_has_a_row(kind: type[errors.BucketfsError], caplog: pytest.LogCaptureFixture) -> None:
    """No error reaches a program as a wrong errno because a row was forgotten."""
    assert errno_of(kind("something")) in errno.errorcode
    assert not caplog.records


def test_docstring_of_the_tree_says_the_same() -> None:
    """The errnos that the README promises are those that programs get."""
    assert errno_of(errors.Denied()) == errno.EACCES
    assert errno_of(errors.NotPermitted()) == errno.EPERM
    assert errno_of(errors.NameInvalid()) == errno.EILSEQ
    assert errno_of(errors.OverQuota()) == errno.EDQUOT
    assert errno_of(errors.NoSpace()) == errno.ENOSPC
    assert errno_of(errors.Unavailable()) == errno.EIO
    assert errno_of(errors.TimedOut()) == errno.EIO


def test_a_class_made_elsewhere_counts_as_its_parent() -> None:
    """A finer error of a room is answered as what it is a kind of."""

    class SeedRefused(errors.NotPermitted):
        pass

    assert errno_of(SeedRefused()) == errno.EPERM


def test_unknown_is_eio_with_exactly_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A bug is an I/O error for the program and one traceback for us."""
    with caplog.at_level(logging.DEBUG):
        assert errno_of(ZeroDivisionError("oh")) == errno.EIO
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None


def test_a_group_counts_as_its_first_member() -> None:
    """An error from concurrent work keeps its errno."""
    group = ExceptionGroup("nursery", [ExceptionGroup("inner", [errors.NoSpace()]), errors.NotFound()])
    assert errno_of(group) == errno.ENOSPC
