"""Classifier: encoder, head and calibration in one object that fits, predicts, saves and loads."""

import json
import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype import augment, exemplars, files, groups, heads, similarity, splits
from holotype.calibration import Calibration, calibrate
from holotype.embeddings import Embeddings, EmbeddingStore, embed, unit
from holotype.encoders import Encoder, OnnxEncoder, copy_encoder, load_encoder
from holotype.errors import ExemplarError, GroupError, HolotypeError, ModelError, UnreadableImage
from holotype.exemplars import Exemplar
from holotype.heads import Head, TrainingRows
from holotype.images import Pixels
from holotype.pool import Pool
from holotype.predictions import NONE, Predictions
from holotype.progress import Progress, Silent
from holotype.settings import Balance, FitSettings, HeadName, HeadSettings, Threshold

_FORMAT = 1
_PACKAGES = ("holotype", "numpy", "pillow", "openvino", "onnxruntime", "scikit-learn")
_D = FitSettings()


@dataclass(frozen=True)
class Training:
    """What a fit learnt from: the rows of each part, and what was left out and why."""

    fit_ids: list[str]
    validation_ids: list[str]
    fit: TrainingRows
    validation: TrainingRows
    dropped: dict[str, str]
    unreadable: dict[str, str]
    counts: dict[str, int]


