"""Who looks at a bucket over HTTP: the holder of a token in the link, or a visitor of whom nothing is known."""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.hub.db import BucketRow, ThreadRow
from bucketfs.hub.trees import may_read
from bucketfs.keys import Identity, TokenScope, token_scope


@dataclass(frozen=True, slots=True)
class Visitor:
    """Sees what everybody may see; with a token, also what its holder may see where the token counts."""

    scope: TokenScope | None = None
    token: str = ""
    """As it came, for the links of a page."""

    @classmethod
    def with_token(cls, host: Identity, token: str, now_ns: int) -> Visitor:
        """Raises InvalidArgument for a token that this Hub did not make, or that has ended."""
        return cls(token_scope(host, token, now_ns), token) if token else cls()

    def reader(self, thread: ThreadRow) -> str | None:
        """As whom to read the instances of a thread, other than buckets: a link's token opens none."""
        if self.scope is None or self.scope.bucket:
            return None
        # As for calls: a user's own thread is reached only under keys of the owner under whose key it was made.
        if thread.owner == self.scope.subject and thread.realm != self.scope.owner:
            return None
        return self.scope.subject

    def may_see(self, row: BucketRow, thread: ThreadRow, path: str) -> bool:
        """Whether this visitor may look at a path of a bucket."""
        return may_read(row, path, self._bucket_reader(row, thread, path))

    def _bucket_reader(self, row: BucketRow, thread: ThreadRow, path: str) -> str | None:
        if self.scope is None or not self.scope.bucket:
            return self.reader(thread)
        top = self.scope.path
        below = not top or path == top or path.startswith(f"{top}/")
        return self.scope.subject if self.scope.bucket == row.key and below else None
