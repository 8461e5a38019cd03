"""What can go wrong, each with what was expected, what came, and what to do.

HolotypeError
├── PoolError            the images: missing, empty, cut off, two with one id, no such id
├── UnreadableImage      one image that cannot be decoded (a run lists it and goes on)
│   └── UnreadableHere   with another limit, another package, or another time it may be
│       └── UnreadableNow  a disk, a network or memory was away: in a moment it may be
├── ExemplarError        an exemplar that is unknown, unreadable or given for two classes
├── EncoderError         an encoder that is unknown, not at hand, or of the wrong shape
├── EmbeddingsError      vectors that do not belong to the pool, or are no vectors
├── GroupError           a class without a single similar image
├── TestSetError         a test CSV with unknown ids, columns or values
├── AnswersError         what people said of images cannot be recorded, or read from a file
│   └── DamagedAnswers   the file of the answers is not as it was written
├── ModelError           a saved model that is not whole, or not ours
│   └── NotFittedError   a classifier that was asked before it was fitted
└── OutputError          an output that is taken or cannot be written
"""

from holotype.names import printable


class HolotypeError(Exception):
    """The base of every error that this package raises on purpose; its message is one line, whatever it repeats."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class PoolError(HolotypeError):
    """The images cannot be used as a pool."""


class UnreadableImage(HolotypeError):
    """One image cannot be decoded; the message is the reason."""


class UnreadableHere(UnreadableImage):
    """One image is beyond a limit that can be raised, or needs a package that can be installed."""


class UnreadableNow(UnreadableHere):
    """One image cannot be read or decoded now, and nothing says that its bytes are bad."""


class ExemplarError(HolotypeError):
    """An exemplar cannot be used."""


class EncoderError(HolotypeError):
    """An encoder cannot be loaded or used."""


class EmbeddingsError(HolotypeError):
    """Vectors do not belong to this pool, or are no vectors."""


class GroupError(HolotypeError):
    """A class has no group to learn from."""


class TestSetError(HolotypeError):
    """The labelled rows for evaluation cannot be used."""

    __test__ = False  # keeps pytest from collecting a class whose name starts with "Test"


class AnswersError(HolotypeError):
    """Answers cannot be recorded, or taken from a file."""


class DamagedAnswers(AnswersError):
    """The file of the answers is not as it was written."""


class ModelError(HolotypeError):
    """A saved model cannot be loaded."""


class NotFittedError(ModelError, ValueError, AttributeError):
    """A classifier was asked before it was fitted; as scikit-learn's, it is a `ValueError` and an `AttributeError`."""


class OutputError(HolotypeError):
    """A result cannot be written."""


class HolotypeWarning(UserWarning):
    """Something that the caller should know, and that stops nothing."""
