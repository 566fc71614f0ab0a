"""The harness beside these tests and the Hub in memory of the tests of vfs are on the path."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parent.parent / "vfs"):
    sys.path.insert(0, str(folder))
