"""Classify pictures with a model of `holotype export --to onnx`; needs onnxruntime, numpy and pillow, and no holotype.

python classify.py pets.onnx cat.jpg dog.jpg
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) < 3:
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
preparation = json.loads(about["holotype.preprocessing"])
size = preparation["width"], preparation["height"]


def to_pixels(path: str) -> "np.typing.NDArray[np.uint8]":
    """Return a picture as the model takes it: upright, on white, fitted into its size, with grey margins."""
    with Image.open(path) as file:
        long = max(file.size)
        file.draft(
            None, (max(1, file.width * max(size) // long), max(1, file.height * max(size) // long))
        )  # JPEG alone
        image = ImageOps.exif_transpose(file)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    fit = min(size[0] / image.width, size[1] / image.height)
    inner = max(1, round(image.width * fit)), max(1, round(image.height * fit))
    small = image.convert("RGB").resize(inner, Image.Resampling.BICUBIC, reducing_gap=3.0)
    canvas = Image.new("RGB", size, tuple(preparation["margin"]))
    canvas.paste(small, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return np.asarray(canvas)


for name in sys.argv[2:]:
    label, probabilities = session.run(["label", "probabilities"], {"pixels": to_pixels(name)[None]})
    classes = [*json.loads(about["holotype.classes"]), json.loads(about["holotype.none"])]
    print(json.dumps({"path": name, "label": label[0], **dict(zip(classes, probabilities[0].tolist(), strict=True))}))
