"""The Hub's blocks: bytes by multihash in packs, their index, and what may still be uploaded."""

__all__: list[str] = []
