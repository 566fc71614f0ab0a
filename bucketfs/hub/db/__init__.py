"""The Hub's metadata database: schema, models, and one short transaction per method."""

__all__: list[str] = []
