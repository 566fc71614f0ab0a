"""A Hub in this process for commands that are run in it, too."""

from __future__ import annotations

from support.commands import hub

__all__ = ["hub"]
