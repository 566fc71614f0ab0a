"""Homes for what the last release left: real processes and the real kernel, as in the tests of mount/."""

from __future__ import annotations

from support.homes import home, new_home

__all__ = ["home", "new_home"]
