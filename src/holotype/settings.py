"""Every setting and its default, in one place; `holotype.toml` holds the same names."""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from holotype.errors import HolotypeError
from holotype.faults import describe
from holotype.files import reason
from holotype.filestate import regular
from holotype.names import same_name

Threshold = Annotated[float, Field(ge=-1, le=1)] | Literal["auto"]
Balance = Literal["weights", "effective", "augment", "none"]
HeadName = Literal["linear", "mlp"]
SETTINGS = "holotype.toml"  # in the folder of a run
UNFINISHED = "unfinished.toml"  # the same of one that has no results yet
ENCODER = "efficientnet_lite0"
WORDS_ENCODER = "clip-vit-b32"  # where words are looked for, and no encoder is named
Arithmetic = Literal["auto", "f32", "bf16", "int8"]
ARITHMETIC: Arithmetic = "auto"
SpaceName = Literal["raw", "whitened", "pairs", "neighbours"]
SearchIn = Literal["auto", "embeddings", "encoder", "both"]
# settings that the command line does not call as they are called here
_OPTIONS = {
    "exemplars": "--exemplar",
    "descriptions": "--describe",
    "thresholds": "--threshold",
    "heads": "--head",
    "encoders": "--encoder",
    "trials": "--tune",
    "fit": "--set",
    "allowed_hosts": "--allowed-host",
}
_NAMED = ("exemplars", "descriptions", "fit")  # whose values have names of their own behind the option


def as_option(key: str) -> str:
    """Return how a setting is given on the command line: "heads.0" is "--head", "fit.seed" is "--set seed"."""
    first, _, rest = key.partition(".")
    if key == "fit.balance":
        return "--balance"
    typed = _OPTIONS.get(first, f"--{first.replace('_', '-')}")
    return f"{typed} {rest}" if rest and first in _NAMED else typed


def with_described(exemplars: Mapping[str, Any], described: Iterable[str]) -> dict[str, Any]:
    """Return `exemplars` with each class that only words describe, which has none."""
    return {**exemplars, **{name: [] for name in described if name not in exemplars}}


class Strict(BaseModel):
    """Settings do not change, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any], called: Callable[[str], str] = str) -> Self:
        """Check `values`. Raises `HolotypeError` that names each wrong setting as it is `called` where it was given."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise HolotypeError(f"these settings cannot be used: {describe(error, cls, called)}") from None


