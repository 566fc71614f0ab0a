"""Keeps dated copies of a folder in a bucket, and brings one back. Unchanged blocks are sent and stored once.

python backup.py FOLDER BUCKET
"""

import sys
import time

import bucketfs


def main(folder: str, name: str) -> None:
    with bucketfs.open_hub() as hub:
        if name in [bucket.name for bucket in hub.buckets()]:
            bucket = hub.bucket(name)
        else:
            bucket = hub.create_bucket(name)
        copy = time.strftime("%Y-%m-%d %H%M%S")
        report = bucket.push(folder, copy)
        print(f"{copy}: {report.files} files, {report.sent_bytes} bytes sent")
        for skipped in report.skipped:
            print(f"left out: {skipped.path}: {skipped.reason}", file=sys.stderr)
        for entry in bucket.list():
            print(entry.path)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except bucketfs.BucketfsError as error:
        sys.exit(f"{error}: {error.hint}" if error.hint else str(error))
