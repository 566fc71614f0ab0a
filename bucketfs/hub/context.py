"""What every service of a hub is given: the stores, the feed, the host key, the configuration and a log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bucketfs.hub.config import HubConfig
from bucketfs.hub.db.buckets import Metadata
from bucketfs.hub.events import Feed
from bucketfs.hub.services.confirm import Confirmations
from bucketfs.hub.store.upload_quota import Pledges
from bucketfs.keys import Identity

if TYPE_CHECKING:
    from bucketfs.hub.store.blockstore import BlockStore


@dataclass(frozen=True, slots=True, eq=False)
class Hub:
    """The parts of one hub process. Made once by ``HubServer`` and handed to each module's ``service(hub)``."""

    config: HubConfig
    metadata: Metadata
    blockstore: BlockStore = field(repr=False)
    feed: Feed
    confirmations: Confirmations
    host_key: Identity
    pledges: Pledges
    log: logging.Logger
