"""How one mount behaves towards the kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MountSettings:
    """All times are seconds."""

    allow_other: bool = False
    read_only: bool = False
    timeout_s: float = 30.0
    """How long the rooms below may take before they give up by themselves."""
    grace_s: float = 5.0
    """How much longer a request may take before it is answered for them."""
    fsync_timeout_s: float = 0.0
    """A longer limit for fsync alone, for mounts whose fsync waits until everything is at the Hub."""
    entry_timeout_s: float = 3600.0
    attr_timeout_s: float = 3600.0
    """How long the kernel may believe what it was told. Long, because each change from elsewhere is announced to it."""
    negative_timeout_s: float = 0.0
    """How long the kernel may believe that a name is missing. 0 unless every new name is announced (EntryChanged)."""
    unmount_grace_s: float = 10.0
    """How long a polite unmount may take (the kernel writes back what it holds) before the mount is detached."""
    read_ahead_bytes: int = 1024 * 1024
    """How far the kernel reads ahead. Only root may raise it over the 128 KiB a file system gets by itself. Measured on 200
    MB from a warm block cache: 340–500 MB/s with 128 KiB, 800–880 MB/s with 1 MiB."""
    background_max: int = 256
    """Read-ahead and write-back requests in flight. The kernel's own 12 would let a dozen reads that wait for a Hub hold up
    the write-back of other files."""
    tasks_max: int = 512
    """Requests served at once. Waiting ones cost a task each and must not keep cached things from being answered."""

    def kernel_options(self) -> set[str]:
        """The options of the mount as libfuse takes them.

        ``nosuid`` and ``nodev`` are what fusermount3 adds for plain users; root gets them too, because whoever can write to
        a bucket could otherwise plant a program that runs as root.
        """
        options = {"fsname=bucketfs", "subtype=bucketfs", "default_permissions", "nosuid", "nodev"}
        if self.allow_other:
            options.add("allow_other")
        if self.read_only:
            options.add("ro")
        return options
