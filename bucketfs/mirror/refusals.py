"""What a mirror could not write here, or not send, and does not try again in each round. Pure.

An attempt fetches bytes and makes and removes a file; the watch hears of that, and would begin the next round at once.
"""

from __future__ import annotations

from collections.abc import Hashable

from bucketfs.transfer import Names

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


class OverLimit(Refusals):
    """The files that a round brings to the Hub, and those that it leaves out, because with them a limit would be passed."""

    def __init__(self) -> None:
        super().__init__()
        self._brought: dict[Names, tuple[int, Hashable]] = {}
        self._at_once = 1

    def begin(self) -> None:
        """A round begins that is no repetition."""
        self._at_once = 1

    def scan(self) -> None:
        """The folder is looked through again."""
        self._brought = {}

    def brings(self, path: Names, content: Hashable, size_bytes: int) -> None:
        """This goes to the Hub."""
        if size_bytes:
            self._brought[path] = size_bytes, content

    def leave_out_largest(self, reason: str, now_ns: int) -> bool:
        """Leave out the largest file, more of them each time in one round. Whether there was one."""
        largest = sorted(self._brought, key=lambda path: self._brought[path][0], reverse=True)[: self._at_once]
        for path in largest:
            self.note(path, self._brought[path][1], reason, now_ns)
        self._at_once *= 2
        return bool(largest)
