"""One picture of each class and a pile of unlabelled pictures become a classifier: which of these, or none."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holotype.classifier import Classifier
    from holotype.embeddings import Embeddings
    from holotype.encoders import Encoder, load_encoder
    from holotype.errors import HolotypeError
    from holotype.evaluation import Evaluation, evaluate
    from holotype.pipeline import run
    from holotype.pool import Pool, open_pool
    from holotype.predictions import Predictions
    from holotype.review.review import Review
    from holotype.settings import Settings

__version__ = "0.1.0"

_HOME = {
    "Classifier": "classifier",
    "Embeddings": "embeddings",
    "Encoder": "encoders",
    "Evaluation": "evaluation",
    "HolotypeError": "errors",
    "Pool": "pool",
    "Predictions": "predictions",
    "Review": "review.review",
    "Settings": "settings",
    "evaluate": "evaluation",
    "load_encoder": "encoders",
    "open_pool": "pool",
    "run": "pipeline",
}

__all__ = [
    "Classifier",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "HolotypeError",
    "Pool",
    "Predictions",
    "Review",
    "Settings",
    "evaluate",
    "load_encoder",
    "open_pool",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing the package stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'holotype' has no attribute {name!r}")
    return getattr(import_module(f"holotype.{_HOME[name]}"), name)
