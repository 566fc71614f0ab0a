"""The gRPC services of a Hub, a file or folder each: thin handlers over the database, the block store and the trees.

Each module has a ``service(hub)`` with the table of its methods; a new RPC is one function, its row in that table, and a test.
A method that anyone may call, or that may name another account's thread, is also named in ``rpc/authentication.py``. All writes
to buckets go through ``BucketWriter`` (``buckets/writer.py``). This sub-room may import every other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import Service
from bucketfs.hub.services import accounts, blocks, buckets, threads, users

__all__ = ["SERVICES"]

SERVICES: Sequence[Callable[[Hub], Service]] = (
    accounts.service,
    users.service,
    threads.service,
    threads.net_service,
    buckets.service,
    blocks.service,
)
