"""The commands.

Each command reads settings, calls rooms below, and prints; it decides nothing about files or Hubs. Errors are raised, never
printed, and become one line in ``outcome``: ``bucketfs: what went wrong: what to do next``. Lines for people are printed by
``printing``, which keeps what others named from being more than a name.

Exit codes: 0 done, 1 it could not be done, 2 it was asked for wrongly (arguments, settings), 130 interrupted, 141 whoever read what
it printed did not want all of it (`bucketfs events | head`).
"""

from bucketfs.cli.start import main

__all__ = ["main"]
