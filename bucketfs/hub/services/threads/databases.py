"""Threads and their databases, which are one thing at this Hub."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from bucketfs.dag import uvarint_encode
from bucketfs.errors import Exists, InvalidArgument
from bucketfs.hub.context import BUCKETS_COLLECTION, Hub
from bucketfs.hub.db import ThreadRow
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.services.threads.definitions import Definitions
from bucketfs.hub.threaddb import check_name
from bucketfs.keys import Identity, parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2


@dataclass(frozen=True, slots=True)
class Databases:
    """``NewDB``, ``GetDBInfo``, ``DeleteDB``."""

    hub: Hub
    definitions: Definitions

    def new(self, request: Any, context: Context) -> Any:
        caller, thread = context.call, parse_thread(request.dbID)
        db_name = request.name or "unnamed"
        with answered(InvalidArgument, Code.UNKNOWN):
            for name in (db_name, caller.thread_name):
                if name:
                    check_name(name)
        wanted = [config for config in request.collections if config.name != BUCKETS_COLLECTION]
        for config in wanted:
            self.definitions.checked(thread, config)
        row = ThreadRow(
            id=thread,
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
        try:
            for config in wanted:
                self.definitions.make(thread, config)
        except BaseException:
            self.hub.database.delete_thread(thread)
            raise
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
