"""``threads.pb``: tokens, databases, and the ``buckets`` collection read-only, with events of its changes.

Buckets are written through their own services; user collections and transactions are not offered. ``threads.net.pb`` hands out
the same tokens and nothing else. A bucket as the collection shows it is made in ``instance``, and ``query`` is ThreadDB's query
language."""

from __future__ import annotations

from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import THREADS, THREADS_NET, Service
from bucketfs.hub.services.threads.collection import BucketsCollection
from bucketfs.hub.services.threads.databases import Databases
from bucketfs.hub.services.threads.tokens import Tokens
from bucketfs.wire import threads_net_pb2, threads_pb2

__all__ = ["net_service", "service"]


def service(hub: Hub) -> Service:
    """``threads.pb`` over this Hub."""
    databases, tokens, collection = Databases(hub), Tokens(hub, threads_pb2), BucketsCollection(hub)
    return Service(
        THREADS,
        {
            "GetToken": tokens.get_token,
            "NewDB": databases.new,
            "GetDBInfo": databases.info,
            "DeleteDB": databases.delete,
            "Has": collection.has,
            "Find": collection.find,
            "FindByID": collection.find_by_id,
            "Listen": collection.listen,
        },
        waiting=frozenset({"GetToken", "Listen"}),
        unimplemented="is not offered by this hub: its one collection, buckets, is written through the bucket service",
    )


def net_service(hub: Hub) -> Service:
    """``threads.net.pb`` over this Hub."""
    return Service(
        THREADS_NET,
        {"GetToken": Tokens(hub, threads_net_pb2).get_token},
        waiting=frozenset({"GetToken"}),
        unimplemented="is not offered by this hub: it has no peers",
    )
