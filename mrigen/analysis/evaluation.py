"""The figures of a finished fit: on held-out people, beside probabilistic PCA fitted on the training people."""

from typing import Any

import numpy as np
import tensorflow as tf

from mrigen.analysis.rivals import appearance_figures, pca_figures
from mrigen.data.covariates import COLUMNS
from mrigen.data.dataset import Dataset
from mrigen.data.pipeline import inference_dataset
from mrigen.data.tables import first_visits
from mrigen.errors import CohortError
from mrigen.models.base import COUNTED_LEVEL, LatentModel
from mrigen.models.batches import BATCH_SIZE, pad_batch
from mrigen.recipe import TrainingRecipe
from mrigen.runs.encoding import encode_cache, encoded_batches
from mrigen.statistics.collapse import count_active

# Draws from the posterior in the ELBO of each held-out person.
NUM_DRAWS = 8
NUM_FOLDS = 5


def evaluate(
    model: LatentModel,
    dataset: Dataset,
    latents: dict[str, np.ndarray],
    seed: int = 0,
    mean_image: np.ndarray | None = None,
    training: TrainingRecipe | None = None,
    zooms=(1.0, 1.0, 1.0),
) -> dict[str, Any]:
    """Returns the content of metrics.json (but for precision and performance), JSON-safe.

    Args:
        model: the trained model.
        dataset: its people; `heldout` is touched here and nowhere before.
        latents: of every image; see `encode_cache`.
        seed: of the posterior draws and of the part of the people that PCA sees.
        mean_image: of the training people, (x, y, z); found if None.
        training: how the model was taught: PCA is taught by people who are changed in the same way.
        zooms: voxel size in mm, for these changes.

    Returns:
        heldout: {mse, psnr, explained_variance, elbo_nats, shuffled_gap_nats}: means over subjects on the whole grid
        (with a likelihood mask: over the voxels that count, and so for PCA), intensities in [0, 1]; explained variance
        is pooled, against the training mean image; the gap is what a volume loses when it is decoded from the latents
        of the next person, none if the decoder ignores them. validation: {mse, elbo_nats}, by which runs are chosen.
        pca: {mse, loglik_nats, loglik_calibrated_nats, num_components, num_subjects, num_copies: how often it saw each
        person changed}, and, where it saw any, unchanged: the first four of PCA without the changes.
        appearance_model: {mse, elbo_nats, num_shapes, num_textures, num_subjects, num_scored}, of an active appearance
        model with as many numbers a person as there are latents. kl_nats and active_units over training subjects;
        latent_dim, decoder_sigma;
        residual_rmse of the training subjects' reconstructions (posterior means); told_by_latents: for each covariate
        that the model is given, how well it can be predicted from latents, in 5-fold cross-validation over everyone
        (linear): {balanced_accuracy, chance} or {r2}; told_by_unseen: the same over validation and held-out people
        alone, by whom nothing was fitted, where there are enough. None where a model, or an empty split, has no such
        figure.
    """
    train, heldout = dataset.rows("train"), dataset.rows("heldout")
    taught = _reconstruct(model, dataset, train, _of(latents, train), 0, seed)
    others = np.roll(latents["loc"][heldout], 1, axis=0)
    scored = _reconstruct(model, dataset, heldout, _of(latents, heldout), NUM_DRAWS, seed, others)
    num_voxels = model.num_counted
    figures = dict.fromkeys(("mse", "psnr", "explained_variance", "elbo_nats", "shuffled_gap_nats"))
    if len(heldout):
        mse = scored["squared_error"] / num_voxels
        figures["mse"] = float(mse.mean())
        figures["psnr"] = float((-10.0 * np.log10(np.maximum(mse, 1e-12))).mean())
        mean_image = mean_training_volume(dataset) if mean_image is None else mean_image
        total_error = _total_error(model, dataset, heldout, mean_image)
        figures["explained_variance"] = float(1.0 - scored["squared_error"].sum() / total_error)
        if "elbo" in scored:
            figures["elbo_nats"] = float(scored["elbo"].mean())
        if "shuffled_gap" in scored and len(heldout) > 1:
            figures["shuffled_gap_nats"] = float(scored["shuffled_gap"].mean())
    has_likelihood = model.likelihood is not None
    inside = np.ravel(model.apply_mask(np.ones((*model.volume_shape, 1), np.float32))) > 0
    return {
        "heldout": figures,
        "validation": score_validation(model, dataset, seed, latents),
        "pca": pca_figures(dataset, model.latent_size, inside, training, zooms, seed),
        "appearance_model": appearance_figures(dataset, model.latent_size, inside, training, zooms, seed),
        "kl_nats": float(taught["kl"].mean()) if has_likelihood else None,
        "active_units": count_active(latents["loc"][train]),
        "latent_dim": int(model.latent_size),
        "decoder_sigma": float(model.likelihood.decoder_sigma) if has_likelihood else None,
        "residual_rmse": float(np.sqrt(taught["squared_error"].sum() / (len(train) * num_voxels))),
        "told_by_latents": _predictability(dataset, latents["loc"], dataset.rows(), seed),
        "told_by_unseen": _predictability(dataset, latents["loc"], dataset.rows("validation", "heldout"), seed),
        "num_subjects": {name: len(dataset.rows(name)) for name in ("train", "validation", "heldout")},
    }


