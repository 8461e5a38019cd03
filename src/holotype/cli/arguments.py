"""What is given on the command line, to values."""

import re
import tomllib
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from holotype.errors import HolotypeError
from holotype.exits import standard_output
from holotype.names import command, printable

if TYPE_CHECKING:
    from holotype.runs.blocks import PoolShare

_ORDER = ["run", "review", "suggest", "answer", "certify", "discover", "update", "predict", "drift", "serve"]
_ORDER += ["evaluate", "tune", "export", "embed", "search", "encoders"]
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# a command of its own, options and all; a name of a file in it may be quoted, or hold what else ends a sentence
_WHOLE = re.compile(r"""holotype [a-z]+(?: (?:'[^']*'|"[^"]*"|[^\s'";,)]*[^\s'";,.:)])+)*""")
_PLACES = {"--images", "--embeddings", "--embeddings-encoder", "--test-set", "--encoder"}  # which may have been moved
_OF_REPEAT = {"--out", "--force", "--resume"} | _PLACES  # what goes with the folder of a run
_OF_WORDS = {"--text", "--describe"}  # which are followed by no path
_QUOTE = "if the shell made several arguments of one pattern, quote it, as in 'pool-{000..150}.tar'"

_Wrong: Any = typer.BadParameter.__bases__[0]  # whatever is wrong with an argument: typer has a click of its own


class OutputFormat(StrEnum):
    """How predictions are printed."""

    JSONL = "jsonl"
    CSV = "csv"
    TABLE = "table"


class ArithmeticName(StrEnum):
    """What the encoder computes in."""

    AUTO = "auto"
    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"


class _Help:
    """Help is written as all output is: where it cannot be, one sentence says so."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]  # of the class that this is mixed into
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(ctx: Any, _option: Any, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        with standard_output():
            print(ctx.get_help(), flush=True)  # noqa: T201
        ctx.exit()


class _Group(_Help, TyperGroup):
    """The commands together, in the order in which they are met."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


class _Command(_Help, TyperCommand):
    """A command that advises nothing which it does not have, and says why there may be more arguments than it takes."""

    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _printable_usage():
            _refuse_empty(args)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _printable_usage():
                if ctx.args:
                    raise typer.BadParameter(f"{' '.join(ctx.args)}: expected no more arguments; {_QUOTE}")
                return self._invoke(ctx)
        except HolotypeError as error:
            others = {name for command in ctx.parent.command.commands.values() for name in _options(command)}
            has = _OF_REPEAT if ctx.params.get("folder") and self.name == "run" else _options(self)
            raise type(error)(advise(str(error), others - has, ctx.params.get("folder"))) from error

    def _invoke(self, ctx: Any) -> Any:
        """Do what the command does; folders and files of a store are worked on here, and sent back."""
        from holotype.progress import Terminal
        from holotype.stores.copies import here, sent_back
        from holotype.stores.urls import from_path

        with sent_back(Terminal):
            ctx.params |= {
                name: here(from_path(value)) for name, value in ctx.params.items() if isinstance(value, Path)
            }
            return super().invoke(ctx)


@contextmanager
def _printable_usage() -> Iterator[None]:
    """What is wrong with the arguments repeats them, and their names may be of files."""
    try:
        yield
    except _Wrong as error:
        error.message = printable(error.message)
        raise


def _options(command: Any) -> set[str]:
    return {name for one in command.params for name in one.opts if name.startswith("--")}


def advise(message: str, foreign: Set[str], folder: Path | None) -> str:
    """Return `message` with what can be done in place of options that the command does not have, the `foreign` ones.

    folder   of the run that the command is about: its settings have them all, and OUT in a message means it
    """
    if folder is not None:
        message = message.replace("holotype run OUT", command("run", folder))
    absent = [name for name in dict.fromkeys(_OPTION.findall(_WHOLE.sub("", message))) if name in foreign]
    if not absent:
        return message
    names = " and ".join(absent)
    if folder is None:
        return f"{message} ({names}: an option of holotype run)"
    from holotype.settings import SETTINGS

    return f"{message} ({names}: change it in {folder / SETTINGS}, and then: {command('run', folder)})"


def _refuse_empty(args: list[str]) -> None:
    """Nothing is no path, and what is behind `=` may be a variable of the shell that is not set."""
    for before, word in zip(["", *args], args, strict=False):
        option = word.startswith("--") and "=" in word
        name, value = (word.split("=", 1)[0], word.split("=", 1)[1]) if option else (before, word)
        if name != "--who" and not value.strip():
            where = f" behind {name}" if name.startswith("-") else ""
            here = "" if name in _OF_WORDS else "; the current folder is written as ."
            raise typer.BadParameter(f"expected something{where}, got nothing{here}")


