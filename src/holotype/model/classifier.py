"""Classifier: encoder, head and calibration in one object that fits, predicts, saves and loads."""

import hashlib
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from holotype import files
from holotype.checksums import file_digest
from holotype.encoders.encode import NO_VECTOR, encode_images, l2_normalize
from holotype.encoders.quantise import choose_arithmetic
from holotype.encoders.registry import load_encoder
from holotype.encoders.runtimes import Encoder
from holotype.errors import HolotypeWarning, NotFittedError, PoolError, UnreadableImage
from holotype.grouping.assign import group_pool, lonely_classes, loose_classes
from holotype.grouping.search import Search, search
from holotype.grouping.space import Space
from holotype.grouping.words import hear
from holotype.model import rows as training_rows
from holotype.model import saved
from holotype.model.calibration import Calibration
from holotype.model.crossfit import cross_fit
from holotype.model.duplicates import near_rows
from holotype.model.fetched import fetch_model, is_repository
from holotype.model.heads import Head
from holotype.model.pool_sample import PoolSample
from holotype.model.predictions import NONE, Predictions
from holotype.model.promises import PROMISES_FILE, Promise, Promises
from holotype.model.references import refer
from holotype.model.rows import PoolLabels
from holotype.model.splits import Split
from holotype.pool.descriptions import Description, check_defined, describe
from holotype.pool.exemplars import resolve
from holotype.pool.pool import Pool, digest_of, open_pool
from holotype.progress import Progress, Silent, in_steps
from holotype.settings import Arithmetic, Balance, FitSettings, HeadName, HeadSettings, RankSettings, Threshold
from holotype.vectors.embeddings import Embeddings
from holotype.vectors.folders import fingerprints
from holotype.vectors.identity import check_identity
from holotype.vectors.store import EmbeddingStore

MODEL = "model"  # the folder of a run that holds its classifier
_DEFAULTS = FitSettings()
SAME = 1 - 1e-6  # cosine of an image with itself, to the last digits of float32


