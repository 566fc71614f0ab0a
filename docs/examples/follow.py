"""Prints what changes in a bucket, whoever changes it, and goes on where it was after a restart.

python follow.py BUCKET STATE_FILE [UPDATES]
"""

import sys
from pathlib import Path

import bucketfs


def main(name: str, state: str, updates_max: str = "0") -> None:
    seen = Path(state)
    with bucketfs.open_hub() as hub:
        bucket = hub.bucket(name)
        since = seen.read_text() if seen.exists() else ""
        for count, update in enumerate(bucket.watch(since), start=1):
            for change in update.changes:
                was = f" (was {change.old_path})" if change.old_path else ""
                print(f"{change.kind} {change.path}{was}", flush=True)
            seen.write_text(update.root)
            if count == int(updates_max):
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
