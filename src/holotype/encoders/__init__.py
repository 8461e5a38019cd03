"""Networks that turn images into vectors."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would number this machine, and report on it
