"""A synthetic cohort with known truth, written as a BIDS dataset: brains to try everything on, without any download."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from mrigen.data.phantom_anatomy import (
    Template,
    grid_points,
    load_template,
    planted_region,
    sample,
    sex_velocity_at,
    template_grid,
    velocity_at,
)
from mrigen.data.phantom_factors import (
    MEAN_BRAIN_VOLUME_ML,
    OF_SCAN,
    PhantomSettings,
    described_columns,
    draw_factors,
    draw_scans,
    typical_factors,
)
from mrigen.data.phantom_grown import (
    CENTRE_MM,
    average_brain,
    average_scale,
    head_grid,
    label_names,
    wall_velocity_at,
)
from mrigen.data.phantom_scanner import scan_subject
from mrigen.errors import UsageError
from mrigen.imaging.volumes import write_volume
from mrigen.system.files import atomic_directory, write_json, write_table, write_text

__all__ = [
    "PHANTOM_VERSION",
    "PhantomSettings",
    "draw_factors",
    "draw_scans",
    "planted_truth",
    "write_phantom_cohort",
]

# Increase when the images that come out change, so that cached cohorts are made anew.
PHANTOM_VERSION = 1
BIDS_VERSION = "1.9.0"
DERIVATIVES = "derivatives/phantom"

README = {
    "warped": """Synthetic T1-weighted brains (no real person), made by mrigen.

