"""Where handlers meet gRPC: admission, authentication, status, and fair queueing of calls."""

__all__: list[str] = []
