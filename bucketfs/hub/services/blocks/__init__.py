"""Blocks by CID, ``bucketfs.v1.Blocks``: bulk reads and writes, and the compare-and-swap that makes a push visible.

A CID is the capability to read a block. Writing blocks needs an account, and no more: what no bucket links to is collected. A
bucket changes by ``SwapRoot`` only."""

from __future__ import annotations

from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import BLOCKS, Service
from bucketfs.hub.services.blocks.blocks import BlockCalls
from bucketfs.hub.services.blocks.swap_root import RootSwaps
from bucketfs.hub.services.buckets import BucketWriter

__all__ = ["service"]


def service(hub: Hub) -> Service:
    """The service over this Hub."""
    calls, swaps = BlockCalls(hub), RootSwaps(BucketWriter(hub))
    return Service(
        BLOCKS,
        {
            "Get": calls.get,
            "GetTree": calls.get_tree,
            "Missing": calls.missing,
            "Put": calls.put,
            "SwapRoot": swaps.swap_root,
            "Roots": calls.roots,
        },
    )
