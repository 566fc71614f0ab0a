"""bucketfs mounts content-addressed Hub buckets as a folder."""

__version__ = "0.1.0"
