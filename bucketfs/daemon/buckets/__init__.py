"""The buckets of one mount: which there are, opening them, keeping them in step, letting them go."""

__all__: list[str] = []
