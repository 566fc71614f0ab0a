"""A Hub made ready for use: its address and keys, the connection, the thread of the buckets; and the embedded Hub.

Imports ``host``.
"""

from bucketfs.daemon.session.embedded_hub import serve_embedded
from bucketfs.daemon.session.session import Session, choose_profile, open_session

__all__ = ["Session", "choose_profile", "open_session", "serve_embedded"]
