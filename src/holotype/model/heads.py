"""Heads on cached features: fit(X, y, weights) -> scores, which are not probabilities."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holotype.encoders.encode import l2_normalize
from holotype.errors import ModelError
from holotype.grouping.space import Space
from holotype.settings import Balance, HeadName, HeadSettings

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
Watch = Callable[[int, float], None]  # is told the epoch and its validation loss
_NEVER = -30.0  # the score of a class that there was nothing to learn of


@dataclass(frozen=True)
class Head:
    """Affine layers with ReLU between them, on features in a space: what every fitted head comes down to.

    layers    (weights (out, in), bias (out,)) float32; the last has K + 1 outputs, "none" last
    history   validation loss per epoch (the MLP's)
    space     that features of unit length are taken to first; None for none
    """

    layers: Sequence[Layer]
    history: Sequence[float] = ()
    space: Space | None = None

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return (n, K + 1) scores of (n, dim) features."""
        x = to_space(features, self.space)
        for number, (weights, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if number else x) @ weights.T + bias
        return x.astype(np.float64)

    def to_onnx(self) -> bytes:
        """Return the same function as an ONNX model: `features` (n, dim) in, `scores` (n, K + 1) out."""
        from onnx import TensorProto, helper, numpy_helper

        nodes: list[Any] = []
        tensors = []

        def then(operator: str, out: str, **more: Any) -> None:
            """Add a node behind the last; a constant that it takes goes by the name of its output."""
            constant = more.pop("constant", None)
            last = [nodes[-1].output[0] if nodes else "features"]
            if constant is not None:
                tensors.append(numpy_helper.from_array(constant, f"{out}_with"))
                last.append(f"{out}_with")
            nodes.append(helper.make_node(operator, last, [out], **more))

        then("LpNormalization", "unit" if self.space else "x0", axis=1, p=2)
        if self.space is not None:
            if self.space.power:
                then("Relu", "positive")
                then("Sqrt", "root")
            then("Sub", "centred", constant=self.space.mean)
            if self.space.projection is not None:
                then("MatMul", "projected", constant=self.space.projection)
            then("LpNormalization", "x0", axis=1, p=2)
        for i, (weights, bias) in enumerate(self.layers):
            source = f"x{i}"
            if i:
                nodes.append(helper.make_node("Relu", [source], [f"r{i}"]))
                source = f"r{i}"
            target = "scores" if i == len(self.layers) - 1 else f"x{i + 1}"
            tensors += [numpy_helper.from_array(weights, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
            nodes.append(helper.make_node("Gemm", [source, f"w{i}", f"b{i}"], [target], transB=1))
        first = self.layers[0][0].shape[1] if self.space is None else len(self.space.mean)
        last = self.layers[-1][0].shape[0]
        graph = helper.make_graph(
            nodes,
            "head",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", first])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", last])],
            tensors,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        return bytes(model.SerializeToString(deterministic=True))


def averaged(heads: Sequence[Head]) -> Head:
    """Return the head whose scores are the mean of those of `heads`, which have one space and as many layers each."""
    *hidden, last = zip(*(head.layers for head in heads), strict=True)
    if not hidden:
        layer = tuple(np.mean([one[part] for one in last], axis=0).astype(np.float32) for part in (0, 1))
        return Head([(layer[0], layer[1])], space=heads[0].space)
    (first,) = hidden  # side by side, they are one network
    layers = [
        (np.concatenate([weights for weights, _ in first]), np.concatenate([bias for _, bias in first])),
        (
            np.concatenate([weights for weights, _ in last], axis=1) / np.float32(len(heads)),
            np.mean([bias for _, bias in last], axis=0).astype(np.float32),
        ),
    ]
    return Head(layers, heads[0].history, heads[0].space)


def to_space(features: NDArray[np.float32], space: Space | None) -> NDArray[np.float32]:
    """Return `features` (n, dim) with unit length, in `space` where there is one."""
    return l2_normalize(features) if space is None else space.transform(l2_normalize(features))


def class_weights(
    labels: NDArray[np.int64], count: int, balance: Balance, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return (count,) weights of the classes, "none" last: the rarer a class, the heavier.

    "weights" is inverse frequency; "effective" the inverse effective number (Cui et al., CVPR 2019, beta .999). All
    classes but "none" keep together what they weigh. `weights` (n,) of the rows; None for 1 each.
    """
    sizes = np.bincount(labels, weights, minlength=count).astype(np.float64)
    there = np.maximum(sizes, 1e-9)
    if balance == "weights":
        found = 1 / there
    elif balance == "effective":
        found = (1 - 0.999) / (1 - 0.999**there)
    else:
        return np.ones(count)
    named = sizes[:-1].sum()
    return np.asarray(found * named / (found * sizes)[:-1].sum() if named else np.ones(count))


@dataclass(frozen=True)
class TrainingRows:
    """Features and labels: X (n, dim) float32, y (n,) class numbers with "none" last, weights (n,).

    space   that a head learns the features in; None for features of unit length as they are
    """

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    weights: NDArray[np.float64]
    space: Space | None = None

    def take(self, rows: NDArray[Any]) -> "TrainingRows":
        """Return the rows of an index or a mask."""
        return TrainingRows(self.X[rows], self.y[rows], self.weights[rows], self.space)


def fit_head(
    name: HeadName,
    settings: HeadSettings,
    fit: TrainingRows,
    validation: TrainingRows,
    classes: int,
    seed: int,
    watch: Watch = lambda _epoch, _loss: None,
) -> Head:
    """Fit a head with `classes` outputs (K + 1). The linear head does not look at `validation`.

    `watch` is told about each epoch of the mlp, and may raise to give up.
    """
    if name == "linear":
        return _fit_linear(settings, fit, classes)
    return _fit_mlp(settings, fit, validation, classes, seed, watch)


def _fit_linear(settings: HeadSettings, fit: TrainingRows, classes: int) -> Head:
    """Multinomial logistic regression with an L2 penalty."""
    from sklearn.linear_model import LogisticRegression

    X = to_space(fit.X, fit.space)
    model = LogisticRegression(C=settings.strength, max_iter=300, tol=1e-3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes is greater")  # so it is in a pool of few images
        model.fit(X, fit.y, sample_weight=fit.weights)
    weights = np.zeros((classes, X.shape[1]), np.float32)
    bias = np.full(classes, _NEVER, np.float32)
    if len(model.classes_) == 2:
        weights[model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return Head([(weights, bias)], space=fit.space)


def _fit_mlp(
    settings: HeadSettings, fit: TrainingRows, validation: TrainingRows, classes: int, seed: int, watch: Watch
) -> Head:
    """BatchNorm, Dropout, Dense, ReLU, BatchNorm, Dropout, Dense; Adam; stops early on the validation loss.

    Where a group is too small to spare a validation row, the fit rows stand in.
    """
    validation = validation if len(validation.y) else fit
    try:
        import torch
    except ImportError:
        raise ModelError("the mlp head needs torch to train: pip install 'holotype[mlp]', or use linear") from None
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        X, held = (torch.from_numpy(to_space(rows.X, fit.space)) for rows in (fit, validation))
        y, held_y = torch.from_numpy(fit.y), torch.from_numpy(validation.y)
        w, held_w = (torch.from_numpy(rows.weights).float() for rows in (fit, validation))
        network = nn.Sequential(
            nn.BatchNorm1d(X.shape[1]),
            nn.Dropout(settings.dropout),
            nn.Linear(X.shape[1], settings.units),
            nn.ReLU(),
            nn.BatchNorm1d(settings.units),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.units, classes),
        )
        optimiser = torch.optim.Adam(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

        def loss(x: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return (nn.functional.cross_entropy(network(x), labels, reduction="none") * weights).sum() / weights.sum()

        best, best_epoch, best_state, history = float("inf"), 0, network.state_dict(), []
        for epoch in range(settings.epochs):
            network.train()
            order = torch.randperm(len(X))
            for batch in torch.split(order, settings.batch_size):
                if len(batch) > 1:  # BatchNorm needs two
                    optimiser.zero_grad()
                    loss(X[batch], y[batch], w[batch]).backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
            network.eval()
            with torch.no_grad():
                history.append(float(loss(held, held_y, held_w)))
            if history[-1] < best:
                best, best_epoch = history[-1], epoch
                best_state = {key: value.clone() for key, value in network.state_dict().items()}
            elif epoch - best_epoch >= settings.patience:
                break
            watch(epoch, history[-1])
        state = {key: value.double().numpy() for key, value in best_state.items()}
    return Head([_fold(state, 0, 2), _fold(state, 4, 6)], history, fit.space)


def _fold(state: dict[str, NDArray[np.float64]], norm: int, dense: int) -> Layer:
    """A BatchNorm (in evaluation mode) and the Dense layer after it, as one layer."""
    gain = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
    shift = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    weights, bias = state[f"{dense}.weight"], state[f"{dense}.bias"]
    return (weights * gain).astype(np.float32), (bias + weights @ shift).astype(np.float32)