class Commands(typer.Typer):
    """An app whose commands are all of that kind."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"cls": _Group} | options)

    def command(self, *names: Any, **options: Any) -> Callable[[Any], Any]:
        """Register a function as a command."""
        return super().command(*names, **{"cls": _Command} | options)


def refuse_expanded(folder: Path, images: str | None) -> None:
    """Refuse a second tar that stands where the folder of a run would be: the shell expanded a pattern."""
    if images is not None and (folder.is_file() or folder.suffix == ".tar"):
        raise typer.BadParameter(f"{folder} stands behind --images {images}, which takes one; {_QUOTE}")


def refuse_settings(context: typer.Context, settings: Path) -> None:
    """Refuse options beside the folder of a run, whose `settings` hold, but for those that go with it."""
    typed = (_typed(context, one) for one in context.command.params if one.name)
    if other := [name for name in typed if name.startswith("--") and name not in _OF_REPEAT]:
        raise typer.BadParameter(
            f"OUT repeats a run with its own settings, so {' and '.join(other)} cannot be given; edit {settings}, or "
            "give all options without OUT, and another --out"
        )


def _typed(context: typer.Context, one: Any) -> str:
    """How an option was given, nothing where it was not."""
    source = context.get_parameter_source(one.name)
    if source is None or source.name != "COMMANDLINE":
        return ""
    off = context.params[one.name] is False and one.secondary_opts
    return str((off or one.opts)[0])


def read_exemplars(given: list[str], folder: Path | None, say: Callable[[str], None]) -> dict[str, list[str]]:
    """Read `NAME=ID`, and the classes of `folder`: class -> what its exemplars are called; `say` what was left out."""
    from holotype.pool.exemplars import add, left_out, read_folder

    found = read_folder(folder) if folder else {}
    if folder and (left := left_out(folder)):
        say(f"left out of {folder}, as no exemplars: {left}")
    for name, code in _named(given, "NAME=ID or NAME=path/to.jpg"):
        add(found, name, code)
    return found


def read_described(given: list[str], table: Path | None) -> dict[str, list[str]]:
    """Read `NAME=TEXT`, and the lines of `table`: class -> words that describe it."""
    from holotype.pool.descriptions import read_descriptions
    from holotype.pool.exemplars import add

    found = read_descriptions(table) if table else {}
    for name, text in _named(given, "NAME=TEXT, as in 'cat=a cat that sleeps'"):
        add(found, name, text)
    return found


def read_renamed(given: list[str]) -> dict[str, str]:
    """Read `OLD=NEW`: the name of a class -> its new one."""
    found = dict[str, str]()
    for old, new in _named(given, "OLD=NEW, the names of a class"):
        if found.setdefault(old, new) != new:
            raise typer.BadParameter(f"expected one new name for {old}, got {found[old]} and {new}")
    return found


def _named(given: list[str], expected: str) -> Iterator[tuple[str, str]]:
    """Yield the class and what defines it, of each `NAME=VALUE`."""
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals and value.strip()):
            raise typer.BadParameter(f"expected {expected}, got {one!r}")
        yield name, value


def read_who(given: str | None) -> str:
    """Return whose answers those without a name are: the user's, where nobody says."""
    import getpass

    try:
        return getpass.getuser() if given is None else given
    except (OSError, KeyError):  # a user without a name
        return ""


def read_thresholds(text: str) -> list[Any]:
    """Read `auto` or a cosine, or several with commas between."""
    try:
        return [part if part == "auto" else float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected numbers or auto, with commas between, got {text!r}") from None


def read_options(given: list[str]) -> dict[str, Any]:
    """Read `a.b=1` as {"a": {"b": 1}}; a value that is not TOML is a word."""
    found: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"expected --set NAME=VALUE, got {one!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (RecursionError, ValueError):  # no TOML, or too deep or too long for its reader
            value = text
        *outer, last = name.split(".")
        inside = found
        for part in outer:
            inside = inside.setdefault(part, {})
            if not isinstance(inside, dict):
                raise typer.BadParameter(f"--set {name} is inside of {part}, which was given as a value")
        inside[last] = value
    return found


def read_share(text: str | None, ray: str | None) -> "PoolShare | None":
    """Return what `--shard I/N` says, with I from 0 to N: those who count from 1 and from 0 are both right."""
    if text is None:
        return None
    from holotype.runs.blocks import PoolShare

    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if ray is not None:
        raise typer.BadParameter("--shard and --ray both say who does what; give one of them")
    if found is None or not int(found[1]) <= int(found[2]) > 0:
        raise typer.BadParameter(
            f"expected --shard I/N with N shares and I from 0 to N - 1, or from 1 to N, got {text}"
            "; in an array of Slurm: --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT, with --array=0-63 or 1-64"
        )
    return PoolShare(int(found[1]), int(found[2]))
