"""A finding about a data set."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What looks wrong, in words; fatal: nothing can be learned."""

    text: str
    fatal: bool = False

    def __str__(self):
        return self.text
