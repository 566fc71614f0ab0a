"""The embedded Hub: a Textile Hub's gRPC services over two stores, an SQL database and blocks by CID.

Everything here runs in plain threads: a synchronous gRPC server hands each call to a worker, and a thin service answers out of
the stores. A process keeps nothing else: several of them over the same two stores are one Hub, and a write to a bucket is a
compare-and-swap in SQL. DAGs are computed by the generators of ``bucketfs.dag``, driven from the block store.

The sub-rooms, each of which may import those before it: ``config``, ``db`` (rows), ``store`` (blocks), ``trees`` (DAGs over
blocks, and who may do what to them), ``rpc`` (calls), ``context`` (what services are given), ``services`` (one per protobuf
service). Above them ``gateway``, ``gc`` and ``server``.
"""

from __future__ import annotations

from bucketfs.hub.config import HubConfig
from bucketfs.hub.gc import collect
from bucketfs.hub.server import HubServer, end_process, serve
from bucketfs.hub.store import Collected

__all__ = ["Collected", "HubConfig", "HubServer", "collect", "end_process", "serve"]
