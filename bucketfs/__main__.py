"""``python -m bucketfs``: the same as the command ``bucketfs``."""

from __future__ import annotations

import sys

from bucketfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
