"""Where towers lie in a folder or a repository: an image tower, the text tower that belongs to it, and its tokenizer.

Each way in which they are published is data here, for a folder and for the hub alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holotype.encoders.hub import EXTERNAL, Files
from holotype.encoders.preprocessing import OPEN_CLIP, PREPROCESSOR, PROCESSOR
from holotype.encoders.rules import CONFIG, SPECIAL, TOKENIZER_CONFIG, read_values

TOKENIZER = "tokenizer.json"
WEIGHTS = "*.safetensors"
_CONFIGS = (CONFIG, TOKENIZER_CONFIG, SPECIAL)
_FAMILIES = ("text_config", "text_cfg")  # what the configuration of a network with a text tower has


@dataclass(frozen=True)
class TowerLayout:
    """The files of two towers, as paths within a folder; `WEIGHTS` for the weights of transformers, which hold both.

    preprocessing   what says how images are prepared, where the image tower's own folder does not
    configs         the folders whose configuration says how texts are prepared, the first that has one
    swap            where the text tower has a folder or repository of its own: what is in the name of the image
                    tower's, and what is in its own name instead
    """

    image: str
    text: str
    tokenizer: str = TOKENIZER
    preprocessing: tuple[str, ...] = (PREPROCESSOR, PROCESSOR)
    configs: tuple[str, ...] = ("",)
    swap: tuple[str, str] | None = None

    @property
    def image_files(self) -> Files:
        """What is fetched of a repository for its image tower."""
        return Files((self.image,), (*self.preprocessing, CONFIG, *_beside(self.image)))

    @property
    def text_files(self) -> Files:
        """What is fetched of a repository for its text tower."""
        configs = [f"{folder}{name}" for folder in self.configs for name in _CONFIGS]
        return Files((self.text, self.tokenizer), (*configs, *_beside(self.text)))


TRANSFORMERS = TowerLayout(WEIGHTS, WEIGHTS)
PAIRS = (
    TowerLayout("onnx/vision_model.onnx", "onnx/text_model.onnx"),  # onnx-community, Xenova
    TowerLayout("vision_model.onnx", "text_model.onnx"),
    TowerLayout(  # immich-app, from open_clip
        "visual/model.onnx",
        "textual/model.onnx",
        "textual/tokenizer.json",
        (f"visual/{OPEN_CLIP}",),
        ("", "textual/"),
    ),
    TowerLayout("model.onnx", "model.onnx", swap=("-vision", "-text")),  # Qdrant
    TowerLayout("model.onnx", "text_model.onnx"),
)
LAYOUTS = (TRANSFORMERS, *PAIRS)


@dataclass(frozen=True)
class TextTower:
    """A text tower on this disk: an ONNX file, or a folder of transformers; its tokenizer, and what is said of it."""

    network: Path
    tokenizer: Path
    configs: Mapping[str, Path]

    def values(self) -> dict[str, dict[str, Any]]:
        """What the files beside its tokenizer hold, by name. Raises `EncoderError`."""
        return {name: read_values(path) for name, path in self.configs.items()}


def image_in(folder: Path) -> Path:
    """Return the image tower in a folder: its ONNX file, or the folder itself where transformers reads it."""
    if any(folder.glob(WEIGHTS)):
        return folder
    return next((path for layout in PAIRS if (path := folder / layout.image).is_file()), folder)


def text_of(image: Path) -> TextTower | None:
    """Return the text tower that belongs to an image tower, which is an ONNX file or a folder; None where none does."""
    image = image_in(image) if image.is_dir() else image
    if image.is_dir():
        return _of_transformers(image)
    for layout in PAIRS:
        if not image.absolute().as_posix().endswith(f"/{layout.image}"):
            continue
        if found := text_in(image.absolute().parents[layout.image.count("/")], layout):
            return found
    return text_in(image.parent, TowerLayout(image.name, "text_model.onnx"))


def text_in(folder: Path, layout: TowerLayout) -> TextTower | None:
    """Return the text tower of `layout` in the folder of the image tower, or in its own that is named like it."""
    if layout.swap:
        if layout.swap[0] not in folder.name:
            return None
        folder = folder.with_name(folder.name.replace(*layout.swap))
    return tower_in(folder, layout)


def tower_in(folder: Path, layout: TowerLayout) -> TextTower | None:
    """Return the text tower of `layout` in its own folder, where it is there."""
    network = folder if layout.text == WEIGHTS else folder / layout.text
    if not network.exists():
        return None
    found: dict[str, Path] = {}
    for inner in layout.configs:
        found |= {name: path for name in _CONFIGS if name not in found and (path := folder / inner / name).is_file()}
    return TextTower(network, folder / layout.tokenizer, found)


def _of_transformers(folder: Path) -> TextTower | None:
    """Only what its configuration says has a text tower; most networks of transformers have none."""
    found = tower_in(folder, TRANSFORMERS)
    if found is None or CONFIG not in found.configs:
        return None
    config = read_values(found.configs[CONFIG])
    return found if any(name in config for name in _FAMILIES) else None


def _beside(network: str) -> tuple[str, ...]:
    """Files that belong to a network: of transformers all JSON, of an ONNX file those that may hold its weights."""
    return ("*.json",) if network == WEIGHTS else tuple(f"{network}{end}" for end in EXTERNAL)
