"""Files as balanced trees over leaves: build, read, sizes."""

__all__: list[str] = []
