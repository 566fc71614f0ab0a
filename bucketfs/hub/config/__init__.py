"""What a Hub process is told: where it keeps things, where it listens, which limits accounts have. Below all other sub-rooms."""

from bucketfs.hub.config.address import Address
from bucketfs.hub.config.hub_config import NO_LIMITS, AccountLimits, HubConfig

__all__ = ["NO_LIMITS", "AccountLimits", "Address", "HubConfig"]
