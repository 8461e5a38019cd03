"""What a user would write: FastAPI and ONNX Runtime around the file of `holotype export --to onnx`.

python -m benchmarks.serving.plain MODEL.onnx PORT
"""

import io
import json
import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from numpy.typing import NDArray
from PIL import Image, ImageOps


class Model:
    """The file, and how an image becomes its pixels."""

    def __init__(self, path: str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        preparation = json.loads(about["holotype.preprocessing"])
        self.size, self.margin = (preparation["width"], preparation["height"]), tuple(preparation["margin"])
        self.names = [*json.loads(about["holotype.classes"]), json.loads(about["holotype.none"])]

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """Return an encoded image as (height, width, 3)."""
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        fit = min(self.size[0] / image.width, self.size[1] / image.height)
        inner = max(1, round(image.width * fit)), max(1, round(image.height * fit))
        canvas = Image.new("RGB", self.size, self.margin)
        place = (self.size[0] - inner[0]) // 2, (self.size[1] - inner[1]) // 2
        canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
        return np.asarray(canvas)

    def answers(self, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Return what is said of images (n, height, width, 3)."""
        labels, probabilities = self.session.run(["label", "probabilities"], {"pixels": pixels})
        return [
            {"label": label, "probabilities": dict(zip(self.names, one.tolist(), strict=True))}
            for label, one in zip(labels, probabilities, strict=True)
        ]


if __name__ == "__main__":
    model = Model(sys.argv[1])
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        """Answer one image."""
        content = await request.body()
        return await run_in_threadpool(lambda: model.answers(model.pixels(content)[None])[0])

    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
