"""The embedded Hub: a Textile Hub's gRPC services over two stores, metadata in SQL and blocks by CID.

Everything here runs in plain threads: a synchronous gRPC server hands each call to a worker, the worker asks ``auth`` who
calls, and a thin service per file answers, out of ``metadata`` and ``blockstore``. Who may do what is decided in ``access``,
which does no I/O. A process keeps nothing else: several of them over the same two stores are one Hub, and a write to a
bucket is a compare-and-swap in SQL. DAGs are walked by the generators of ``bucketfs.dag``, driven from the block store.
"""

from __future__ import annotations

from bucketfs.hub.config import HubConfig
from bucketfs.hub.gc import collect
from bucketfs.hub.server import HubServer, end_process, serve
from bucketfs.hub.store import Collected

__all__ = ["Collected", "HubConfig", "HubServer", "collect", "end_process", "serve"]
