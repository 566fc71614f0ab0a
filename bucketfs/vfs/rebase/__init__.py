"""Moving pending changes onto a newer base. Imports `tree`, `snapshot` and `recovery`."""

from bucketfs.vfs.rebase.evicted import bring_home
from bucketfs.vfs.rebase.permission_change import apply_permissions
from bucketfs.vfs.rebase.plan import Rebased
from bucketfs.vfs.rebase.rebasing import rebase_onto

__all__ = [
    "Rebased",
    "apply_permissions",
    "bring_home",
    "rebase_onto",
]
