"""Text towers: words to vectors in the space of an image encoder, so that the two can be compared."""

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from holotype import forks
from holotype.encoders.encode import l2_normalize
from holotype.encoders.graph import read_graph
from holotype.encoders.rules import TextRules
from holotype.encoders.runtimes import Network, Shape, check_runtime, open_network, read_network, run_network
from holotype.encoders.templates import in_each, with_templates
from holotype.encoders.text_network import RULES, TOKENIZER_JSON
from holotype.encoders.tokens import Ids, Tokens
from holotype.errors import EncoderError

if TYPE_CHECKING:
    from holotype.encoders.hub import Snapshot

_PREPARATION = "one line, unit vectors averaged over templates"  # another way makes other vectors
_BATCH = 8  # texts that a network takes at once


class TextEncoder:
    """A text tower kept as one ONNX file, with its tokenizer and rules inside (see `text_network`).

    name         of the image encoder that it belongs to
    path         its file; what lies there may be replaced while the encoder is in use
    rules        how it wants its words, and what its cosines mean
    dim          how many features it gives: as many as the image encoder
    fingerprint  of network, tokenizer and rules
    source       what its file was made from, where that came from the hub

    It may be used from many threads, after a fork, and in another process, to which it travels with its content.
    Raises `EncoderError` where the runtime cannot load it, it is no text tower, or `tokenizers` is not installed.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        runtime: str = "openvino",
        content: bytes | None = None,
        source: "Snapshot | None" = None,
    ) -> None:
        check_runtime(runtime)
        self.name = name
        self.path = path
        self.runtime = runtime
        self.source = source
        self.content = read_network(path) if content is None else content
        self.fingerprint = hashlib.sha256(
            f"{hashlib.sha256(self.content).hexdigest()} {_PREPARATION}".encode()
        ).hexdigest()
        self.rules, self._tokens = _read(self.content, path)
        self._forget_network()
        forks.note(self)
        self.dim = self._open().dim

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.path, self.runtime, self.content, self.source)

    def begin_in_child(self) -> None:
        """Open the network anew when it is next used; to take down the parent's would wait for its threads."""
        forks.leave(self.__dict__.get("_network"))
        self._forget_network()

    def _forget_network(self) -> None:
        self._lock = threading.Lock()
        self._network: Network | None = None

    def _open(self) -> Network:
        with self._lock:
            if self._network is None:
                self._network = open_network(
                    self.content, self.path, self.runtime, "f32", alone=True, trial=self._trial
                )
            return self._network

    def _trial(self, shape: Shape) -> Sequence[Ids]:
        if len(shape) != 2 or shape[1] != self.rules.length:
            raise EncoderError(
                f"expected a network that takes ids (n, {self.rules.length}), as its rules say, got {shape}"
            )
        return [np.ones((1, self.rules.length), np.int64)] * (1 + self.rules.masked)

    def encode(self, texts: Sequence[str], templates: Sequence[str] | None = None) -> NDArray[np.float32]:
        """Return (n, dim) float32 unit vectors of `texts`.

        Each text is put into each of `templates` ("a photo of {}"); the unit vectors of what that gives are averaged,
        and made unit vectors again. None are the tower's own, into which a sentence that somebody wrote in full is not
        put. Raises `EncoderError` for a text that is empty or has more tokens than the tower takes, and for a template
        without {}.
        """
        if isinstance(texts, str):
            raise EncoderError(f"expected a list of texts, got one text; give [{texts!r}]")
        if templates is None:
            groups = [with_templates(_words(text), self.rules.templates) for text in texts]
        else:
            groups = [in_each(_words(text), templates) for text in texts]
        sentences = [sentence for group in groups for sentence in group]
        if not sentences:
            return np.zeros((0, self.dim), np.float32)
        units = l2_normalize(self._encode(sentences))
        counts = [len(group) for group in groups]
        starts = np.cumsum([0, *counts[:-1]])
        found = l2_normalize(np.add.reduceat(units, starts, axis=0) / np.array(counts, np.float32)[:, None])
        for text, vector in zip(texts, found, strict=True):
            if not vector.any():
                raise EncoderError(f"{self.name}: its text tower gives only zeros for {text!r}: say it in other words")
        return found

    def _encode(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, dim) features, which are no unit vectors yet."""
        try:
            ids, mask = self._tokens.encode(sentences)
        except EncoderError as error:
            raise EncoderError(f"{self.name}: {error}") from None
        network = self._open()
        batch = _BATCH if isinstance(network.shape[0], str) else network.shape[0]
        parts = [slice(start, start + batch) for start in range(0, len(ids), batch)]
        failed = f"{self.path} failed in {self.runtime}"
        inputs = [ids, mask] if self.rules.masked else [ids]
        found = np.concatenate([run_network(network, [one[part] for one in inputs], failed) for part in parts])
        if found.shape != (len(ids), self.dim) or not np.isfinite(found).all():
            raise EncoderError(f"expected {self.dim} finite features of each of {len(ids)} texts from {self.path}")
        return found


def _words(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise EncoderError(f"expected words that say what an image shows, got {text!r}")
    return " ".join(text.split())


def _read(content: bytes, path: Path) -> tuple[TextRules, Tokens]:
    """What the file of a text tower says of its words."""
    try:
        told = {entry.key: entry.value for entry in read_graph(content).metadata_props}
        rules = TextRules.from_json(told[RULES])
        return rules, Tokens(told[TOKENIZER_JSON], rules)
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"expected a text tower with rules and tokenizer in {path} ({type(error).__name__}); delete it, and "
            "it is made again"
        ) from None
