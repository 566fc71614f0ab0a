"""``bucketfs buck``: the commands about buckets and what is in them, without a mount."""

from bucketfs.cli.buck.contents import buck

__all__ = ["buck"]
