"""A run as Python has it: the folder of `mrigen.runs.Run`, with the verbs as methods."""

import dataclasses
import functools
import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import mrigen
from mrigen import runs
from mrigen.errors import RunError
from mrigen.recipe import Recipe, parse_recipe
from mrigen.runs.listing import read_history
from mrigen.system.notebook import show_figures
from mrigen.system.wording import counted
from mrigen.training.refusals import detail_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Curves of `Run.plot_history`: title -> columns of history.csv, as far as the model has them.
CURVES = {
    "Loss": ("loss", "val_loss"),
    "Squared error a voxel": ("mse", "val_mse"),
    "KL (nats)": ("kl_nats", "val_kl_nats"),
    "Active latents": ("active_units",),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Run(runs.Run):
    """One run: what `fit` leaves in a folder, and all that is made of it.

    The methods named like commands compute and return; nothing is written until `.write()` of what they return is
    called. Each is also a function of `mrigen` that takes the run first.

    Args:
        directory: of the run. Nothing is read before it is needed, so an unfinished run can be looked at, too.

    Example:
        >>> Run("runs/nowhere").is_complete
        False
    """

    directory: Path

    def __post_init__(self):
        object.__setattr__(self, "directory", Path(self.directory))
        show_figures()

    @functools.cached_property
    def latents(self) -> pd.DataFrame:
        """Posterior means of everyone: columns loc_001, loc_002, ..., rows as those of `subjects`."""
        latents = self.load_latents()
        means = latents["loc"].reshape(len(latents["loc"]), -1)
        digits = max(3, len(str(means.shape[1])))
        names = [f"loc_{number + 1:0{digits}d}" for number in range(means.shape[1])]
        frame = pd.DataFrame(means, index=latents["scan_id"], columns=names)
        return frame.reindex(self.subjects["scan_id"]).set_axis(self.subjects.index)

    @property
    def history(self) -> pd.DataFrame:
        """The figures of every epoch so far, one row each.

        Raises:
            RunError: no epoch has ended yet, or the file is damaged.
        """
        path = self.directory / "history.csv"
        if not path.is_file():
            raise RunError(f"{self.directory}: no history.csv, expected a fit that has ended an epoch. Wait for it.")
        read_history(self.directory)  # Or it says what is damaged.
        return pd.read_csv(path, index_col="epoch")

    def plot_history(self) -> "Figure":
        """Returns the course of the fit as a figure: the loss, the error, and what the latents carry, by epoch."""
        from matplotlib.figure import Figure

        history = self.history
        curves = {title: [name for name in names if name in history] for title, names in CURVES.items()}
        curves = {title: names for title, names in curves.items() if names}
        figure = Figure(figsize=(3.4 * len(curves), 2.8), layout="constrained")
        for axis, (title, names) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
            for name in names:
                label = "validation" if name.startswith("val_") else "training" if len(names) > 1 else None
                axis.plot(history.index + 1, history[name], marker="." if len(history) < 30 else None, label=label)
            axis.set(title=title, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            if len(names) > 1:
                axis.legend(frameon=False)
        return figure

    def qc(self, *, num_workers: int | None = None):
        """Returns what is wrong or strange about the images of the run; see `mrigen.qc`."""
        return mrigen.qc(self, num_workers=num_workers)

    def encode(self, images: Sequence | None = None, **options: Any) -> pd.DataFrame:
        """Returns the latents of images, one row each: participant_id, scan_id, loc_001, ...

        Args:
            images: paths, nibabel images, or float arrays on the model's grid; None for everyone of the run.
            **options: see `mrigen.encode`, for example `data`, a folder of new people.
        """
        return mrigen.encode(self, images, **options).to_frame()

    def decode(self, latents, *, given: Mapping[str, str | float] | None = None, native_units: bool = False):
        """Returns the heads that latents stand for, as nibabel images; see `mrigen.decode`.

        Args:
            latents: a table as `encode` returns it, a path of one, or an array (n, latent).
            given: covariates of everyone, for a model that is conditioned on any.
            native_units: whether intensities are in the units of the training cohort, in the median.
        """
        return mrigen.decode(self, latents, given=given, native_units=native_units)

    def sample(self, num_samples: int = 10, **options: Any):
        """Returns synthetic heads, as nibabel images with a table of how they were drawn; see `mrigen.sample`.

        Args:
            num_samples: how many.
            **options: `seed`, `temperature`, `density`, `given` (covariates, such as {"sex": "F"}), `native_units`,
                `fields`, `detail`.
        """
        return mrigen.sample(self, num_samples, **options)

    def learn_detail(self, *, force: bool = False, **settings: Any) -> "Run":
        """Trains the network that draws the fine structure of the run's samples, and returns the run; see
        `mrigen.learn_detail`.

        Args:
            force: whether one that is there is replaced.
            **settings: keys of a recipe's block `detail`, such as `steps=2000`; the others are those of the run.
        """
        recipe = parse_recipe(json.dumps(_with_detail(self.recipe, settings)), "detail") if settings else self.recipe
        mrigen.learn_detail(self, detail_settings(recipe), force)
        return self

    def reconstruct(self, images: Sequence, *, given: Mapping[str, str | float] | None = None, **options: Any):
        """Returns what the model makes of images, and what it leaves, in each image's own space; see
        `mrigen.reconstruct`, also for the options `detail` and `seed`."""
        return mrigen.reconstruct(self, images, given=given, **options)

    def interpolate(self, first, second, *, num_steps: int = 7):
        """Returns the heads between two people (scan ids of the run, or images); see `mrigen.interpolate`."""
        return mrigen.interpolate(self, first, second, num_steps=num_steps)

    def traverse(self, *, num_directions: int = 5, num_steps: int = 7, extent: float = 2.5):
        """Returns sequences of heads along the principal directions of the latents; see `mrigen.traverse`."""
        return mrigen.traverse(self, num_directions=num_directions, num_steps=num_steps, extent=extent)

    def template(self, *, by: str | None = None):
        """Returns the mean head, or that of each group of the column `by`; see `mrigen.template`."""
        return mrigen.template(self, by=by)

    def transfer(self, given: Mapping[str, str | float], *, split: str = "heldout", keep_detail: bool = False):
        """Returns people's heads as another scanner, sex or age would show them; see `mrigen.transfer`."""
        return mrigen.transfer(self, given, split=split, keep_detail=keep_detail)

    def segment(self, images: Sequence, *, regions: bool = False):
        """Returns brain masks of new heads, by the labels of the training people; see `mrigen.segment`."""
        return mrigen.segment(self, images, regions=regions)

    def map_latents(self, *, seed: int = 0):
        """Returns maps of the latents, and what they have to do with covariates; see `mrigen.map_latents`."""
        return mrigen.map_latents(self, seed=seed)

    def diagnose(self, *, num_draws: int = 64, seed: int = 0):
        """Returns what the latents of a VAE say, and what to do; see `mrigen.diagnose`."""
        return mrigen.diagnose(self, num_draws=num_draws, seed=seed)

    def probe(self, *, target: str = "sex", confounds: Sequence[str] = (), **options: Any):
        """Returns how well the latents predict a column, cross-validated, beside baselines; see `mrigen.probe`.

        Args:
            target: column of the cohort's table; text is classes, numbers are numbers.
            confounds: columns (or head_size) whose part is taken out in rows of their own.
            **options: further keywords of `mrigen.probe`, such as `permutations`, `classifiers`, `seed`.
        """
        return mrigen.probe(self, target=target, confounds=confounds, **options)

    def probe_nested(self, num_folds: int = 5, **options: Any):
        """Returns a probe whose folds fit the encoder anew; see `mrigen.probe_nested`."""
        return mrigen.probe_nested(self, num_folds, **options)

    def probe_external(self, data: str | os.PathLike, **options: Any):
        """Returns a probe that is fitted here and scored on another cohort; see `mrigen.probe_external`."""
        return mrigen.probe_external(self, data, **options)

    def evaluate(self, *, only: Sequence[str] | None = None, against: str = "validation", **options: Any):
        """Returns how good the run's samples are; see `mrigen.evaluate`."""
        return mrigen.evaluate(self, only=only, against=against, **options)

    def explain(self, *, confounds: Sequence[str] = (), **options: Any):
        """Returns what changes from women to men, voxel by voxel; see `mrigen.explain`."""
        return mrigen.explain(self, confounds=confounds, **options)

    def check_samples(self, samples, **options: Any):
        """Returns whether samples are what they were asked to be; see `mrigen.check_samples`."""
        return mrigen.check_samples(self, samples, **options)

    def __repr__(self) -> str:
        return "\n".join(f"{name + ':':10} {text}" for name, text in self._describe())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in self._describe()
        )
        return f"<table>{rows}</table>"

    def _describe(self) -> list[tuple[str, str]]:
        """Returns five lines, each a word and what it says; of a folder that is no run what is wrong."""
        folder = ("Folder", str(self.directory))
        try:
            rows = [("Run", self._say_kind()), ("People", self._say_people())]
            rows += self._say_figures() if self.is_complete else self._say_progress()
        except RunError as error:
            return [("Run", str(error.faults[0])), folder]
        return [*rows, folder]

    def _say_kind(self) -> str:
        shape = "x".join(map(str, self.grid["volume_shape"]))
        zooms = [f"{zoom:g}" for zoom in self.grid["zooms"]]
        size = zooms[0] if len(set(zooms)) == 1 else "x".join(zooms)
        name, kind = self.facts.get("recipe", "recipe"), self.recipe.model.kind
        which = kind if name == kind else f"{kind} (recipe {name})"
        return f"{which} on {shape} voxels of {size} mm"

    def _say_people(self) -> str:
        sizes = self.split["split"].value_counts()
        words = {"train": "training", "validation": "validation", "heldout": "held-out"}
        parts = [f"{sizes[split]} {word}" for split, word in words.items() if split in sizes]
        return f"{len(self.split)}: {', '.join(parts)}"

    def _say_figures(self) -> list[tuple[str, str]]:
        metrics = self.metrics
        latents = f"{metrics['latent_dim']} variables"
        if metrics["kl_nats"] is not None:
            latents = f"{metrics['active_units']} of {latents} active, KL {metrics['kl_nats']:.4g} nats"
        heldout, pca = metrics["heldout"], metrics["pca"]
        if heldout["mse"] is None:
            return [("Latents", latents), ("Held-out", "nobody")]
        moved = metrics.get("appearance_model", {}).get("mse")
        moved = "" if moved is None else f", active appearance model {moved:.5f}"
        figures = f"MSE {heldout['mse']:.5f} (PCA {pca['mse']:.5f}{moved}), PSNR {heldout['psnr']:.1f} dB"
        if heldout["elbo_nats"] is not None:
            beside = pca["loglik_calibrated_nats"]
            beside = "" if beside is None else f" (probabilistic PCA {beside:.0f})"
            figures += f", ELBO {heldout['elbo_nats']:.0f} nats{beside}"
        return [("Latents", latents), ("Held-out", figures)]

    def _say_progress(self) -> list[tuple[str, str]]:
        try:
            done = len(self.history)
        except RunError:
            done = 0
        epochs = counted(self.recipe.training.epochs, "epoch", "epochs")
        call = f"mrigen.resume({str(self.directory)!r})"
        return [("Unfinished", f"{done} of {epochs} done"), ("Next", f"go on with {call}")]


def open_run(directory: str | os.PathLike | None = None, root: str | os.PathLike = "runs") -> Run:
    """Returns a finished run.

    Args:
        directory: the run; the newest complete one under `root` if None.
        root: folder of runs.

    Raises:
        RunError: there is none, or it is not a run, or it has no weights.
    """
    return Run(runs.open_run(directory, root).directory)


def _with_detail(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a recipe with other keys of `detail`."""
    content = recipe.model_dump(mode="json")
    return {**content, "detail": {**content["detail"], **settings}}
