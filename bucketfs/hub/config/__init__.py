"""The configuration of a Hub process: its data, its addresses, the limits of accounts. Below all other sub-rooms."""

from bucketfs.hub.config.address import Address
from bucketfs.hub.config.hub_config import GATEWAY_URL, NO_LIMITS, AccountLimits, HubConfig

__all__ = ["GATEWAY_URL", "NO_LIMITS", "AccountLimits", "Address", "HubConfig"]
