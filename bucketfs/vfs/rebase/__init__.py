"""Moving pending changes onto a newer base."""

__all__: list[str] = []
