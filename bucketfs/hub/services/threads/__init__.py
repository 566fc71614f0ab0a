"""``threads.pb``: tokens, databases, their collections and instances, transactions, and events of changes.

`databases` are threads, `definitions` their collections, `instances` what is in them one call at a time, `transactions` many at
once, `listening` the changes. The work is done by `hub.threaddb`; here are the messages and the texts that clients compare. The
collection ``buckets`` (`buckets_collection`, `instance`) is made from the buckets of the thread, and written through their own
service. ``threads.net.pb`` hands out the same tokens and nothing else."""

from __future__ import annotations

from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import THREADS, THREADS_NET, Service
from bucketfs.hub.services.threads.buckets_collection import BucketsCollection
from bucketfs.hub.services.threads.databases import Databases
from bucketfs.hub.services.threads.definitions import Definitions
from bucketfs.hub.services.threads.instances import Instances
from bucketfs.hub.services.threads.listening import Listening
from bucketfs.hub.services.threads.tokens import Tokens
from bucketfs.hub.services.threads.transactions import Transactions
from bucketfs.wire import threads_net_pb2, threads_pb2

__all__ = ["net_service", "service"]


def service(hub: Hub) -> Service:
    """``threads.pb`` over this Hub."""
    definitions, buckets, tokens = Definitions(hub), BucketsCollection(hub), Tokens(hub, threads_pb2)
    databases, instances = Databases(hub, definitions), Instances(hub, buckets)
    transactions, listening = Transactions(hub, instances), Listening(hub, buckets)
    return Service(
        THREADS,
        {
            "GetToken": tokens.get_token,
            "NewDB": databases.new,
            "GetDBInfo": databases.info,
            "DeleteDB": databases.delete,
            "NewCollection": definitions.new,
            "UpdateCollection": definitions.update,
            "DeleteCollection": definitions.delete,
            "GetCollectionInfo": definitions.info,
            "GetCollectionIndexes": definitions.indexes,
            "ListCollections": definitions.all,
            "Create": instances.create,
            "Verify": instances.verify,
            "Save": instances.save,
            "Delete": instances.delete,
            "Has": instances.has,
            "Find": instances.find,
            "FindByID": instances.find_by_id,
            "ReadTransaction": transactions.read,
            "WriteTransaction": transactions.write,
            "Listen": listening.listen,
        },
        waiting=frozenset({"GetToken", "Listen"}),
        unimplemented="is not offered by this hub: it has no peers",
    )


def net_service(hub: Hub) -> Service:
    """``threads.net.pb`` over this Hub."""
    return Service(
        THREADS_NET,
        {"GetToken": Tokens(hub, threads_net_pb2).get_token},
        waiting=frozenset({"GetToken"}),
        unimplemented="is not offered by this hub: it has no peers",
    )
