"""The process and its machine: start, readiness, service manager, limits, registries of mounts and mirrors."""

__all__: list[str] = []
