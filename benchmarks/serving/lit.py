"""The same file behind litserve: python -m benchmarks.serving.lit MODEL.onnx PORT."""

import base64
import sys
from typing import Any

import litserve
import numpy as np

from benchmarks.serving.plain import Model


class Classified(litserve.LitAPI):  # type: ignore[misc,name-defined,unused-ignore]
    """Decodes, batches and answers as litserve has it."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - of its interface
        """Load the file, in each worker."""
        self.model = Model(sys.argv[1], threads=1)

    def decode_request(self, request: dict[str, str]) -> Any:
        """Return the pixels of an image in base64."""
        return self.model.pixels(base64.b64decode(request["image"]))

    def batch(self, inputs: list[Any]) -> Any:
        """Return the pixels of several."""
        return np.stack(inputs)

    def predict(self, pixels: Any) -> Any:
        """Return what is said of each."""
        return self.model.answers(pixels)

    def unbatch(self, output: Any) -> Any:
        """Return them one by one."""
        return output

    def encode_response(self, output: Any) -> Any:
        """Return one."""
        return output


if __name__ == "__main__":
    api = Classified(max_batch_size=4, batch_timeout=0.003)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, timeout=60)
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
