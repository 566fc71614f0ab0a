"""What every service of a Hub is given: `Hub`, with the stores, the events, and the confirmations that wait.

Above ``db``, ``store``, ``rpc`` and ``threaddb``.
"""

from bucketfs.hub.context.confirmations import Confirmations
from bucketfs.hub.context.events import (
    BUCKETS_COLLECTION,
    EventAction,
    EventSubscription,
    InstanceEvent,
    InstanceEvents,
)
from bucketfs.hub.context.parts import Hub

__all__ = [
    "BUCKETS_COLLECTION",
    "Confirmations",
    "EventAction",
    "EventSubscription",
    "Hub",
    "InstanceEvent",
    "InstanceEvents",
]
