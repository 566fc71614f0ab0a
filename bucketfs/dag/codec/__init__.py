"""Bytes and values: CIDs, multibase, varints, dag-pb and UnixFS nodes."""

__all__: list[str] = []
