"""Synthetic volumes from a run, as BIDS derivatives that any viewer opens in the right place."""

import abc
import concurrent.futures
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

import mrigen
from mrigen.encoding import decode_batches
from mrigen.errors import UsageError
from mrigen.figures import draw_contact_sheet
from mrigen.files import write_json, write_table
from mrigen.layers import jacobian_determinant
from mrigen.models import LatentModel, MorphingAutoencoder, VariationalAutoencoder
from mrigen.progress import progress_bar
from mrigen.runs import Run
from mrigen.volumes import write_displacement, write_volume

DENSITIES = ("auto", "prior", "gaussian", "mixture")
# A Gaussian of more latents than this is only fitted where it is asked for: its covariance would take gigabytes.
MOST_LATENTS = 4096
# Mixtures up to this many components are tried; the Bayesian information criterion chooses.
MOST_COMPONENTS = 8
# Heads on the contact sheet.
MOST_PICTURES = 20


def sample(
    run: Run,
    num_samples: int,
    seed: int = 0,
    temperature: float = 1.0,
    directory: str | os.PathLike | None = None,
    native_units: bool = False,
    force: bool = False,
    fields: bool = False,
    density: str = "auto",
) -> list[Path]:
    """Writes synthetic heads and returns their paths.

    Sample k depends on the run, the density, the seed, the temperature and k only.

    Args:
        run: a finished run.
        num_samples: how many.
        seed: of the draws.
        temperature: factor on the standard deviation of the draws; below 1 heads are more alike.
        directory: where to write; RUN/samples by default.
        native_units: whether intensities are multiplied by the training cohort's median scale.
        force: whether samples that were made with other settings are replaced.
        density: "prior" (of a VAE, N(0, I)); "gaussian" or "mixture", fitted on the latents of the training people; or
            "auto": see `choose_density`.
        fields: whether a run of a morphing model also writes, beside each head, the displacement that leads from it
            into the template (see `write_displacement`), and the logarithm of its Jacobian determinant: negative
            where the head is larger than the template.

    Raises:
        UsageError: a number out of range, fields of a model that has none, or samples of other settings are there.
    """
    if num_samples < 1:
        raise UsageError(f"--num: got {num_samples}, expected an integer >= 1. Set -n 10 for a start.")
    if not temperature > 0:
        raise UsageError(
            f"--temperature: got {temperature:g}, expected a number > 0. Set 1 for the model's own spread."
        )
    directory = Path(directory) if directory is not None else run.directory / "samples"
    settings = {
        "seed": seed,
        "temperature": temperature,
        "intensity_units": "native" if native_units else "training scale, 0 to 1",
        "density": density,
        "weights": _fingerprint(run),
    }
    _check_target(directory, settings, force)
    model = run.load_model()
    if fields and not isinstance(model, MorphingAutoencoder):
        raise UsageError(
            f"--fields: got a run of kind {run.recipe.model.kind}, expected kind morph: only that moves a template. "
            "Leave --fields out, or name another run with --run."
        )
    chosen = choose_density(run, model, density, seed)
    factor = run.grid["median_scale"] if native_units else 1.0
    paths, pictures = [], []
    _describe(directory, run, settings)
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("Sampling", num_samples) as advance,
    ):
        written = []
        latents = np.stack([chosen.draw(np.random.default_rng([seed, k]), temperature) for k in range(num_samples)])
        for parts in decode_batches(model, latents):
            heads = np.clip(parts["reconstruction"][..., 0], 0.0, 1.0)
            for row, volume in enumerate(heads):
                name = f"sub-synth{len(paths) + 1:04d}"
                path = directory / name / "anat" / f"{name}_T1w.nii.gz"
                written.append(pool.submit(write_volume, path, volume * np.float32(factor), run.affine))
                if fields:
                    written.append(pool.submit(_write_fields, path.parent, name, parts["displacement"][row], run))
                paths.append(path)
                if len(pictures) < MOST_PICTURES:
                    pictures.append(volume)
            advance(len(heads))
        for future in written:
            future.result()
    manifest = pd.DataFrame(
        {
            "participant_id": [path.parent.parent.name for path in paths],
            "path": [path.relative_to(directory).as_posix() for path in paths],
            "seed": seed,
            "index": range(num_samples),
            "temperature": temperature,
            "density": chosen.name,
        }
    )
    write_table(directory / "manifest.tsv", manifest)
    titles = [path.parent.parent.name for path in paths[: len(pictures)]]
    draw_contact_sheet(pictures, titles, directory / "contact_sheet.png", run.grid["zooms"])
    return paths


