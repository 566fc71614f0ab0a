"""Moving pending changes onto a newer base. Imports `tree`, `snapshot` and `recovery`."""

from bucketfs.vfs.rebase.displaced import bring_home, may_be_written
from bucketfs.vfs.rebase.permission_change import apply_permissions
from bucketfs.vfs.rebase.rebasing import Rebased, rebase_onto

__all__ = ["Rebased", "apply_permissions", "bring_home", "may_be_written", "rebase_onto"]
