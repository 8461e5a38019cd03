"""One picture of each class and a pile of unlabelled pictures become a classifier: which of these, or none."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holotype.encoders.registry import load_encoder
    from holotype.encoders.runtimes import Encoder
    from holotype.errors import HolotypeError
    from holotype.evaluation.metrics import Evaluation, evaluate
    from holotype.export.export import export_run
    from holotype.model.classifier import Classifier
    from holotype.model.predictions import Predictions
    from holotype.pool.pool import Pool, open_pool
    from holotype.review.review import Review
    from holotype.runs.changes import RunChanges
    from holotype.runs.sweep import run
    from holotype.runs.update import update_run
    from holotype.settings import Addition, Settings
    from holotype.vectors.embeddings import Embeddings

__version__ = "0.1.0"

_HOME = {
    "Addition": "settings",
    "Classifier": "model.classifier",
    "Embeddings": "vectors.embeddings",
    "Encoder": "encoders.runtimes",
    "Evaluation": "evaluation.metrics",
    "HolotypeError": "errors",
    "Pool": "pool.pool",
    "Predictions": "model.predictions",
    "Review": "review.review",
    "RunChanges": "runs.changes",
    "Settings": "settings",
    "evaluate": "evaluation.metrics",
    "export_run": "export.export",
    "load_encoder": "encoders.registry",
    "open_pool": "pool.pool",
    "run": "runs.sweep",
    "update_run": "runs.update",
}

__all__ = [
    "Addition",
    "Classifier",
    "Embeddings",
    "Encoder",
    "Evaluation",
    "HolotypeError",
    "Pool",
    "Predictions",
    "Review",
    "RunChanges",
    "Settings",
    "evaluate",
    "export_run",
    "load_encoder",
    "open_pool",
    "run",
    "update_run",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that importing the package stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'holotype' has no attribute {name!r}")
    return getattr(import_module(f"holotype.{_HOME[name]}"), name)