def choose_density(run: Run, model: LatentModel, name: str = "auto", seed: int = 0) -> "Density":
    """Returns the density that latents are drawn from.

    "auto" takes, for a VAE, whichever of prior and Gaussian gives the latents of validation people the higher
    likelihood: the people of a trained VAE rarely lie where its prior does. For an autoencoder it takes the mixture.

    Args:
        run: a finished run. model: its model.
        name: "auto", "prior", "gaussian" or "mixture".
        seed: of the fit of a mixture.

    Raises:
        UsageError: no such density, or a prior of a model without one.
    """
    has_prior = isinstance(model, VariationalAutoencoder)
    if name not in DENSITIES or (name == "prior" and not has_prior):
        known = ", ".join(known for known in DENSITIES if has_prior or known != "prior")
        raise UsageError(f"--density: got {name}, expected one of {known} for kind {run.recipe.model.kind}. Set auto.")
    if name == "mixture" or (name == "auto" and not has_prior):
        return MixtureDensity.fit(run, seed)
    if name == "prior" or (name == "auto" and model.latent_size > MOST_LATENTS):
        return PriorDensity(model.latent_size)
    gaussian = GaussianDensity.fit(run)
    validation = _latents_of(run, "validation")["loc"]
    if name == "gaussian":
        return gaussian
    prior = PriorDensity(model.latent_size)
    if not len(validation) or prior.log_density(validation).mean() >= gaussian.log_density(validation).mean():
        return prior
    return gaussian


class Density(abc.ABC):
    """Where the latents of samples are drawn from."""

    name: str

    @abc.abstractmethod
    def draw(self, generator: np.random.Generator, temperature: float) -> np.ndarray:
        """Returns one latent vector (latent,) float32; `temperature` multiplies its deviation from the middle."""


class PriorDensity(Density):
    """The prior of a VAE, N(0, I) over `latent_size` variables."""

    name = "prior"

    def __init__(self, latent_size: int):
        self.latent_size = latent_size

    def draw(self, generator, temperature):
        return (temperature * generator.standard_normal(self.latent_size)).astype(np.float32)

    def log_density(self, latents: np.ndarray) -> np.ndarray:
        """Returns the log-density of `latents` (n, latent), (n,) nats."""
        return stats.norm.logpdf(latents.astype(np.float64)).sum(axis=1)


class GaussianDensity(Density):
    """One Gaussian for the aggregate posterior of the training people.

    Its covariance is that of the posterior means, shrunk where people are few, plus the mean posterior variance.

    References:
        Ledoit and Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices.
        Ghosh et al. 2020, From variational to deterministic autoencoders, section 4 (densities fitted afterwards).
    """

    name = "gaussian"

    def __init__(self, loc: np.ndarray, covariance: np.ndarray):
        self.loc = loc
        self.covariance = covariance
        self.factor = np.linalg.cholesky(covariance)

    @classmethod
    def fit(cls, run: Run) -> "GaussianDensity":
        """Returns the Gaussian fitted on the run's training people."""
        from sklearn.covariance import LedoitWolf

        latents = _latents_of(run, "train")
        fitted = LedoitWolf().fit(latents["loc"].astype(np.float64))
        within = (latents["scale"].astype(np.float64) ** 2).mean(axis=0) if "scale" in latents else 0.0
        return cls(
            fitted.location_, fitted.covariance_ + np.diag(np.broadcast_to(within + 1e-9, fitted.location_.shape))
        )

    def draw(self, generator, temperature):
        deviation = self.factor @ generator.standard_normal(len(self.loc))
        return (self.loc + temperature * deviation).astype(np.float32)

    def log_density(self, latents: np.ndarray) -> np.ndarray:
        """Returns the log-density of `latents` (n, latent), (n,) nats."""
        return np.atleast_1d(stats.multivariate_normal.logpdf(latents.astype(np.float64), self.loc, self.covariance))


