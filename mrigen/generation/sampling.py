"""Synthetic volumes from a run, as BIDS derivatives that any viewer opens in the right place."""

import concurrent.futures
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

import mrigen
from mrigen.data.covariates import COLUMNS, Covariates, as_table
from mrigen.errors import UsageError
from mrigen.generation.densities import choose_density
from mrigen.imaging.figures import draw_contact_sheet
from mrigen.imaging.volumes import write_displacement, write_volume
from mrigen.layers import jacobian_determinant
from mrigen.models import MorphingAutoencoder
from mrigen.runs import Run
from mrigen.runs.encoding import decode_batches
from mrigen.system.files import write_json, write_table
from mrigen.system.progress import progress_bar

# Heads on the contact sheet.
MOST_PICTURES = 20


def sample(
    run: Run,
    num_samples: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    density: str = "auto",
    given: Mapping[str, str | float] | None = None,
    directory: str | os.PathLike | None = None,
    native_units: bool = False,
    fields: bool = False,
    force: bool = False,
) -> list[Path]:
    """Writes synthetic heads and returns their paths.

    Sample k depends on the run, the density, the seed, the temperature and k only.

    Args:
        run: a finished run.
        num_samples: how many.
        seed: of the draws.
        temperature: factor on the standard deviation of the draws; below 1 heads are more alike.
        density: "auto", or which; see `choose_density`.
        given: covariates of the people, such as {"sex": "F", "age": 30}. A model that was told covariates takes the
            others from training people who are like that; of another model the density of the latents alone is moved.
        directory: where to write; RUN/samples by default.
        native_units: whether intensities are multiplied by the training cohort's median scale.
        fields: whether a run of a morphing model also writes, beside each head, the displacement that leads from it
            into the template (see `write_displacement`), and the logarithm of its Jacobian determinant: negative
            where the head is larger than the template.
        force: whether samples that were made with other settings are replaced.

    Raises:
        UsageError: a number out of range, fields of a model that has none, a covariate or a value that is unknown, or
            samples of other settings are there. CohortError: the training people do not differ in a covariate.
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
    given = dict(given or {})
    covariates = run.covariates
    if covariates is None and given:
        covariates = Covariates.of(run.subjects, run.split, list(given))
    if covariates is not None:
        covariates.check(given)
        settings["given"] = given
    _check_target(directory, settings, force)
    model = run.load_model()
    if fields and not isinstance(model, MorphingAutoencoder):
        raise UsageError(
            f"--fields: got a run of kind {run.recipe.model.kind}, expected kind morph: only that moves a template. "
            "Leave --fields out, or name another run with --run."
        )
    chosen = choose_density(run, model, density, seed, covariates)
    factor = run.grid["median_scale"] if native_units else 1.0
    paths, pictures = [], []
    _describe(directory, run, settings)
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        progress_bar("Sampling", num_samples) as advance,
    ):
        written = []
        generators = [np.random.default_rng([seed, k]) for k in range(num_samples)]
        people = [_draw_person(run, covariates, given, generator) for generator in generators]
        conditions = [None if person is None else covariates.encode(person)[0] for person in people]
        latents = np.stack(
            [
                chosen.draw(generator, temperature, condition)
                for generator, condition in zip(generators, conditions, strict=True)
            ]
        )
        told = None if run.covariates is None else np.stack(conditions)
        for parts in decode_batches(model, latents, told):
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
    if covariates is not None:
        table = pd.concat(people, ignore_index=True)
        for name in covariates.names:
            manifest[name] = table.get(COLUMNS[name])
    write_table(directory / "manifest.tsv", manifest)
    titles = [path.parent.parent.name for path in paths[: len(pictures)]]
    draw_contact_sheet(pictures, titles, directory / "contact_sheet.png", run.grid["zooms"])
    return paths


def _draw_person(run: Run, covariates: Covariates | None, given: dict, generator) -> pd.DataFrame | None:
    """Returns the covariates of one sample, one row, or None where there are none."""
    if covariates is None:
        return None
    if run.covariates is None:
        return as_table(given)
    training = run.split.loc[run.split["split"] == "train", "participant_id"]
    return covariates.draw(run.subjects[run.subjects["participant_id"].isin(training)], given, generator)


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
