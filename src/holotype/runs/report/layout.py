"""How much of each class the report shows: the more classes there are, the less, so that one file holds them all."""

from dataclasses import dataclass

PICTURES = 8_500_000  # bytes of all pictures together; as text of the page they take a third more
FOLDED = 12  # classes above which tables that have a row for each are folded
CARDS = 60  # classes above which the summary is a table, without pictures
SECTIONS = 1000  # classes that have a section of their own
LONGEST_NAME = 60  # characters of a class's name, but where it is the heading
LONGEST_ID = 80  # characters of an image's id in a caption
LISTED = 100  # lines of a list that may have one for each class or image


@dataclass(frozen=True)
class SheetLayout:
    """What is shown of one class, as pictures.

    side       pixels of the long side
    strip      pictures in the summary, of `small` pixels
    exemplars  pictures, as of `best`; `others`: of each of those around the threshold, and those left out
    share      bytes that they may take together
    """

    side: int
    strip: int
    exemplars: int
    best: int
    others: int
    share: int
    small: int = 96

    @property
    def zoom(self) -> bool:
        """Whether a picture has more to show than it does at its place."""
        return self.side >= self.small * 4 / 3


def layout_for(classes: int) -> SheetLayout:
    """Return how much is shown of each of so many classes."""
    share = PICTURES // max(classes, 1)
    if classes <= 6:
        return SheetLayout(256, 10, 12, 24, 12, share)
    if classes <= 20:
        return SheetLayout(192, 8, 8, 18, 8, share)
    if classes <= CARDS:
        return SheetLayout(144, 6, 6, 12, 6, share)
    if classes <= 200:
        return SheetLayout(112, 0, 4, 8, 3, share)
    return SheetLayout(64, 0, 1, 4, 1, share)


def clipped(text: str, longest: int = LONGEST_NAME) -> str:
    """Return `text` with its middle left out where it is too long: names of files differ at their ends."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]}…{text[head + 1 - longest :]}"


def first_few(names: list[str], shown: int = 5) -> str:
    """Return the first of `names`, each clipped, and how many more there are."""
    more = len(names) - shown
    some = ", ".join(clipped(name) for name in names[:shown])
    return f"{some} and {more:,} more" if more > 0 else some
