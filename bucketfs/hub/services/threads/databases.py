"""Threads and their databases, which are one thing at this Hub."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from bucketfs.dag import uvarint_encode
from bucketfs.errors import Exists
from bucketfs.hub.context import Hub
from bucketfs.hub.db import ThreadRow
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.services.threads.instance import COLLECTION
from bucketfs.keys import Identity, parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2

NAME_TEXT = "name may only contain alphanumeric characters or non-consecutive hyphens, and cannot begin or end with a hyphen"
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-][A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Databases:
    """``NewDB``, ``GetDBInfo``, ``DeleteDB``."""

    hub: Hub

    def new(self, request: Any, context: Context) -> Any:
        caller = context.call
        if any(collection.name != COLLECTION for collection in request.collections):
            raise Status(Code.UNIMPLEMENTED, "collections other than buckets are not offered by this hub")
        db_name = request.name or "unnamed"
        for name in (db_name, caller.thread_name):
            if name and not _NAME.fullmatch(name):
                raise Status(Code.UNKNOWN, NAME_TEXT)
        row = ThreadRow(
            id=parse_thread(request.dbID),
            owner=caller.account,
            name=caller.thread_name,
            db_name=db_name,
            api_key=caller.api_key or "",
            is_db=True,
            key=_thread_key(request.key),
            created_at_ns=time.time_ns(),
            realm=caller.realm,
        )
        with answered(Exists, Code.UNKNOWN):
            self.hub.database.create_thread(row, self.hub.config.limits)
        return pb.NewDBReply()

    def info(self, request: Any, _context: Context) -> Any:
        row = self.hub.database.thread(parse_thread(request.dbID))
        return pb.GetDBInfoReply(addrs=[_address(self.hub.host_key, row.id)], key=row.key, name=row.db_name)

    def delete(self, request: Any, _context: Context) -> Any:
        with answered(Exists, Code.FAILED_PRECONDITION):
            self.hub.database.delete_thread(parse_thread(request.dbID))
        return pb.DeleteDBReply()


def _thread_key(given: bytes) -> bytes:
    if not given:
        return secrets.token_bytes(64)
    if len(given) == 32:
        raise Status(Code.UNKNOWN, "thread read key is required")
    if len(given) != 64:
        raise Status(Code.INVALID_ARGUMENT, "invalid thread key")
    return given


def _address(host: Identity, thread: ThreadId) -> bytes:
    """The multiaddr ``/p2p/<peer id>/thread/<id>`` in binary: this Hub has no libp2p transport to put before it."""
    peer = b"\x00\x24" + host.public_bytes  # a small public key is its own (identity) multihash, libp2p peer-ids spec
    return b"\xa5\x03" + bytes([len(peer)]) + peer + b"\x96\x03" + uvarint_encode(len(thread)) + thread