Every subject is the MNI152 template (Fonov et al., NeuroImage 2011), deformed smoothly, scaled, posed and "scanned".
participants.tsv holds the true value of every factor, participants.json says what each one is.
derivatives/phantom holds the true brain masks and, in truth/, the planted effects in template space:
planted_region (1 where men and women differ in shape), sex_velocity and age_velocity (mm, three components x, y, z;
a subject's coefficients are the columns sex_shape and ventricle_expansion) and the template itself.
""",
    "grown": """Synthetic T1-weighted brains (no real person), made by mrigen.

Every subject is made by procedure, and nobody is a deformation of anybody: tissues lie on this or that side of implicit
surfaces, the cortex is a folded sheet with folds, thickness and depth of the person's own, its regions grow from seeds
through the tissue, and the image is "scanned" with the partial volume of the tissues.
participants.tsv holds the true value of every factor, participants.json says what each one is.
derivatives/phantom holds the true brain masks and labels (dseg; their names in dseg.tsv) and, in truth/, the planted
effects in the space of an average brain: planted_region (1 where men and women differ in shape), sex_velocity (how the
outer surface moves) and age_velocity (how the walls of the ventricles move; both in mm, three components x, y, z; a
subject's coefficients are the columns sex_shape and ventricle_expansion) and that brain (template_T1w).
""",
}

TRAVELLING = """Everyone was scanned several times, each time by another scanner and in another pose: sub-*_sessions.tsv
holds what is of the scan (sessions.json says what each column is), participants.tsv what is of the person.
"""


def write_phantom_cohort(
    directory: str | os.PathLike,
    settings: PhantomSettings,
    num_workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Writes a synthetic cohort as a BIDS dataset into `directory`, whole or not at all, and returns its path.

    The images are int16 T1-weighted brains without skull; the same settings give the same bytes, whatever
    `num_workers` is. With `derivatives/phantom` come the true brain masks and, in template space, the planted effects;
    of grown brains the labels of tissues and regions as well. With several scanners everyone has as many sessions, and
    what differs between them stands in sub-*_sessions.tsv.

    Args:
        directory: where to write; must not exist, or be empty.
        settings: what the cohort is like.
        num_workers: number of threads; by default one for each CPU.
        progress: called with 1 whenever another subject is written.

    Raises:
        UsageError: `directory` is a file or has something in it, or `num_workers` is below 1. Nothing was written.

    Example:
        >>> write_phantom_cohort("phantom", PhantomSettings(num_subjects=20))  # doctest: +SKIP
        PosixPath('phantom')
    """
    directory = Path(directory)
    _check_is_free(directory)
    if num_workers is not None and num_workers < 1:
        raise UsageError(f"num_workers: got {num_workers}, expected at least 1. Leave it out for one for each CPU.")
    factors = draw_scans(settings) if settings.num_scanners > 1 else draw_factors(settings)
    with atomic_directory(directory) as partial:
        _write_descriptions(partial, settings)
        _write_people(partial, settings, factors)
        template = load_template(settings.zooms) if settings.anatomy == "warped" else None
        write_truth = _write_truth_of_warped if template else _write_truth_of_grown
        write_truth(partial / DERIVATIVES / "truth", template, settings)

        def write_subject(person):
            index, scans = person
            for number, row in enumerate(scans):
                _write_scan(partial, settings, row, *scan_subject(template, settings, index, row, number))

        with ThreadPoolExecutor(num_workers or os.cpu_count()) as threads:
            for _ in threads.map(write_subject, enumerate(_scans_of_people(factors, settings))):
                if progress is not None:
                    progress(1)
    return directory


def _scans_of_people(factors: pd.DataFrame, settings: PhantomSettings) -> list[list[dict]]:
    """Returns the rows of each person's scans."""
    rows = factors.to_dict("records")
    return [rows[start : start + settings.num_scanners] for start in range(0, len(rows), settings.num_scanners)]


def _write_people(directory: Path, settings: PhantomSettings, factors: pd.DataFrame) -> None:
    described = described_columns(settings)
    if settings.num_scanners == 1:
        write_table(directory / "participants.tsv", factors)
        write_json(directory / "participants.json", described)
        return
    of_person = [name for name in described if name not in OF_SCAN]
    people = factors[of_person].drop_duplicates("participant_id", ignore_index=True)
    write_table(directory / "participants.tsv", people)
    write_json(directory / "participants.json", {name: described[name] for name in of_person})
    session = {"session_id": {"Description": "Scan: a scanner and a pose of its own"}}
    write_json(directory / "sessions.json", session | {name: described[name] for name in OF_SCAN[1:]})
    for name, scans in factors.groupby("participant_id"):
        write_table(directory / name / f"{name}_sessions.tsv", scans[list(OF_SCAN)].reset_index(drop=True))


def _write_scan(directory: Path, settings: PhantomSettings, row: dict, volume, mask, labels, affine) -> None:
    parts = [row["participant_id"]] + ([row["session_id"]] if settings.num_scanners > 1 else [])
    place, name = Path(*parts, "anat"), "_".join(parts)
    write_volume(directory / place / f"{name}_T1w.nii.gz", volume, affine)
    derived = directory / DERIVATIVES / place
    write_volume(derived / f"{name}_desc-brain_mask.nii.gz", mask, affine)
    if labels is not None:
        write_volume(derived / f"{name}_dseg.nii.gz", labels, affine)


def _check_is_free(directory: Path) -> None:
    if directory.is_dir():
        num_entries = sum(1 for _ in directory.iterdir())
        if num_entries == 0:
            return
        found = "1 entry" if num_entries == 1 else f"{num_entries} entries"
        came = f"a folder with {found} in it"
    elif directory.exists():
        came = "a file"
    else:
        return
    raise UsageError(
        f"{directory}: got {came}, expected a new or empty folder for the synthetic cohort. "
        "Choose another folder, or remove this one first."
    )


def _write_descriptions(directory: Path, settings: PhantomSettings) -> None:
    made_by = [{"Name": "mrigen", "Description": "Synthetic cohort with known truth", "Settings": settings.as_dict()}]
    description = {"Name": "mrigen phantom", "BIDSVersion": BIDS_VERSION, "DatasetType": "raw", "GeneratedBy": made_by}
    write_json(directory / "dataset_description.json", description)
    description = {**description, "Name": "mrigen phantom: masks and truth", "DatasetType": "derivative"}
    write_json(directory / DERIVATIVES / "dataset_description.json", description)
    write_text(directory / "README", README[settings.anatomy] + (TRAVELLING if settings.num_scanners > 1 else ""))
    if settings.anatomy == "grown":
        labels = pd.DataFrame(label_names().items(), columns=["index", "name"])
        write_table(directory / DERIVATIVES / "dseg.tsv", labels)


def _write_truth_of_warped(directory: Path, template: Template, settings: PhantomSettings) -> None:
    shape, affine = template_grid(template, settings.zooms)
    points = grid_points(shape, affine)
    mask = sample(template, "mask", points) > 0.5
    write_volume(directory / "planted_region.nii.gz", (planted_region(points) & mask).astype(np.uint8), affine)
    write_volume(directory / "template_T1w.nii.gz", sample(template, "t1", points), affine)
    for name in ("sex_velocity", "age_velocity"):
        velocity = velocity_at(template, getattr(template, name), points)
        write_volume(directory / f"{name}.nii.gz", np.moveaxis(velocity, 0, -1).astype(np.float32), affine)


def _write_truth_of_grown(directory: Path, _, settings: PhantomSettings) -> None:
    shape, affine = head_grid(settings.zooms)
    points, factors = grid_points(shape, affine), typical_factors(settings)
    signal, mask = average_brain(factors, points, settings.zooms)
    write_volume(directory / "planted_region.nii.gz", (planted_region(points) & mask).astype(np.uint8), affine)
    write_volume(directory / "template_T1w.nii.gz", signal.astype(np.float32), affine)
    velocities = {"sex_velocity": sex_velocity_at(points), "age_velocity": wall_velocity_at(factors, points)}
    for name, velocity in velocities.items():
        write_volume(directory / f"{name}.nii.gz", np.moveaxis(velocity, 0, -1).astype(np.float32), affine)


def planted_truth(
    anatomy: str, volume_shape: tuple[int, int, int], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns where a head of average size, upright in the middle of the world, holds the planted difference in shape.

    Args:
        anatomy: of `PhantomSettings`.
        volume_shape, affine: of the grid, without rotation.

    Returns:
        region (x, y, z) bool; brain (x, y, z) bool; velocity (3, x, y, z) in mm of the head, from women to men for one
        unit of sex_shape (their means differ by two).
    """
    zooms = float(affine[0, 0])
    if anatomy == "grown":
        factors = typical_factors(PhantomSettings(anatomy=anatomy))
        scale = average_scale(factors)
        points = grid_points(volume_shape, affine) / scale + np.reshape(CENTRE_MM, (3, 1, 1, 1))
        _, brain = average_brain(factors, points, zooms, scale)
    else:
        template = load_template(zooms)
        scale = (MEAN_BRAIN_VOLUME_ML / (template.mask.sum() / 1000)) ** (1 / 3)
        points = grid_points(volume_shape, affine) / scale + template.centre.reshape(3, 1, 1, 1)
        brain = sample(template, "mask", points) > 0.5
    return planted_region(points), brain, scale * sex_velocity_at(points)
