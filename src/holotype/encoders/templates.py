"""Prompt templates: what a few words are put into before a text tower sees them, which learnt from whole captions.

Their vectors are averaged, as in CLIP (Radford et al., ICML 2021, section 3.1.4).
"""

from collections.abc import Sequence

from holotype.errors import EncoderError

PLACE = "{}"  # where the words go
TEMPLATES = (
    "{}",
    "a photo of {}",
    "a close-up photo of {}",
    "a drawing of {}",
    "a sketch of {}",
    "an icon of {}",
    "a picture that shows {}",
)  # for photographs and drawings alike
_BEGINNINGS = tuple(template.partition(PLACE)[0] for template in TEMPLATES if not template.startswith(PLACE))
_ENDS = (".", "!", "?")  # of a sentence


def with_templates(text: str, templates: Sequence[str]) -> list[str]:
    """Return `text` in each of `templates`, alone where it is a sentence that somebody wrote in full.

    That is one which ends like a sentence, or begins like a template of ours.
    """
    if text.endswith(_ENDS) or text.lower().startswith(_BEGINNINGS):
        return [text]
    return in_each(text, templates)


def in_each(text: str, templates: Sequence[str]) -> list[str]:
    """Return `text` in each of `templates`. Raises `EncoderError` for one without a place for it, and for none."""
    for template in templates:
        if PLACE not in template:
            raise EncoderError(
                f"expected a template with {PLACE} where the words go, as in 'a photo of {PLACE}', got {template!r}"
            )
    if not templates:
        raise EncoderError(f"expected at least one template, such as '{PLACE}', got none")
    return [template.replace(PLACE, text) for template in templates]
