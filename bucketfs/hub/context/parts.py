"""What every service of a hub is given: the stores, the feed, the host key, the configuration and a log."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from bucketfs.hub.config import HubConfig
from bucketfs.hub.context.confirmations import Confirmations
from bucketfs.hub.context.events import InstanceEvents
from bucketfs.hub.db import HubDatabase
from bucketfs.hub.store import BlockStore, UploadQuota
from bucketfs.hub.threaddb import ThreadDb
from bucketfs.keys import Identity


@dataclass(frozen=True, slots=True, eq=False)
class Hub:
    """The parts of one hub process. Made once by ``HubServer`` and handed to each module's ``service(hub)``."""

    config: HubConfig
    database: HubDatabase
    blockstore: BlockStore = field(repr=False)
    events: InstanceEvents
    confirmations: Confirmations
    host_key: Identity
    upload_quota: UploadQuota
    threaddb: ThreadDb
    log: logging.Logger
