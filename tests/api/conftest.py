"""A Hub in this process, and a default profile with a key for it."""

from __future__ import annotations

from support.commands import hub

__all__ = ["hub"]
