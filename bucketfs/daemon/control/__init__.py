"""What a running mount answers over its control socket, as documents of plain values.

``commands_of`` are the commands by name; `MountParts` is what they act on. Imports ``host``, ``session`` and ``buckets``.
"""

from bucketfs.daemon.control.commands import commands_of
from bucketfs.daemon.control.parts import MountParts
from bucketfs.daemon.control.status import mount_status

__all__ = ["MountParts", "commands_of", "mount_status"]
