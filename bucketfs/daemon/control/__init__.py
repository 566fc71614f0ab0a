"""The control socket of a running mount, and what each command does there."""

__all__: list[str] = []
