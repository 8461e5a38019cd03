"""The one error of this example."""


class EmojiError(Exception):
    """The data cannot be built; the message says what was expected, what came, and what to do."""