class Classifier:
    """K classes plus none, from an unlabelled pool and one exemplar (or a few) per class.

    The constructor only stores its arguments (see `settings.FitSettings` for each). After `fit`:

    classes_       the classes, with "none" last
    groups_        what the pool's rows were taken for, and why
    training_      the rows that were learnt from
    calibration_   temperature, prior and thresholds
    """

    def __init__(
        self,
        *,
        encoder: str = _D.encoder,
        runtime: str = _D.runtime,
        threshold: Threshold = _D.threshold,
        doubtful_band: float = _D.doubtful_band,
        ambiguity: float = _D.ambiguity,
        head: HeadName = _D.head,
        head_settings: HeadSettings = _D.head_settings,
        balance: Balance = _D.balance,
        views: int = _D.views,
        negatives: int = _D.negatives,
        validation: float = _D.validation,
        near_duplicate: float = _D.near_duplicate,
        seed: int = _D.seed,
    ) -> None:
        self.encoder = encoder
        self.runtime = runtime
        self.threshold = threshold
        self.doubtful_band = doubtful_band
        self.ambiguity = ambiguity
        self.head = head
        self.head_settings = head_settings
        self.balance = balance
        self.views = views
        self.negatives = negatives
        self.validation = validation
        self.near_duplicate = near_duplicate
        self.seed = seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's signature
        """Return the constructor's arguments, as scikit-learn's `clone` expects."""
        return {name: getattr(self, name) for name in FitSettings.model_fields}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments. Raises `ValueError` for an unknown name."""
        for name, value in params.items():
            if name not in FitSettings.model_fields:
                raise ValueError(f"no parameter {name!r}; expected one of {', '.join(FitSettings.model_fields)}")
            setattr(self, name, value)
        return self

    def fit(
        self,
        pool: Pool,
        exemplars_: Mapping[str, Sequence[str]],
        *,
        embeddings: Embeddings | None = None,
        embeddings_encoder: Encoder | None = None,
        held_out: Sequence[int] = (),
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Find what resembles the exemplars, group it, train and calibrate.

        exemplars_          class -> pool ids or paths of images
        embeddings          vectors to search with; without them `encoder` encodes the whole pool
        embeddings_encoder  what made them, needed for exemplars that are not in the pool
        held_out            pool rows of a test set: neither they nor their near-duplicates are learnt from
        cache               folder of computed vectors, which the next fit uses again
        """
        progress = progress or Silent()
        settings = FitSettings(**self.get_params())  # refuses wrong values
        found = exemplars.resolve(pool, exemplars_)
        classes = list(exemplars_)
        encoder = load_encoder(settings.encoder, settings.runtime)
        with ExitStack() as stack:
            folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = EmbeddingStore(folder / f"{encoder.name_on_disk}", encoder, pool.fingerprint)
            if embeddings is None:
                embeddings = embed(pool, encoder, store.folder, progress)
                embeddings_encoder = encoder
            scores, _ = search(embeddings, found, len(classes), embeddings_encoder)
            self.groups_ = self._group(classes, scores, found)
            self.training_ = self._training(pool, found, embeddings, store, held_out, progress)
            self.exemplar_names_ = [exemplar.name for exemplar in found]
            self.exemplar_vectors_ = unit(encoder.encode(np.stack([encoder.prepare(e.data) for e in found])))
        self.classes_ = [*classes, NONE]
        self.encoder_ = encoder
        self.counts_ = self.training_.counts
        return self.refit()

    def refit(self) -> Self:
        """Train head and calibration again on `training_`, after `set_params` changed the head."""
        training, count = self.training_, len(self.classes_)
        self.head_ = heads.fit_head(self.head, self.head_settings, training.fit, training.validation, count, self.seed)
        weighted = np.bincount(training.fit.y, training.fit.weights, minlength=count)
        sizes = np.array([len(self.groups_.members(k)) for k in range(count - 1)], float)
        total = self.groups_.scores.shape[0]
        self.calibration_ = calibrate(
            self.head_.scores(training.validation.X),
            training.validation.y,
            trained_prior=weighted / weighted.sum(),
            pool_prior=np.array([*sizes, max(total - sizes.sum(), 1)]) / total,
        )
        return self

    def _group(self, classes: Sequence[str], scores: NDArray[np.float32], found: Sequence[Exemplar]) -> groups.Groups:
        own = {e.row: e.label for e in found if e.row is not None}
        others = np.delete(scores, list(own), axis=0)
        thresholds = groups.thresholds_for(others, self.threshold, self.doubtful_band)
        return groups.group(classes, scores, thresholds, own, self.ambiguity)

    def _training(
        self,
        pool: Pool,
        found: Sequence[Exemplar],
        embeddings: Embeddings,
        store: EmbeddingStore,
        held_out: Sequence[int],
        progress: Progress,
    ) -> Training:
        """Choose rows, split them, encode only them, and label them; weights meet the imbalance."""
        count = len(self.groups_.classes) + 1
        rows, labels = self._candidates(held_out)
        pinned = [e.row for e in found if e.row is not None]
        parts = splits.split(
            rows,
            labels,
            embeddings.take(rows),
            pinned=pinned,
            held_out=held_out,
            share=self.validation,
            cosine=self.near_duplicate,
            seed=self.seed,
        )
        label_of = dict(zip(rows.tolist(), labels.tolist(), strict=True))
        data = {pool.ids[row]: row for row in np.concatenate([parts.fit, parts.validation]).tolist()}
        files_ = {f"file:{e.name}": e for e in found if e.row is None}

        def load(name: str) -> bytes:
            return files_[name].data if name in files_ else pool.read(data[name])

        store.ensure([*files_, *data], load, progress)
        X_fit, bad_fit = store.take([*files_, *(pool.ids[row] for row in parts.fit)])
        X_val, bad_val = store.take([pool.ids[row] for row in parts.validation])
        fit_ids = [name for name in [*files_, *(pool.ids[r] for r in parts.fit)] if name not in bad_fit]
        validation_ids = [pool.ids[row] for row in parts.validation if pool.ids[row] not in bad_val]
        y_fit = np.array([files_[n].label if n in files_ else label_of[data[n]] for n in fit_ids])
        y_val = np.array([label_of[data[n]] for n in validation_ids], dtype=np.int64)
        augmented = 0
        if self.balance == "augment":
            X_more, y_more = self._augmented(store, fit_ids, y_fit, load, count, progress)
            X_fit, y_fit, augmented = (
                np.concatenate([X_fit, X_more]),
                np.concatenate([y_fit, y_more]),
                len(y_more),
            )
        names = [*self.groups_.classes, NONE]
        missing = [names[k] for k in range(count) if not (y_fit == k).any()]
        if missing:
            raise GroupError(
                f"no training row is left for {', '.join(missing)}: all are unreadable, test rows or near-duplicates "
                "of test rows. Lower --threshold, or give other exemplars"
            )
        counts = {f"fit {n}": int((y_fit == k).sum()) for k, n in enumerate(names)}
        counts |= {f"validation {n}": int((y_val == k).sum()) for k, n in enumerate(names)}
        counts["augmented views"] = augmented
        weights = heads.class_weights(y_fit, count, self.balance)
        return Training(
            fit_ids,
            validation_ids,
            TrainingRows(X_fit, y_fit, weights[y_fit]),
            TrainingRows(X_val, y_val, weights[y_val]),
            {pool.ids[row]: why for row, why in parts.dropped.items()},
            bad_fit | bad_val,
            counts,
        )

    def _candidates(self, held_out: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Members of every class, sampled background as "none", and the test rows (which the split drops)."""
        members = [self.groups_.members(k) for k in range(len(self.groups_.classes))]
        background = np.setdiff1d(self.groups_.background, held_out)
        if not len(background):
            raise GroupError("no image is left as background; raise --threshold, or lower --doubtful-band")
        random = np.random.default_rng(self.seed)
        order = random.permutation(len(self.groups_.decision))
        sampled = background[np.argsort(order[background])][: self.negatives]
        taken = np.concatenate([*members, sampled])
        present = ~np.isnan(self.groups_.scores[:, 0])
        extra = np.array([row for row in held_out if present[row]], dtype=np.int64)
        extra = np.setdiff1d(extra, taken)
        numbers = [np.full(len(part), k) for k, part in enumerate([*members, np.concatenate([sampled, extra])])]
        return np.concatenate([taken, extra]), np.concatenate(numbers)

    def _augmented(
        self,
        store: EmbeddingStore,
        ids: Sequence[str],
        y: NDArray[np.int64],
        load: Callable[[str], bytes],
        count: int,
        progress: Progress,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Encode views of the rarer classes' fit rows, until each has as many rows as the largest, or `views` each."""
        sizes = np.bincount(y, minlength=count)
        wanted: list[str] = []
        labels: list[int] = []
        for label in range(count - 1):
            own = [name for name, k in zip(ids, y, strict=True) if k == label]
            each = min(self.views, int(sizes.max() // max(len(own), 1)) - 1)
            wanted += [f"{name}#view{view}" for name in own for view in range(each)]
            labels += [label] * (len(own) * max(each, 0))

        def view(name: str) -> Pixels:
            source, _, number = name.rpartition("#view")
            pixels: Pixels = augment.views(store.encoder.prepare(load(source)), 1, self.seed + int(number))[0]
            return pixels

        extra = EmbeddingStore(
            store.folder.with_name(store.folder.name + f"-views-{self.seed}"), store.encoder, "views"
        )
        extra.ensure(wanted, view, progress, "encode views")
        X, _ = extra.take(wanted)
        return X, np.array(labels, dtype=np.int64)

    def predict_images(self, ids: Sequence[str], features: NDArray[np.float32]) -> Predictions:
        """Return predictions for images whose model-space features (n, dim) are there already."""
        self._check_fitted()
        similarity_ = unit(features) @ self.exemplar_vectors_.T
        nearest = similarity_.argmax(axis=1) if len(ids) else np.zeros(0, int)
        return Predictions(
            list(ids),
            self.classes_[:-1],
            self.calibration_.probabilities(self.head_.scores(features)),
            self.calibration_.thresholds,
            [self.exemplar_names_[i] for i in nearest],
            similarity_.max(axis=1).astype(np.float64) if len(ids) else np.zeros(0),
        )

    def explain(self, source: Any, name: str = "image") -> Predictions:
        """Return the whole prediction of one image: path, bytes, Pillow image, or pixels (h, w, 3) uint8."""
        self._check_fitted()
        return self.predict_images([name], self.encoder_.encode(self.encoder_.prepare(source)[None]))

    def predict(self, X: Any) -> Any:
        """Return the label of one image, or an array of labels of a list of images."""
        if isinstance(X, list | tuple):
            return np.array([self.explain(one).labels[0] for one in X])
        return self.explain(X).labels[0]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return (n, K + 1) probabilities in the order of `classes_`; one image counts as n = 1."""
        return np.concatenate([self.explain(one).probabilities for one in _listed(X)])

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return (n, K) margins: probability minus threshold of each class."""
        return np.concatenate([self.explain(one).margins for one in _listed(X)])

    def _check_fitted(self) -> None:
        if not hasattr(self, "head_"):
            raise ModelError("this Classifier is not fitted yet: call fit(pool, exemplars) first, or Classifier.load")

    def save(self, folder: Path) -> None:
        """Write the model to `folder`: JSON, safetensors and ONNX; it needs neither torch nor a network to load."""
        from safetensors.numpy import save

        self._check_fitted()
        arrays = {"exemplars": self.exemplar_vectors_, "shift": self.calibration_.shift}
        arrays |= {f"weights{i}": w for i, (w, _) in enumerate(self.head_.layers)}
        arrays |= {f"bias{i}": b for i, (_, b) in enumerate(self.head_.layers)}
        copy_encoder(self.encoder_, folder / "encoder.onnx")
        files.write(folder / "head.onnx", self.head_.to_onnx())
        files.write(folder / "arrays.safetensors", save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        files.write(folder / "model.json", json.dumps(self._description(), indent=1))

    def _description(self) -> dict[str, Any]:
        encoder = self.encoder_
        return {
            "format": _FORMAT,
            "classes": self.classes_[:-1],
            "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "size": list(encoder.size)},
            "preprocessing": {
                "resize": "letterbox",
                "fill": list(encoder.fill),
                "normalisation": "in encoder.onnx",
            },
            "layers": len(self.head_.layers),
            "exemplars": self.exemplar_names_,
            "temperature": self.calibration_.temperature,
            "thresholds": self.calibration_.thresholds.tolist(),
            "threshold_basis": self.calibration_.basis,
            "prior": self.calibration_.prior.tolist(),
            "counts": self.counts_,
            "settings": FitSettings(**self.get_params()).model_dump(),
            "versions": versions(),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load a saved model. Raises `ModelError` when it is not whole, or its encoder is another."""
        from safetensors.numpy import load_file

        folder = Path(folder)
        folder = folder / "model" if (folder / "model" / "model.json").exists() else folder
        if not (folder / "model.json").exists():
            raise ModelError(f"expected a saved model in {folder} (model.json), and there is none")
        try:
            about = json.loads((folder / "model.json").read_text())
            _check_format(folder, about["format"])
            arrays = load_file(folder / "arrays.safetensors")
            settings = FitSettings(**about["settings"])
            encoder = OnnxEncoder(about["encoder"]["name"], folder / "encoder.onnx", settings.runtime)
            layers = [(arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(about["layers"])]
        except HolotypeError:
            raise
        except Exception as error:
            raise ModelError(f"the model in {folder} is not whole: {error}") from error
        if encoder.fingerprint != about["encoder"]["fingerprint"]:
            raise ModelError(f"{folder}/encoder.onnx is not the encoder that this model was trained with")
        self = cls(**dict(settings))
        self.classes_ = [*about["classes"], NONE]
        self.encoder_ = encoder
        self.head_ = Head(layers)
        self.exemplar_names_, self.exemplar_vectors_ = about["exemplars"], arrays["exemplars"]
        self.counts_ = about["counts"]
        self.calibration_ = Calibration(
            about["temperature"],
            arrays["shift"],
            np.array(about["thresholds"]),
            np.array(about["prior"]),
            about["threshold_basis"],
        )
        return self

    def predict_pool(
        self, pool: Pool, rows: Iterable[int], progress: Progress | None = None, batch: int = 16
    ) -> Iterable[tuple[Predictions, dict[str, str]]]:
        """Yield predictions batch by batch, with id -> reason of the images that are unreadable."""
        self._check_fitted()
        wanted = list(rows)
        with (progress or Silent()).track("predict", len(wanted)) as advance:
            for start in range(0, len(wanted), batch):
                ids, pixels, bad = [], [], {}
                for row in wanted[start : start + batch]:
                    try:
                        pixels.append(self.encoder_.prepare(pool.read(row)))
                        ids.append(pool.ids[row])
                    except UnreadableImage as error:
                        bad[pool.ids[row]] = str(error)
                size = (0, *self.encoder_.size, 3)
                stacked = np.stack(pixels) if pixels else np.zeros(size, np.uint8)
                features = self.encoder_.encode(stacked) if pixels else np.zeros((0, self.encoder_.dim), np.float32)
                yield self.predict_images(ids, features), bad
                advance(len(ids) + len(bad))


def search(
    embeddings: Embeddings, found: Sequence[Exemplar], classes: int, encoder: Encoder | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the pool's cosine to each class (n, K), and the exemplars' vectors (in the search space).

    An exemplar from a file needs the `encoder` of the embeddings. Raises `ExemplarError`.
    """
    vectors = []
    for exemplar in found:
        if exemplar.row is not None and embeddings.present[exemplar.row]:
            vectors.append(embeddings.take([exemplar.row])[0])
        elif encoder is not None:
            vectors.append(unit(encoder.encode(encoder.prepare(exemplar.data)[None]))[0])
        else:
            raise ExemplarError(
                f"{exemplar.name} has no row in the embeddings, and what made them is not known: name it with "
                "--embeddings-encoder, give the id of an image in the pool, or search with --search encoder"
            )
    stacked = np.stack(vectors)
    labels = np.array([exemplar.label for exemplar in found])
    return similarity.cosine(embeddings, [stacked[labels == k] for k in range(classes)]), stacked


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _check_format(folder: Path, found: int) -> None:
    if found != _FORMAT:
        raise ModelError(f"{folder} has format {found}, this version reads format {_FORMAT}")


def _listed(X: Any) -> Sequence[Any]:
    return X if isinstance(X, list | tuple) else [X]
