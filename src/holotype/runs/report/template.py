"""Pages: how their templates are filled in."""

import base64
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from holotype.names import RIGHT_TO_LEFT, is_right_to_left, shown

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def templates(package: str) -> "Environment":
    """Return the templates of `package`: what they are given is only ever text that can be shown.

    An unknown name is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(value: Any) -> Any:
    """Every value that a template prints comes through here; markup is made of some that did."""
    return value if hasattr(value, "__html__") else shown(str(value))


def put_in(page: str, name: str, text: str) -> str:
    """Return the HTML `page` with `text`, comments included, in the place that comments call `name`, if it has one."""
    place = re.compile(f"<!-- {name} -->.*?<!-- end of {name} -->", re.DOTALL)
    return place.sub(lambda _: text.strip(), page, count=1)


def as_data(image: bytes) -> str:
    """Return a JPEG as a URL that holds it."""
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def isolating(names: Iterable[str]) -> "Callable[[Any], Markup]":
    """Return a filter for sentences: what is read from right to left in them takes nothing beside it along.

    Of `names` each is isolated as a whole, with blanks and digits in it; of other text only the letters are.
    """
    from markupsafe import Markup, escape

    whole = sorted((str(escape(name)) for name in names if is_right_to_left(name)), key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, whole), f"{RIGHT_TO_LEFT}+"]))

    def isolated(text: Any) -> Markup:
        found = escape(_shown(text))
        return Markup(pattern.sub(lambda part: f"<bdi>{part[0]}</bdi>", found))  # noqa: S704 - `found` is escaped

    return isolated
