"""Trees of blocks as the Hub reads and edits them: public, private (encrypted), and checks of what enters."""

__all__: list[str] = []
