"""Texts to token ids, by a tokenizer.json and the rules of a text tower."""

import string
from collections.abc import Sequence
from typing import TYPE_CHECKING
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.rules import TextRules
from holotype.errors import EncoderError

if TYPE_CHECKING:
    import tokenizers

Ids = NDArray[np.int64]
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_UNSEEN = ("Cc", "Cs")  # control characters and surrogates
_SHOWN = 60  # characters of a text in an error


class Tokens:
    """Turns texts into ids. `content` is a tokenizer.json.

    Raises `EncoderError` where it is none, lacks a token that the rules name, or the package is missing.
    """

    def __init__(self, content: str, rules: TextRules) -> None:
        self.rules = rules
        self._tokenizer = _open(content)
        self._pad = self._id(rules.pad)
        self._end = None if rules.end is None else self._id(rules.end)

    def _id(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise EncoderError(
                f"the tokenizer has no token {token!r}, which its text tower is padded or ended with: its "
                "tokenizer.json and its tokenizer_config.json belong to two networks"
            )
        return found

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Return ids (n, length) int64, and 1 where they are of the text and 0 where they fill (n, length) int64.

        Raises `EncoderError` for a text that is empty, or has more tokens than the tower takes.
        """
        ids = np.full((len(texts), self.rules.length), self._pad, np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            found = self._encode(text)
            part = slice(self.rules.length - len(found), None) if self.rules.left else slice(len(found))
            ids[row, part], mask[row, part] = found, 1
        return ids, mask

    def _encode(self, text: str) -> list[int]:
        prepared = prepare(text, self.rules)
        if not prepared:
            raise EncoderError(f"expected words, got {text!r}, of which nothing is left for the text tower")
        found: list[int] = self._tokenizer.encode(prepared).ids
        if self._end is not None and found[-1:] != [self._end]:
            found.append(self._end)
        if len(found) > self.rules.length:
            raise EncoderError(
                f"a text has {len(found)} tokens, and the text tower takes {self.rules.length}, begin, end and "
                f"template among them; say it in fewer words: {text[:_SHOWN]!r}"
            )
        return found


def prepare(text: str, rules: TextRules) -> str:
    """Return `text` in one line and, by the rules, in lower case and without punctuation.

    The order is that of big_vision (`canonicalize_text`), from which SigLIP has it. Control characters are as spaces,
    and so are halves of characters, which no tokenizer takes.
    """
    shown = "".join(" " if category(one) in _UNSEEN else one for one in text)
    shown = shown.lower() if rules.lower else shown
    shown = shown.translate(_PUNCTUATION) if rules.bare else shown
    return " ".join(shown.split())


def check_package() -> None:
    """Raise `EncoderError` where the package that cuts words into tokens is not installed."""
    try:
        import tokenizers  # noqa: F401 - so that nothing large is fetched before it is missed
    except ImportError:
        raise EncoderError(
            "words are cut into tokens by the package tokenizers, which is not installed: pip install 'holotype[words]'"
        ) from None


def _open(content: str) -> "tokenizers.Tokenizer":
    check_package()
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_str(content)
    except Exception as error:  # it raises Exception itself
        raise EncoderError(
            f"expected a tokenizer.json of the package tokenizers, and it cannot be read: {error}"
        ) from None
    found.no_padding()
    found.no_truncation()  # what is too long is said
    found.encode_special_tokens = True  # a text that has one in it is not ended there
    return found
