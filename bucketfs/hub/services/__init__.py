"""The Hub's gRPC services, one file or folder each."""

__all__: list[str] = []
