"""What a mirror could not write here, or not send, and does not try again in each round: an attempt fetches bytes and makes and
removes a file, and the watch, which hears of that, would begin the next round at once. Pure."""

from __future__ import annotations

from collections.abc import Hashable

from bucketfs.sync.transfer import Names

RETRY_NS = 540 * 10**9
"""A little less than the ten minutes after which a mirror looks at everything unasked."""


class Refusals:
    """In memory only: a mirror that was just started tries everything."""

    def __init__(self) -> None:
        self._refused: dict[Names, tuple[Hashable, str, int]] = {}

    def note(self, path: Names, content: Hashable, reason: str, now_ns: int) -> None:
        """This content could not be carried there."""
        self._refused[path] = (content, reason, now_ns)

    def reason(self, path: Names, content: Hashable, now_ns: int) -> str:
        """Why it need not be tried again yet; empty when it is to be tried."""
        refused = self._refused.get(path)
        if refused is None:
            return ""
        # A clock that was set back must not make it for ever.
        if refused[0] != content or abs(now_ns - refused[2]) >= RETRY_NS:
            del self._refused[path]
            return ""
        return refused[1]