def _of(latents: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in latents.items()}


def score_validation(
    model: LatentModel, dataset: Dataset, seed: int = 0, latents: dict[str, np.ndarray] | None = None
) -> dict[str, float | None]:
    """Returns {mse, elbo_nats} of the validation people; see `evaluate`. `latents` are found where they are None."""
    figures, rows = dict.fromkeys(("mse", "elbo_nats")), dataset.rows("validation")
    if len(rows):
        latents = encode_cache(model, dataset.cache, rows) if latents is None else _of(latents, rows)
        scored = _reconstruct(model, dataset, rows, latents, NUM_DRAWS, seed)
        figures["mse"] = float(scored["squared_error"].mean() / model.num_counted)
        figures["elbo_nats"] = float(scored["elbo"].mean()) if "elbo" in scored else None
    return figures


def _predictability(dataset: Dataset, loc: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import balanced_accuracy_score, r2_score
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, loc, found = dataset.cache.table.iloc[rows], loc[rows], {}
    for part in dataset.covariates.parts if dataset.covariates else ():
        values = table[COLUMNS[part.name]]
        known = values.notna() & first_visits(table)
        if part.levels is not None:
            known &= values.isin(part.levels)
        if known.sum() < 2 * NUM_FOLDS:
            continue
        if part.levels is not None and (values[known].value_counts().iloc[1:] >= NUM_FOLDS).sum() == 0:
            continue
        values, features = values[known].to_numpy(), loc[known]
        groups = table["family"].fillna(table["participant_id"])[known].to_numpy(dtype=str)
        if part.levels is None:
            model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
            predicted = cross_val_predict(model, features, values, groups=groups, cv=GroupKFold(NUM_FOLDS))
            found[part.name] = {"r2": float(r2_score(values, predicted))}
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
        folds = StratifiedGroupKFold(NUM_FOLDS, shuffle=True, random_state=seed)
        predicted = cross_val_predict(model, features, values.astype(str), groups=groups, cv=folds)
        accuracy = float(balanced_accuracy_score(values.astype(str), predicted))
        found[part.name] = {"balanced_accuracy": accuracy, "chance": 1.0 / len(np.unique(values.astype(str)))}
    return found


def mean_training_volume(dataset: Dataset) -> np.ndarray:
    """Returns the mean (x, y, z) of the training volumes, float32, intensities in [0, 1], without holding them all."""
    rows = dataset.rows("train")
    total = np.zeros(dataset.cache.volume_shape, dtype=np.float64)
    for _, volumes in inference_dataset(dataset.cache, rows, BATCH_SIZE).as_numpy_iterator():
        total += volumes[..., 0].sum(axis=0, dtype=np.float64)
    return (total / len(rows)).astype(np.float32)


def choose_counted(dataset: Dataset, mean_image: np.ndarray | None, name: str, zooms) -> np.ndarray:
    """Returns the voxels that a likelihood mask lets count, (x, y, z) bool.

    Args:
        dataset: the people.
        mean_image: of the training people, (x, y, z), for "head".
        name: "head", where that is not dark, or "brain", where the masks of training people are.
        zooms: voxel size in mm.

    Raises:
        CohortError: no training person has a mask.
    """
    if name == "head":
        return mean_image > COUNTED_LEVEL
    mean_mask = dataset.mean_mask(zooms)
    if mean_mask is None:
        raise CohortError(
            "model.likelihood_mask: got brain, expected masks of the training people. Name them with data.mask, or set "
            "model.likelihood_mask=head."
        )
    return mean_mask > COUNTED_LEVEL


def _reconstruct(
    model: LatentModel,
    dataset: Dataset,
    rows: np.ndarray,
    latents: dict[str, np.ndarray],
    num_draws: int,
    seed: int,
    others: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Returns what `_score` does of every person of `rows`, whose latents are those of `latents`."""
    collected: dict[str, list] = {}
    for batch, (count, *people) in enumerate(encoded_batches(dataset, rows, latents)):
        draw_seed = tf.constant([seed, 1000 * batch])
        shuffled = None
        if others is not None:
            shuffled = pad_batch(tf.constant(others[batch * BATCH_SIZE :][:count]))
        for name, value in model.graph(_score)(*people, shuffled, draw_seed, num_draws).items():
            collected.setdefault(name, []).append(value.numpy()[:count].astype(np.float64))
    return {name: np.concatenate(parts) for name, parts in collected.items()}


def _score(model: LatentModel, volumes, posterior: dict, condition, others, draw_seed, num_draws: int) -> dict:
    """Returns per-subject sums: squared_error (of the posterior mean's reconstruction); for a VAE kl and, with draws,
    elbo; for a VAE with the latents of `others` (batch, latent) shuffled_gap."""
    reconstruction = model.decode(posterior["loc"], condition=condition)
    error = tf.square(model.apply_mask(volumes) - reconstruction)
    terms = {"squared_error": tf.reduce_sum(error, axis=[1, 2, 3, 4])}
    if model.likelihood is None:
        return terms

    def draw_once(draw):
        z = model.draw(posterior, draw_seed + tf.stack([0, draw]))
        return z, model.kl(posterior, z, condition)

    def draw_again(draw, kl, nll):
        z, one = draw_once(draw)
        decoded = model.decode(z, condition=condition)
        return draw + 1, kl + one, nll + model.nll(volumes, decoded)

    if num_draws:
        none = tf.zeros([tf.shape(volumes)[0]])
        _, kl, nll = tf.while_loop(
            lambda draw, *_: draw < num_draws, draw_again, (0, none, none), parallel_iterations=1
        )
        terms["kl"] = kl / num_draws
        terms["elbo"] = -(nll + kl) / num_draws
    else:
        terms["kl"] = draw_once(0)[1]
    if others is not None:
        shuffled = model.nll(volumes, model.decode(others, condition=condition))
        terms["shuffled_gap"] = shuffled - model.nll(volumes, reconstruction)
    return terms


def _total_error(model: LatentModel, dataset: Dataset, rows: np.ndarray, mean_image: np.ndarray) -> float:
    """Returns the summed squares of what people differ in from the mean image."""
    total = 0.0
    for _, volumes in inference_dataset(dataset.cache, rows, BATCH_SIZE):
        total += float(np.sum(np.square(model.apply_mask(volumes - mean_image[..., None])), dtype=np.float64))
    return total