class HeadSettings(Strict):
    """Hyperparameters of the heads; `tune` searches over them.

    `strength` is the inverse of the linear head's L2 penalty; the rest belongs to the MLP.
    """

    strength: float = Field(10.0, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    units: int = Field(128, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    batch_size: int = Field(512, ge=2)
    epochs: int = Field(40, ge=1)
    patience: int = Field(5, ge=1)


class RankSettings(Strict):
    """How an automatic threshold finds a class; each stage can be switched off.

    space           what the pool is compared in: "raw", "whitened", "pairs" or "neighbours" (`space.fit_space`)
    exemplar_views  average each exemplar with a view of its middle, where its encoder is at hand
    diffusion       rank along the graph of the pool; without it, by cosine in the space
    self_training   start once more from the surest images too
    """

    space: SpaceName = "neighbours"
    exemplar_views: bool = True
    diffusion: bool = True
    self_training: bool = True


class TrainSettings(Strict):
    """How one classifier is trained, but for what a run sweeps over.

    runtime           what runs the encoder
    precision         of its arithmetic: "f32", "bf16", "int8", or "auto": the fastest that gives nearly the same
    doubtful_band     width of the band below a threshold, in robust standard deviations of the class's cosines; of an
                      automatic one, how often the estimated probability may halve
    ambiguity         an image above two thresholds is doubtful when its margins differ by less than this
    rank              how an automatic threshold finds a class; with its space "raw", heads learn in plain vectors too
    balance           how imbalance is met: class weights (inverse frequency, or effective number), or augmentation
    views             most augmented views of one training image
    negatives         background images sampled as the class "none"
    validation        share of the training rows that is held out at a time, each in its turn
    near_duplicate    cosine (search space) from which two rows are nearly the same: they are held out together,
                      and what is nearly the same as a test row is held out with it
    """

    runtime: Literal["openvino", "onnxruntime"] = "openvino"
    precision: Arithmetic = ARITHMETIC
    doubtful_band: float = Field(1.0, ge=0)
    ambiguity: float = Field(0.01, ge=0)
    rank: RankSettings = RankSettings()
    head_settings: HeadSettings = HeadSettings()
    balance: Balance = "weights"
    views: int = Field(8, ge=1)
    negatives: int = Field(3000, ge=1)
    validation: float = Field(0.2, gt=0, lt=1)
    near_duplicate: float = Field(0.97, gt=0, le=1)
    seed: int = 0


class FitSettings(TrainSettings):
    """What `Classifier` takes: everything between the similarity scores and the calibrated model.

    encoder     the model space, by name or path of an .onnx file
    threshold   cosine above which an image joins a class, or "auto"
    head        "linear" or "mlp"
    """

    encoder: str = ENCODER
    threshold: Threshold = "auto"
    head: HeadName = "linear"


class ServeSettings(Strict):
    """How models are served.

    host, port     where; port 0 is one that is free
    token          what a request must have as `Authorization: Bearer`; without one, only this machine may ask
    insecure       others may ask without a token, too
    allowed_hosts  names that the server is called by, beside its own address
    queue          images that may wait at once; a request that finds no room is told to try again
    images         images that one request may have
    megabytes      that one request may have; `memory`: that all requests together may have
    seconds        in which a request is answered, its body read before in as many
    learn          annotations of Label Studio are answers of the run that is served
    record         a file that a line is appended to for each image that was answered; "": none is
    label_studio   the address of the Label Studio whose uploads and local files are fetched; "": none are
    """

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    token: str = ""
    insecure: bool = False
    allowed_hosts: list[str] = []
    queue: int = Field(256, ge=1)
    images: int = Field(64, ge=1)
    megabytes: int = Field(64, ge=1)
    memory: int = Field(1024, ge=1)
    seconds: float = Field(30.0, gt=0, le=86_400)
    learn: bool = False
    record: str = ""
    label_studio: str = ""

    @model_validator(mode="after")
    def _room_for_one(self) -> Self:
        if self.memory < self.megabytes:
            raise ValueError(f"expected --memory of at least --megabytes ({self.megabytes}), got {self.memory}")
        return self

    @field_validator("token")
    @classmethod
    def _sendable(cls, token: str) -> str:
        if not re.fullmatch(r"[!-~]*", token):
            raise ValueError("expected letters, digits and signs of ASCII, without spaces: others cannot be sent")
        return token


class Addition(Strict):
    """Images that were added to those of a run, and their vectors where those of the run were supplied."""

    images: str
    embeddings: str | None = None


class Settings(Strict):
    """One run: its inputs, what is swept, and how each classifier is trained.

    Every combination of `thresholds`, `heads` and `encoders` is trained; `fit` holds the rest. Of these, the best
    on validation rows is chosen, and tuned with `trials` trials.

    exemplars      class -> ids or paths of images; none of a class that words alone describe
    descriptions   class -> what it looks like, in words
    more           what was added to `images` since, in this order
    all_rows       of a very large pool a row is written for each image that is not ranked, too
    out   where the run was done: what was moved together with it is found by how it lay to it
    """

    images: str
    more: list[Addition] = []
    descriptions: dict[str, list[str]] = {}
    exemplars: dict[str, list[str]] = Field(min_length=1)
    embeddings: str | None = None
    embeddings_encoder: str | None = None
    search: SearchIn = "auto"
    test_set: str | None = None
    thresholds: list[Threshold] = Field(default=[FitSettings().threshold], min_length=1)
    heads: list[HeadName] = Field(default=[FitSettings().head], min_length=1)
    encoders: list[str] = Field(default=[FitSettings().encoder], min_length=1)
    trials: int = Field(0, ge=0)
    tune_threshold: bool = False
    allow_truncated: bool = False
    all_rows: bool = False
    out: str | None = None
    fit: TrainSettings = TrainSettings()

    @property
    def sources(self) -> list[str]:
        """Where all images are."""
        return [self.images, *(one.images for one in self.more)]

    @property
    def supplied(self) -> list[str]:
        """The vectors of each source, where they were supplied."""
        return [given for given in (self.embeddings, *(one.embeddings for one in self.more)) if given is not None]

    @model_validator(mode="after")
    def _vectors_of_all(self) -> Self:
        for one in self.more:
            if (one.embeddings is None) != (self.embeddings is None):
                raise ValueError(
                    f"expected vectors of {one.images} too, as those of the run were supplied: add --embeddings, which "
                    "holotype embed computes with the encoder of the others"
                    if one.embeddings is None
                    else f"expected no vectors of {one.images}, as the run computes those of its images"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _described_classes(cls, values: Any) -> Any:
        """A class that words describe is one of the classes."""
        match values:
            case {"descriptions": dict(described)} if isinstance(exemplars := values.get("exemplars", {}), dict):
                named = {same_name(name, exemplars): texts for name, texts in described.items()}
                return values | {"exemplars": with_described(exemplars, named), "descriptions": named}
        return values

    @field_validator("descriptions", "exemplars")
    @classmethod
    def _no_reserved_class(cls, given: dict[str, list[str]]) -> dict[str, list[str]]:
        if "none" in given:
            raise ValueError('"none" is the name of the rejected class; call the class something else')
        return given

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `holotype.toml`. Raises `HolotypeError` where it is missing or wrong."""
        try:
            values = tomllib.loads(regular(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise HolotypeError(
                f"expected the settings of a run in {path}, and there is no such file: give the folder of a run, as "
                "holotype run --out made it"
            ) from None
        except OSError as error:
            raise HolotypeError(reason(error)) from error
        except (RecursionError, ValueError) as error:  # TOML's own errors, of text and of what is too deep or too long
            raise HolotypeError(f"{path} is not valid TOML: {error}") from None
        return cls.parse(values)

    def in_order(self, classes: Sequence[str]) -> Self:
        """Return these settings with the classes in the order of `classes`: names decide, not places.

        Raises `HolotypeError` when they are others.
        """
        if sorted(classes) != sorted(self.exemplars):
            raise HolotypeError(
                f"the run was done for the classes {', '.join(classes)}, and its settings name "
                f"{', '.join(self.exemplars)}: do the run again (holotype run OUT)"
            )
        described = {name: self.descriptions[name] for name in classes if name in self.descriptions}
        exemplars = {name: self.exemplars[name] for name in classes}
        return self.model_copy(update={"exemplars": exemplars, "descriptions": described})

    def to_toml(self) -> str:
        """Every setting, resolved, as TOML."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude_none=True))
