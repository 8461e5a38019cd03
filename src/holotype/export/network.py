"""A classifier as one ONNX file: pixels in, label, probabilities and vector out; it says itself how to use it."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from holotype.encoders.nodes import Nodes
from holotype.grouping.space import Space
from holotype.model.classifier import SAME, Classifier
from holotype.model.predictions import NONE
from holotype.names import without_folders
from holotype.pool.images import MARGIN

if TYPE_CHECKING:
    import onnx

_LEAST = 1e-12  # length of features: those of zeros stay zeros
_PREFIX = "classifier_"  # of the names of all that is added to the network


def to_onnx(classifier: Classifier) -> bytes:
    """Return what `predict` does as one ONNX file, which ONNX Runtime alone runs.

    In: `pixels` (n, height, width, 3) uint8, letterboxed to the size that the metadata give. Out: `label` (n,) text;
    `probabilities` (n, K + 1) float32, "none" last; `vector` (n, K) float32 of 0 and 1; `nearest` (n,) text, what
    defines a class that the image is most like, and `similarity` (n,) float32, its cosine; `classes` (K + 1,) text, for
    runtimes that do not show the metadata.

    Raises `NotFittedError`.
    """
    import onnx

    classifier.check_fitted()
    model = onnx.load_model_from_string(classifier.encoder_.content)
    graph = _Graph(model)
    similarity = graph.similarities(classifier)
    probabilities = graph.certain(classifier, similarity, graph.calibrated(classifier, graph.scores(classifier)))
    graph.answer(classifier, similarity, probabilities)
    onnx.helper.set_model_props(model, metadata(classifier))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def metadata(classifier: Classifier) -> dict[str, str]:
    """Return what the file says of itself: each value is JSON."""
    height, width = classifier.encoder_.size
    about: dict[str, Any] = {
        "classes": classifier.classes_[:-1],
        "none": NONE,
        "thresholds": classifier.calibration_.thresholds.tolist(),
        "preprocessing": {
            "height": height,
            "width": width,
            "channels": "RGB",
            "values": "0..255, uint8, upright by EXIF",
            "resize": "bicubic to fit, aspect ratio kept, centred",
            "margin": list(MARGIN),
        },
        "encoder": {
            "name": classifier.encoder_.name,
            "fingerprint": classifier.encoder_.fingerprint,
            "precision": classifier.encoder_.precision,
        },
        # which images they rest on, and are about, is known by digests of files: pixels have none
        "promises": [one.model_dump(mode="json", exclude={"sample", "contents"}) for one in classifier.promises_],
    }
    return {f"holotype.{name}": json.dumps(value, ensure_ascii=False) for name, value in about.items()}


class _Graph:
    """The network of an encoder, and behind its `features` what a classifier makes of them, in double precision."""

    def __init__(self, model: "onnx.ModelProto") -> None:
        from onnx import TensorProto

        self._model, self._nodes, self._types = model, Nodes(model), TensorProto
        del model.graph.output[:]
        self._unit = self._normalised(self._then("Cast", "features", "features", to=TensorProto.DOUBLE), "unit")

    def similarities(self, classifier: Classifier) -> str:
        """Return the cosines (n, exemplars) to what defines the classes."""
        return self._then(
            "MatMul", "similarities", self._unit, self._constant("exemplars", classifier.exemplar_vectors_.T)
        )

    def scores(self, classifier: Classifier) -> str:
        """Return the scores (n, K + 1) of the head."""
        head, x = classifier.head_, self._unit
        if head.space is not None:
            x = self._in_space(head.space, x)
        for i, (weights, bias) in enumerate(head.layers):
            x = self._then("Relu", f"relu{i}", x) if i else x
            x = self._then("MatMul", f"weighed{i}", x, self._constant(f"weights{i}", weights.T))
            x = self._then("Add", f"layer{i}", x, self._constant(f"bias{i}", bias))
        return x

    def _in_space(self, space: Space, x: str) -> str:
        if space.power:
            x = self._then("Sqrt", "roots", self._then("Relu", "positive", x))
        x = self._then("Sub", "centred", x, self._constant("mean", space.mean))
        if space.projection is not None:
            x = self._then("MatMul", "projected", x, self._constant("projection", space.projection))
        return self._normalised(x, "moved")

    def calibrated(self, classifier: Classifier, scores: str) -> str:
        """Return the probabilities (n, K + 1) of scores."""
        calibration, count = classifier.calibration_, len(classifier.classes_) - 1
        apart = np.concatenate([np.eye(count), -np.ones((1, count))])  # the score of each class less that of none
        odds = self._then("MatMul", "apart", scores, self._constant("less_none", apart))
        odds = self._then("Mul", "sloped", odds, self._constant("slope", calibration.slope))
        odds = self._then("Add", "odds", odds, self._constant("shift", calibration.shift))
        wide = np.eye(count, count + 1)  # none has odds of 0
        odds = self._then("MatMul", "all_odds", odds, self._constant("and_none", wide))
        return self._then("Softmax", "calibrated", odds, axis=1)

    def certain(self, classifier: Classifier, similarities: str, probabilities: str) -> str:
        """Return `probabilities` in which what is the same as an exemplar of one class alone is of that class."""
        if classifier.exemplar_classes_ is None:
            return probabilities
        pictures = len(classifier.exemplar_classes_) - len(classifier.descriptions_)
        own = np.eye(len(classifier.classes_))[classifier.exemplar_classes_]
        own[pictures:] = 0  # words are like no image in particular
        same = self._then("GreaterOrEqual", "same", similarities, self._constant("as_itself", SAME))
        counts = self._then(
            "MatMul", "same_of", self._then("Cast", "same_as", same, to=self._types.DOUBLE), self._constant("own", own)
        )
        shown = self._then("Sign", "shown", counts)
        once = self._then("Equal", "once", self._sum(shown, "classes_shown"), self._constant("one", 1.0))
        return self._then("Where", "certain", once, shown, probabilities)

    def answer(self, classifier: Classifier, similarities: str, probabilities: str) -> None:
        """Add what the network gives: the class that is furthest above its threshold, or none."""
        from onnx import helper

        classes, floats, text = classifier.classes_, self._types.FLOAT, self._types.STRING
        count = len(classes) - 1
        margins = self._then("MatMul", "of_classes", probabilities, self._constant("classes", np.eye(count + 1, count)))
        margins = self._then(
            "Sub", "margins", margins, self._constant("thresholds", classifier.calibration_.thresholds)
        )
        best = self._then("ArgMax", "best", margins, axis=1, keepdims=0)
        reached = self._then("GreaterOrEqual", "reached", margins, self._constant("zero", 0.0))
        any_reached = self._nodes.reduce(
            "ReduceMax", f"{_PREFIX}any", self._then("Cast", "reached_as", reached, to=self._types.INT64), [1]
        )
        number = self._then(
            "Where",
            "number",
            self._then("Cast", "given", any_reached, to=self._types.BOOL),
            best,
            self._constant("none", count, np.int64),
        )
        nearest = self._then("ArgMax", "nearest", similarities, axis=1, keepdims=0)
        self._nodes.then("Gather", "label", self._names("names", classes), number)
        self._nodes.then("Cast", "probabilities", probabilities, to=floats)
        self._nodes.then("Gather", "vector", self._constant("vectors", np.eye(count + 1, count), np.float32), number)
        exemplars = self._names("exemplar_names", without_folders(classifier.exemplar_names_))
        self._nodes.then("Gather", "nearest", exemplars, nearest)
        self._nodes.then(
            "Cast", "similarity", self._nodes.reduce("ReduceMax", f"{_PREFIX}greatest", similarities, [1]), to=floats
        )
        shapes = {"label": (text, []), "probabilities": (floats, [count + 1]), "vector": (floats, [count])}
        shapes |= {"nearest": (text, []), "similarity": (floats, [])}
        for name, (kind, more) in shapes.items():
            self._model.graph.output.append(helper.make_tensor_value_info(name, kind, ["n", *more]))
        self._nodes.then("Identity", "classes", f"{_PREFIX}names")
        self._model.graph.output.append(helper.make_tensor_value_info("classes", text, [count + 1]))

    def _then(self, operator: str, out: str, *inputs: str, **attributes: Any) -> str:
        return self._nodes.then(operator, f"{_PREFIX}{out}", *inputs, **attributes)

    def _constant(self, name: str, value: Any, dtype: Any = np.float64) -> str:
        return self._nodes.constant(f"{_PREFIX}{name}", value, dtype)

    def _names(self, name: str, names: Sequence[str]) -> str:
        return self._constant(name, [one.encode() for one in names], object)

    def _normalised(self, vectors: str, name: str) -> str:
        """Return rows of length 1; those of zeros stay."""
        squares = self._then("Mul", f"{name}_squares", vectors, vectors)
        length = self._then("Sqrt", f"{name}_length", self._sum(squares, f"{name}_sum"))
        longer = self._then("Max", f"{name}_longer", length, self._constant(f"{name}_least", _LEAST))
        return self._then("Div", name, vectors, longer)

    def _sum(self, of: str, name: str) -> str:
        """Return the sum of each row, as a column."""
        summed = self._nodes.reduce("ReduceSum", f"{_PREFIX}{name}", of, [1])
        return self._nodes.column(f"{_PREFIX}{name}_column", summed)
