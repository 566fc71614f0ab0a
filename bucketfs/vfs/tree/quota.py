"""How much may still be stored at the Hub, so that a write that would never get there is refused before it is taken. Pure.

The Hub tells a limit and what is used; what grew here since and is not at the Hub yet is counted as it happens, in lengths of
files. Both are estimates of what the Hub counts (sizes of trees, a little more than the bytes in them), and an old answer of the
Hub may be short of a push that just ended. So a push may still meet the limit, and waits then; but it is the exception.
"""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.errors import OverQuota


@dataclass(slots=True, eq=False)
class StorageLimit:
    """One limit of the Hub. Volumes that it holds for together share the object. ``limit_bytes`` 0 is none."""

    what: str
    limit_bytes: int = 0
    used_bytes: int = 0
    grown_bytes: int = 0

    @property
    def left_bytes(self) -> int | None:
        """What still fits; None without a limit."""
        return max(0, self.limit_bytes - self.used_bytes - self.grown_bytes) if self.limit_bytes else None

    @property
    def free_bytes(self) -> int | None:
        """What the Hub had left when it was asked, whatever waits here; None without a limit."""
        return max(0, self.limit_bytes - self.used_bytes) if self.limit_bytes else None

    def check(self, more_bytes: int) -> None:
        """Raise OverQuota when that many more do not fit."""
        left_bytes = self.left_bytes
        if left_bytes is not None and more_bytes > left_bytes:
            raise OverQuota(
                f"{self.what} may hold {self.limit_bytes} bytes, and {left_bytes} are left",
                hint="remove something, or ask the owner of the Hub for more",
            )
