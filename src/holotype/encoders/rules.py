"""How a text tower wants its words: by data for known families, else by the files that are published beside it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from holotype.encoders.templates import TEMPLATES
from holotype.errors import EncoderError
from holotype.pointers import why_pointer

CONFIG, TOKENIZER_CONFIG, SPECIAL = "config.json", "tokenizer_config.json", "special_tokens_map.json"
_MOST_TOKENS = 8192  # a tower that takes more is none for captions; "no limit" is written as a huge number


@dataclass(frozen=True)
class TextRules:
    """How texts become token ids for a text tower, and what its cosines mean.

    length     how many tokens it takes, begin and end among them; shorter texts are padded to it
    pad        the token that fills: a tower that looks at all places, as SigLIP's, gives another vector with another
    end        the token that must stand at the end, where the tokenizer does not put it there itself
    lower      lower case first, where the tokenizer does not do it itself
    bare       without punctuation
    masked     whether it is told which tokens are padding
    left       whether padding comes first
    scale      what a cosine is multiplied with, and `bias` added, before softmax (CLIP) or sigmoid (SigLIP); None: not
               known
    templates  what words are put into
    """

    length: int
    pad: str
    end: str | None = None
    lower: bool = False
    bare: bool = False
    masked: bool = False
    left: bool = False
    scale: float | None = None
    bias: float | None = None
    templates: tuple[str, ...] = TEMPLATES

    def to_json(self) -> str:
        """Return the rules as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TextRules":
        """Return the rules that `to_json` wrote."""
        values = json.loads(text)
        return cls(**values | {"templates": tuple(values["templates"])})


CLIP = TextRules(77, "<|endoftext|>", end="<|endoftext|>", lower=True, masked=True)
SIGLIP = TextRules(64, "</s>", end="</s>", lower=True, bare=True)
SIGLIP2 = TextRules(64, "<pad>", end="<eos>", lower=True)
_BY_TOKENIZER = {
    "CLIPTokenizer": CLIP,
    "SiglipTokenizer": SIGLIP,
    "Siglip2Tokenizer": SIGLIP2,
    "GemmaTokenizer": SIGLIP2,
}
_GEMMA = ("GemmaTokenizer", "Siglip2Tokenizer")  # they pad on the left, and add no end, where nothing else is said
_BY_MODEL = {"clip": CLIP, "siglip": SIGLIP, "siglip2": SIGLIP2}
_CLEANING: Mapping[str, dict[str, bool]] = {  # of open_clip
    "canonicalize": {"lower": True, "bare": True},
    "lower": {"lower": True},
    "whitespace": {},
}