class MixtureDensity(Density):
    """A Gaussian mixture over the training latents, in the space of their principal components.

    The components of the latents are capped at half the number of people, so that covariances can be estimated; what
    is left out varies least. The number of Gaussians is chosen by the Bayesian information criterion.
    """

    name = "gaussian-mixture"

    def __init__(self, pca, mixture):
        self.pca = pca
        self.mixture = mixture

    @classmethod
    def fit(cls, run: Run, seed: int = 0) -> "MixtureDensity":
        """Returns the mixture fitted on the run's training people."""
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        loc = _latents_of(run, "train")["loc"].astype(np.float64)
        pca = PCA(min(loc.shape[1], max(1, len(loc) // 2)), whiten=True, svd_solver="full").fit(loc)
        scores = pca.transform(loc)
        candidates = [
            GaussianMixture(count, covariance_type="diag", reg_covar=1e-4, random_state=seed).fit(scores)
            for count in range(1, min(MOST_COMPONENTS, len(loc) // 10 or 1) + 1)
        ]
        return cls(pca, min(candidates, key=lambda mixture: mixture.bic(scores)))

    def draw(self, generator, temperature):
        component = generator.choice(len(self.mixture.weights_), p=self.mixture.weights_)
        spread = np.sqrt(self.mixture.covariances_[component])
        scores = self.mixture.means_[component] + temperature * spread * generator.standard_normal(len(spread))
        return self.pca.inverse_transform(scores[None])[0].astype(np.float32)


def _latents_of(run: Run, split: str) -> dict[str, np.ndarray]:
    """Returns the latents of the people of one split; see `Run.load_latents`."""
    latents = run.load_latents()
    people = run.subjects.merge(run.split, on="participant_id").query("split == @split")["scan_id"]
    chosen = np.isin(latents["scan_id"], people.to_numpy(dtype=str))
    return {name: values[chosen] for name, values in latents.items()}


def _write_fields(directory: Path, name: str, displacement: np.ndarray, run: Run) -> None:
    determinant = jacobian_determinant(displacement[None]).numpy()[0]
    logarithm = np.log(np.maximum(determinant, np.float32(1e-6)))  # A fold has no logarithm.
    write_displacement(directory / f"{name}_from-T1w_to-template_mode-image_xfm.nii.gz", displacement, run.affine)
    write_volume(directory / f"{name}_desc-logjacobian_map.nii.gz", logarithm, run.affine)


def _fingerprint(run: Run) -> str:
    from mrigen.data.checking import file_digest

    return file_digest(run.weights_path)


def _check_target(directory: Path, settings: dict, force: bool) -> None:
    """Refuses to mix samples of different settings in one folder, or to write among files that are no samples."""
    if force or not directory.exists() or not any(directory.iterdir()):
        return
    description = directory / "dataset_description.json"
    try:
        earlier = json.loads(description.read_text())["GeneratedBy"][0]["Parameters"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise UsageError(
            f"{directory}: holds files that are no samples of mrigen, expected a new folder. Name another with --out."
        ) from None
    changed = [name for name in settings if earlier.get(name) != settings[name]]
    if changed:
        before = ", ".join(f"{name} {earlier.get(name)}" for name in changed)
        raise UsageError(
            f"{directory}: holds samples with {before}, expected none or the same settings. "
            "Name another folder with --out, or replace them with --force."
        )


def _describe(directory: Path, run: Run, settings: dict) -> None:
    write_json(
        directory / "dataset_description.json",
        {
            "Name": f"Synthetic heads of {run.directory.name}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "mrigen", "Version": mrigen.__version__, "Parameters": settings}],
        },
    )
