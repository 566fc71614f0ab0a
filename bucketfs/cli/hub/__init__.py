"""``bucketfs hub``: the commands that run a Hub, and those about the account on one."""

from bucketfs.cli.hub.serve import hub

__all__ = ["hub"]
