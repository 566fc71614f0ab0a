"""The journal (being furnished)."""

from bucketfs.journal.extents import Extents

__all__ = ["Extents"]
