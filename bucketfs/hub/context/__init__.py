"""What every service of a Hub is given: `Hub`, with the stores, the events, and the confirmations that wait.

Above ``db``, ``store`` and ``rpc``.
"""

from bucketfs.hub.context.confirmations import Confirmations
from bucketfs.hub.context.events import BucketAction, BucketEvent, BucketEvents, EventSubscription
from bucketfs.hub.context.parts import Hub

__all__ = ["BucketAction", "BucketEvent", "BucketEvents", "Confirmations", "EventSubscription", "Hub"]
