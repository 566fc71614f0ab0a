"""Homes for field reports: real processes and the real kernel, as in the tests of mount/.

One file per kind of fault, named after what a user does (``test_backup_twice.py``, ``test_retry_after_full_disk.py``). A later
report of the same kind is added to its file.
"""

from __future__ import annotations

from support.commands import buck, hub
from support.homes import home, new_home

__all__ = ["buck", "home", "hub", "new_home"]