class Classifier:
    """K classes plus none, from an unlabelled pool and one exemplar (or a few) per class.

    It keeps to scikit-learn's conventions (the constructor only stores its arguments, a second fit forgets the first,
    `clone` works), and is no estimator of it: `fit` takes a pool and exemplars in place of X and y, and what is
    classified are images, so cross-validation and pipelines do not apply. To predict, scikit-learn is not loaded.

    `settings.FitSettings` says what each argument means. After `fit`:

    classes_            the classes, with "none" last
    encoder_, head_     what turns an image into features, and these into scores
    calibration_        slopes, shifts, prior and thresholds: from scores to probabilities and a class
    exemplar_names_     what the exemplars are called, behind them words in quotes; exemplar_vectors_: their unit
                        vectors in the model space, of words the mean of the images that they find; exemplar_classes_:
                        the number of the class of each, None where an older model did not say
    descriptions_       the words that describe classes; description_vectors_: their unit vectors by the text tower, in
                        the space that was searched
    counts_             rows of each class that were learnt from
    pool_               a sample of the pool, by which it is told how far an image is from it; None outside of a run
    promises_           what was promised of the precision of classes (`holotype certify`); nothing after `fit`
    groups_, training_  what the pool's rows were taken for, and those learnt from; not of a model that was loaded
    cross_fit_          what is said of each row that was held out; not of a model that was loaded
    """

    def __init__(
        self,
        *,
        encoder: str = _DEFAULTS.encoder,
        runtime: str = _DEFAULTS.runtime,
        precision: Arithmetic = _DEFAULTS.precision,
        threshold: Threshold = _DEFAULTS.threshold,
        doubtful_band: float = _DEFAULTS.doubtful_band,
        ambiguity: float = _DEFAULTS.ambiguity,
        rank: RankSettings = _DEFAULTS.rank,
        head: HeadName = _DEFAULTS.head,
        head_settings: HeadSettings = _DEFAULTS.head_settings,
        balance: Balance = _DEFAULTS.balance,
        views: int = _DEFAULTS.views,
        negatives: int = _DEFAULTS.negatives,
        validation: float = _DEFAULTS.validation,
        near_duplicate: float = _DEFAULTS.near_duplicate,
        seed: int = _DEFAULTS.seed,
    ) -> None:
        self.encoder = encoder
        self.runtime = runtime
        self.precision = precision
        self.threshold = threshold
        self.doubtful_band = doubtful_band
        self.ambiguity = ambiguity
        self.rank = rank
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

    def __repr__(self) -> str:
        """As scikit-learn's: the arguments that are not the defaults."""
        given = ((name, value) for name, value in self.get_params().items() if value != getattr(_DEFAULTS, name))
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

    def fit(
        self,
        pool: Pool | str | Path,
        exemplars: Mapping[str, Sequence[str]] | None = None,
        *,
        descriptions: Mapping[str, Sequence[str]] | None = None,
        embeddings: Embeddings | None = None,
        embeddings_encoder: Encoder | None = None,
        held_out: Sequence[int] = (),
        cache: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Find what resembles the exemplars, group it, train and calibrate. Warns of a class that nothing resembles.

        pool                images without labels: what `open_pool` returns, or takes
        exemplars           class -> pool ids or paths of images
        descriptions        class -> what it looks like, in words: in place of exemplars, or beside them
        embeddings          vectors to search with; without them `encoder` encodes the whole pool
        embeddings_encoder  what made them: for words, exemplars that are not in the pool, and a closer look at others
        held_out            pool rows of a test set: neither they nor their near-duplicates are learnt from
        cache               folder of computed vectors, which the next fit uses again
        """
        progress, cache = progress or Silent(), Path(cache) if cache is not None else None
        settings, pool = self._settings(), _opened(pool, progress)
        encoder = load_encoder(settings.encoder, settings.runtime, progress)
        made = fingerprints(cache.glob("*"), pool) if cache else ()
        encoder = choose_arithmetic(encoder, pool, settings.precision, progress, made=made, whole=embeddings is None)
        classes, described = describe(exemplars, descriptions)
        found = resolve(pool, exemplars, descriptions or ()) if exemplars or not described else []
        check_defined(classes, found, described)
        words = hear(described, encoder if embeddings is None else embeddings_encoder, progress)
        with ExitStack() as stack:
            folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = EmbeddingStore(folder / encoder.name_on_disk, encoder, pool)
            if embeddings is None:
                embeddings, embeddings_encoder = store.embed(progress), encoder
            elif embeddings_encoder is not None:
                check_identity(embeddings, pool, embeddings_encoder)
            closed = near_rows(embeddings, held_out, settings.near_duplicate)
            searched = search(embeddings, classes, found, embeddings_encoder, words, closed)
            labels = PoolLabels(group_pool(searched, settings, held_out=closed, progress=progress))
            parts = training_rows.plan(searched, [labels], held_out, settings)
            self.learn(searched, labels, parts, pool, store, progress)
        lonely = lonely_classes(labels.groups, searched.exemplar_rows).values()
        for why in [*lonely, *loose_classes(labels.groups), *self.training_.warnings]:
            warnings.warn(why, HolotypeWarning, stacklevel=2)
        return self

    def learn(
        self,
        searched: Search,
        labels: PoolLabels,
        parts: Split,
        pool: Pool,
        store: EmbeddingStore,
        progress: Progress,
    ) -> Self:
        """Train and calibrate on the rows of `parts`, as `labels` has them: the second half of `fit`."""
        settings, encoder, classes = self._settings(), store.encoder, [*searched.classes, NONE]
        rows = training_rows.build(parts, labels, searched, pool, store, settings, progress)
        references, words = refer(searched, pool, store, progress), searched.words
        with in_steps(progress, f"train ({settings.head})", max(len(rows.folds), 1)) as step:
            fitted = cross_fit(settings.head, settings.head_settings, rows, settings.seed, step)
        # only now: a fit that fails leaves the one before it whole
        self.classes_, self.groups_, self.training_, self.counts_ = classes, labels.groups, rows, rows.counts
        self.encoder_, self.head_, self.calibration_, self.cross_fit_ = encoder, fitted.head, fitted.calibration, fitted
        self.exemplar_names_, self.exemplar_vectors_ = references.names, references.vectors
        self.exemplar_classes_: list[int] | None = references.labels
        self.descriptions_: list[Description] = [] if words is None else list(words.descriptions)
        self.description_vectors_ = np.zeros((0, 0), np.float32) if words is None else words.vectors
        self.promises_: list[Promise] = []
        self.pool_: PoolSample | None = None
        return self

    def _settings(self) -> FitSettings:
        """The constructor's arguments, checked."""
        return FitSettings.parse(self.get_params())

    def predict_features(
        self, ids: Sequence[str], features: NDArray[np.float32], digests: Sequence[str] = ()
    ) -> Predictions:
        """Return predictions of `ids` from their features (n, dim) in the model space.

        digests   (n,) SHA-256 of the images' contents: without them it is not known which of them are promised

        What is the same as an exemplar is of its class; only where two classes have it, the head decides.
        """
        self.check_fitted()
        similarity_ = l2_normalize(features) @ self.exemplar_vectors_.T
        nearest = similarity_.argmax(axis=1) if len(ids) else np.zeros(0, int)
        probabilities = self.calibration_.probabilities(self.head_.scores(features))
        if self.exemplar_classes_ is not None:
            seen = len(self.exemplar_classes_) - len(self.descriptions_)  # words are like no image in particular
            of_class = np.eye(len(self.classes_), dtype=bool)[self.exemplar_classes_[:seen]]
            shown = (similarity_[:, :seen] >= SAME) @ of_class
            certain = shown.sum(axis=1) == 1
            probabilities[certain] = shown[certain]
        return Predictions(
            list(ids),
            self.classes_[:-1],
            probabilities,
            self.calibration_.thresholds,
            [self.exemplar_names_[i] for i in nearest],
            np.minimum(similarity_.max(axis=1), 1).astype(np.float64) if len(ids) else np.zeros(0),
            self.promises_,
            digests,
            distances=() if self.pool_ is None else self.pool_.distance(features),
        )

    def predict_one(self, source: Any, name: str = "image") -> Predictions:
        """Return the whole prediction of one image: path, bytes, Pillow image, or pixels (h, w, 3) uint8.

        Raises `UnreadableImage`.
        """
        self.check_fitted()
        features = self.encoder_.encode(self.encoder_.prepare(source)[None])
        if not np.isfinite(features).all():
            raise UnreadableImage(NO_VECTOR)
        return self.predict_features([name], features, [_digest(source)])

    def predict(self, X: Any) -> Any:
        """Return the label of one image, or an array of labels of a list of images."""
        if isinstance(X, list | tuple):
            return np.array([self.predict_one(one).labels[0] for one in X], dtype=np.str_)
        return self.predict_one(X).labels[0]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return (n, K + 1) probabilities in the order of `classes_`; one image counts as n = 1."""
        self.check_fitted()
        return np.array([self.predict_one(one).probabilities[0] for one in _listed(X)]).reshape(-1, len(self.classes_))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return (n, K) margins: probability minus threshold of each class."""
        self.check_fitted()
        return np.array([self.predict_one(one).margins[0] for one in _listed(X)]).reshape(-1, len(self.classes_) - 1)

    def check_fitted(self) -> None:
        """Raise `NotFittedError` before `fit` or `load`."""
        if not hasattr(self, "head_"):
            raise NotFittedError(
                "this Classifier is not fitted yet: call fit(pool, exemplars) first, or Classifier.load"
            )

    def save(self, folder: str | Path) -> None:
        """Write the model to `folder`: JSON, safetensors and ONNX; it needs neither torch nor a network to load."""
        self.check_fitted()
        for name, content in self._files().items():
            files.write(Path(folder) / name, content)

    def _files(self) -> dict[str, bytes]:
        """The files of the saved model, in the order in which they are written."""
        from safetensors.numpy import save

        calibration = self.calibration_
        arrays = {"exemplars": self.exemplar_vectors_, "slope": calibration.slope, "shift": calibration.shift}
        arrays |= {f"weights{i}": w for i, (w, _) in enumerate(self.head_.layers)}
        arrays |= {f"bias{i}": b for i, (_, b) in enumerate(self.head_.layers)}
        arrays |= self.head_.space.arrays() if self.head_.space is not None else {}
        arrays |= {"descriptions": self.description_vectors_} if self.descriptions_ else {}
        contents = {
            saved.NETWORK_FILE: self.encoder_.content,
            saved.HEAD_FILE: self.head_.to_onnx(),
            saved.ARRAYS_FILE: save({k: np.ascontiguousarray(v) for k, v in arrays.items()}),
        }
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        about = self._description(digests).to_json().encode()
        promised = Promises(model=saved.digest_of_model(about), promises=self.promises_).to_json().encode()
        return contents | {saved.DESCRIPTION_FILE: about} | ({PROMISES_FILE: promised} if self.promises_ else {})

    def _description(self, digests: dict[str, str]) -> saved.Manifest:
        encoder, calibration = self.encoder_, self.calibration_
        return saved.Manifest.model_validate(
            {
                "format": saved.FORMAT,
                "files": digests,
                "classes": self.classes_[:-1],
                "encoder": {
                    "name": encoder.name,
                    "fingerprint": encoder.fingerprint,
                    "size": encoder.size,
                    "precision": encoder.precision,
                    "source": asdict(encoder.source) if encoder.source else None,
                },
                "preprocessing": {},
                "layers": len(self.head_.layers),
                "exemplars": self.exemplar_names_,
                "exemplar_classes": self.exemplar_classes_,
                "descriptions": [asdict(one) for one in self.descriptions_],
                "thresholds": calibration.thresholds.tolist(),
                "threshold_basis": calibration.basis,
                "prior": calibration.prior.tolist(),
                "counts": self.counts_,
                "settings": self._settings(),
                "versions": saved.versions(),
            }
        )

    @classmethod
    def load(cls, folder: str | Path, revision: str = "") -> Self:
        """Load a saved model: of a folder, or of the hub where `folder` is "owner/name" and no folder here.

        revision   the 40 digits of a commit; without one it is the newest, with a warning, and that one from then on

        Raises `ModelError` when it is not whole, its parts do not fit each other, or it cannot be fetched.
        """
        self, place = cls(), Path(folder)
        place = place / MODEL if (place / MODEL / saved.DESCRIPTION_FILE).exists() else place
        of_hub = is_repository(folder, revision)
        contents, where = fetch_model(str(folder), revision) if of_hub else (saved.read_files(place), str(place))
        self._restore(contents, where)
        self.pool_ = None if of_hub else PoolSample.load(place, contents[saved.DESCRIPTION_FILE], self.encoder_.dim)
        return self

    def _restore(self, contents: Mapping[str, bytes], where: str) -> None:
        """Become the model that the files `contents` hold. Raises `ModelError`."""
        about, arrays, encoder = saved.parse(contents, where)
        self.set_params(**dict(about.settings))
        layers = [(arrays[f"weights{i}"], arrays[f"bias{i}"]) for i in range(about.layers)]
        self.classes_, self.counts_ = [*about.classes, NONE], about.counts
        self.encoder_ = encoder
        self.head_ = Head(layers, space=Space.from_arrays(arrays) if "space_mean" in arrays else None)
        self.exemplar_names_, self.exemplar_vectors_ = about.exemplars, arrays["exemplars"]
        self.exemplar_classes_ = about.exemplar_classes
        self.descriptions_ = [Description(one.text, one.label) for one in about.descriptions]
        self.description_vectors_ = arrays.get("descriptions", np.zeros((0, 0), np.float32))
        self.promises_ = saved.parse_promises(contents, about.classes, where)
        self.pool_ = None
        self.calibration_ = Calibration(
            arrays["slope"], arrays["shift"], np.array(about.thresholds), np.array(about.prior), about.threshold_basis
        )

    def __getstate__(self) -> dict[str, Any]:
        """What a copy, or another process, gets: the arguments and, once fitted, the files of the saved model."""
        return {"arguments": self.get_params(), "files": self._files() if hasattr(self, "head_") else {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take that up, checked as when a model is loaded. Raises `ModelError`."""
        self.set_params(**state["arguments"])
        if state["files"]:
            self._restore(state["files"], "a copied model")

    def predict_pool(
        self, pool: Pool, rows: Iterable[int], progress: Progress | None = None
    ) -> Iterable[tuple[Predictions, dict[str, str]]]:
        """Yield predictions batch by batch, with id -> reason of the images that are unreadable."""
        self.check_fitted()
        names = pool.ids if rows == range(len(pool)) else [pool.ids[row] for row in rows]
        with (progress or Silent()).track("predict", len(names)) as advance:
            for encoded in encode_images(names, lambda name: pool.read(pool.rows[name]), self.encoder_):
                digests = [pool.digest(pool.rows[name]) for name in encoded.ids] if self.promises_ else ()
                yield self.predict_features(encoded.ids, encoded.vectors, digests), encoded.unreadable
                advance(len(encoded))


def _digest(source: Any) -> str:
    """Return the SHA-256 of an image file, or of its bytes; "" for pixels, of which nothing is known to be promised."""
    if isinstance(source, str | Path):
        return file_digest(Path(source))
    return digest_of(bytes(source)) if isinstance(source, bytes | bytearray | memoryview) else ""


def _opened(pool: Pool | str | Path, progress: Progress) -> Pool:
    if isinstance(pool, str | Path):
        return open_pool(pool, progress=progress)
    if not isinstance(pool, Pool):
        raise PoolError(f"expected a pool, as open_pool returns it, or the path of one; got {type(pool).__name__}")
    return pool


def _listed(X: Any) -> Sequence[Any]:
    return X if isinstance(X, list | tuple) else [X]
