"""What a push carries: an immutable snapshot of the pending changes, cut into batches."""

__all__: list[str] = []