def read_rules(tokenizer: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> TextRules:
    """Return the rules of a text tower.

    tokenizer   what its tokenizer.json holds
    configs     what the files beside it hold, by name: `CONFIG`, `TOKENIZER_CONFIG`, `SPECIAL`, those that there are

    Raises `EncoderError` where they say neither how many tokens it takes nor what fills.
    """
    config, told = configs.get(CONFIG, {}), configs.get(TOKENIZER_CONFIG, {})
    family = _family(config, told, tokenizer)
    filling = [told, configs.get(SPECIAL, {}), _table(tokenizer, "padding")]
    pads = [*(_token(one.get("pad_token")) for one in filling), family.pad if family else None]
    pad = next(filter(None, pads), None)
    length = _length(config, told, tokenizer) or (family.length if family else None)
    if not pad or not length:
        raise EncoderError(
            f'expected "pad_token" and "model_max_length" in {TOKENIZER_CONFIG} beside the tokenizer: the token that '
            f"texts are padded with, and how many tokens the text tower takes; got {pad!r} and {length!r}"
        )
    found = replace(family or TextRules(length, pad, masked=True), length=length, pad=pad)
    found = replace(found, **_told(config, told))
    return suited(found, tokenizer)


def suited(rules: TextRules, tokenizer: Mapping[str, Any]) -> TextRules:
    """Return `rules` without what a tokenizer does itself: it knows better how letters of its vocabulary are small."""
    return replace(rules, lower=rules.lower and not _lowers(tokenizer.get("normalizer")))


def read_values(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds. Raises `EncoderError` where it is none, or holds no table."""
    try:
        content = path.read_bytes()
        if pointer := why_pointer(content):
            raise EncoderError(f"{path}: {pointer}")
        values = json.loads(content)
    except OSError as error:
        raise EncoderError(f"{path} cannot be read: {error.strerror or error}") from None
    except (RecursionError, ValueError) as error:
        raise EncoderError(f"expected JSON in {path}: {error}") from None
    if not isinstance(values, dict):
        raise EncoderError(f"expected a JSON table in {path}, got a {type(values).__name__}")
    return values


def _family(config: Mapping[str, Any], told: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> TextRules | None:
    """The known family that a tower belongs to, if any.

    A SigLIP 2 of a fixed size calls itself "siglip", so the class of the tokenizer counts first. One of another class
    is prepared by its tokenizer.json alone, as transformers does it.
    """
    named = _class(told)
    if named in _BY_TOKENIZER:
        return _BY_TOKENIZER[named]
    kind = str(config.get("model_type") or "").removesuffix("_text_model")
    if kind in _BY_MODEL:
        return replace(_BY_MODEL[kind], lower=False, bare=False, end=None) if named else _BY_MODEL[kind]
    is_clip = any(isinstance(one, dict) and one.get("content") == "<|startoftext|>" for one in _added(tokenizer))
    return CLIP if is_clip else None


def _told(config: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """What the files say themselves of how texts are prepared."""
    found: dict[str, Any] = {}
    of_gemma = _class(told) in _GEMMA  # what is not said is as the class of the tokenizer has it
    found["left"] = told.get("padding_side", "left" if of_gemma else "right") == "left"
    if isinstance(ends := told.get("add_eos_token", False if of_gemma else None), bool):
        found["end"] = _token(told.get("eos_token")) if ends else None
    if isinstance(told.get("model_input_names"), list):
        found["masked"] = "attention_mask" in told["model_input_names"]
    if told.get("do_lower_case") is False:
        found["lower"] = False
    if text := _table(config, "text_cfg"):  # of open_clip, whose towers take ids alone
        usual = "whitespace" if text.get("hf_tokenizer_name") else "lower"
        clean = _table(text, "tokenizer_kwargs").get("clean") or usual
        if clean not in _CLEANING:
            raise EncoderError(f'expected "clean" of {", ".join(_CLEANING)} in {CONFIG}, got {clean!r}')
        found |= {"lower": False, "bare": False, "masked": False} | _CLEANING[clean]
    return found


def _class(told: Mapping[str, Any]) -> str:
    return str(told.get("tokenizer_class") or "").removesuffix("Fast")


def _length(config: Mapping[str, Any], told: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    found = [
        _table(config, "text_cfg").get("context_length"),
        _table(config, "text_config").get("max_position_embeddings"),
        config.get("max_position_embeddings"),
        told.get("model_max_length"),
        _table(tokenizer, "truncation").get("max_length"),
    ]
    return next((one for one in found if type(one) is int and 1 < one <= _MOST_TOKENS), None)


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _token(value: Any) -> str | None:
    """A token as it is written: text, or a table with its content."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and value else None


def _added(tokenizer: Mapping[str, Any]) -> list[Any]:
    found = tokenizer.get("added_tokens")
    return found if isinstance(found, list) else []


def _lowers(normalizer: Any) -> bool:
    """Whether a part of a tokenizer makes letters small."""
    if isinstance(normalizer, dict):
        small = normalizer.get("type") == "Lowercase" or normalizer.get("lowercase") is True
        return small or any(_lowers(one) for one in normalizer.get("normalizers") or [])
    return False
