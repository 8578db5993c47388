"""One scan, from its file to the files that are made of it."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mrigen.data.checking import DOUBTS, mask_faults
from mrigen.data.heads import find_head
from mrigen.data.memo import file_digest
from mrigen.data.preparing import read_checked
from mrigen.derivatives import itk
from mrigen.derivatives.defacing import LEAST_FACE, deface
from mrigen.derivatives.masking import (
    TEMPLATE_BRAIN,
    BrainMask,
    brain_volume,
    dice,
    find_brain,
    flag_mask,
)
from mrigen.derivatives.naming import SPACES, Scan
from mrigen.derivatives.outlines import outline_strip, write_picture
from mrigen.derivatives.settings import Settings
from mrigen.errors import CohortError, MrigenError
from mrigen.imaging.headers import ALIGNED, UNORIENTED, Space
from mrigen.imaging.volumes import (
    Grid,
    Volume,
    apply_affine,
    from_canonical,
    read_grid,
    read_volume,
    write_volume,
)
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import atomic_path, read_json, write_json

# What aligned images show, mm in the template's world: a head with its nose and ears, from the chin up.
FIELD_OF_VIEW = ((-104.0, 104.0), (-144.0, 120.0), (-132.0, 100.0))
# Steps of intensity from black to white that are kept: what is finer is noise that no compression takes.
INTENSITY_STEPS = 4096
MNI = Space(sform_code=4, qform_code=0)

# Measure -> what it is, in the order of tables.
MEASURES = {
    "brain_ml": "volume of the brain mask, ml",
    "mask_agreement": "agreement (Dice) of the masks of the image and its mirror image",
    "mask_parts": "part of the mask that lay apart and was dropped",
    "mask_holes": "part of the mask that was a hole and was filled",
    "mask_sides": "part of the mask on the sides of the image",
    "template_overlap": "agreement (Dice) of the mask and the template's, after an affine alignment",
    "log_determinant": "natural logarithm of by what the alignment that was applied enlarges; 0 where it is rigid",
    "log_determinant_to_template": "the same of the affine alignment, applied or not: how small the brain is",
    "rotation_degrees": "by what the alignment turns the head",
    "shift_mm": "how far it moves the middle of the brain",
    "bias_range": "brightest over darkest of the bias field in the brain (99th and 1st percentile)",
    "removed_ml": "volume of the head that was cut off with the face",
    "seconds": "time that it took",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a scan.

    Attributes:
        scan: which.
        record: what was written of it (see `make_scan`); None if it failed.
        is_new: whether it was made now, or was there already.
        faults: why it failed, one line each.
    """

    scan: Scan
    record: dict[str, Any] | None
    is_new: bool = True
    faults: tuple[str, ...] = ()


def prepare_scan(scan: Scan, settings: Settings, directory: Path, force: bool, tools: dict[str, str]) -> Outcome:
    """Returns what became of a scan; whatever goes wrong is a fault of it, and stops no other.

    Args:
        scan: which. settings: what is done to it.
        directory: folder of all.
        force: whether it is made anew in any case.
        tools: version of each.
    """
    try:
        if not os.path.isfile(scan.path):
            what = "a link to nothing" if os.path.islink(scan.path) else "no file"
            raise CohortError(f"{scan.path}: got {what}, expected an image. Fetch or restore it.")
        source = file_digest(scan.path)
        if force:
            remove_scan(scan, settings, directory)
        known = read_whole(scan, settings, directory)
        if known is not None and known["source_digest"] == source:
            return Outcome(scan, known, is_new=False)
        return Outcome(scan, make_scan(scan, settings, directory, source, tools))
    except MrigenError as error:
        return Outcome(scan, None, faults=tuple(_named(scan, fault) for fault in error.faults))
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        return Outcome(scan, None, faults=(f"{error.filename or scan.path}: {reason}.",))
    except Exception as error:  # One of a thousand: whatever it is about it, the others are made.
        reason = " ".join(str(error).split())[:200] or "no reason given"
        fault = f"{scan.path}: cannot be prepared ({type(error).__name__}: {reason}). Look at the image."
        return Outcome(scan, None, faults=(fault,))


def _named(scan: Scan, fault: str) -> str:
    names = (path for path in (scan.path, scan.mask_path) if path is not None)
    return fault if any(fault.startswith(name) for name in names) else f"{scan.path}: {fault}"


def space_of(settings: Settings) -> str | None:
    """Returns the space of the images that are written; None where they stay on the scan's own grid."""
    return SPACES.get(settings.alignment or "")


def record_path(scan: Scan, suffix: str, space: str | None) -> str:
    """Returns where the record of a scan is, below the folder of all: the JSON beside its image, written last."""
    return scan.name(f"desc-preproc_{suffix}.json", space)


def read_whole(scan: Scan, settings: Settings, directory: Path) -> dict[str, Any] | None:
    """Returns the record of a scan that was made with `settings`, if each of its files is there as it was written."""
    try:
        record = read_json(directory / record_path(scan, settings.suffix, space_of(settings)))["mrigen"]
        is_whole = record["settings"] == settings.to_dict() and all(
            file_digest(directory / name) == digest for name, digest in record["files"].items()
        )
        return record if is_whole and set(record) >= {"measures", "flags", "image", "mask", "source_digest"} else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def make_scan(
    scan: Scan, settings: Settings, directory: Path, source_digest: str, tools: dict[str, str]
) -> dict[str, Any]:
    """Makes the files of a scan, and returns the record, which is written last: source, settings, tools, measures,
    flags, and the digest of each file.

    Raises:
        CohortError: the image or its mask cannot be used.
    """
    began = time.monotonic()
    volume, grid, given = _read(scan, settings)
    head = find_head(volume, PreprocessRecipe())
    brain = find_brain(volume, head, given)
    if not brain.array.any():
        raise CohortError(
            f"{scan.path}: got an image in which deepbet sees no brain, expected a T1-weighted head. Look at the image "
            "and at its orientation."
        )
    measures = {"brain_ml": brain_volume(volume, brain.array), **brain.measures}
    flags = [DOUBTS[doubt] for doubt in volume.doubts if doubt in UNORIENTED]
    if settings.has_bias:
        with itk.one_thread():
            field = itk.bias_field(volume, head.mask | brain.array, head.black)
        low, high = np.percentile(field[brain.array], (1, 99))
        measures["bias_range"] = float(high / low)
        volume = dataclasses.replace(volume, array=head.black + (volume.array - head.black) / field)
    final, mask, to_space = volume, brain.array, np.eye(4)
    if settings.alignment is not None:
        with itk.one_thread():
            full = _to_template(volume, brain, measures)
        to_space = full
        if settings.alignment == "rigid":
            centre = apply_affine(volume.affine, np.argwhere(brain.array).mean(axis=0))
            to_space = itk.rigid_of(full, centre)
            measures["shift_mm"] = float(np.linalg.norm(apply_affine(to_space, centre) - centre))
            cosine = (np.trace(to_space[:3, :3]) - 1.0) / 2.0
            measures["rotation_degrees"] = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
        measures["log_determinant"] = _log_determinant(to_space)
        with itk.one_thread():
            final, mask = _aligned(volume, brain, to_space, settings, head.black)
    flags += flag_mask(measures, brain.source)
    if settings.has_deface:
        before = final.array
        final = dataclasses.replace(final, array=deface(before, mask, final.affine, head.black))
        white = float(np.percentile(before[mask], 50)) - head.black
        removed = (final.array != before) & (before - head.black > 0.2 * white)
        measures["removed_ml"] = brain_volume(final, removed)
        if measures["removed_ml"] < LEAST_FACE and brain.source != "stripped":
            flags.append(f"Only {measures['removed_ml']:.0f} ml were cut off: look whether a face is left.")
    measures["seconds"] = time.monotonic() - began
    return _write(scan, settings, directory, _Made(final, mask, brain, grid, to_space), {
        "source": scan.path,
        "source_digest": source_digest,
        "settings": settings.to_dict(),
        "tools": tools,
        "mask_source": brain.source,
        "measures": {name: round(measures[name], 6) for name in MEASURES if name in measures},
        "flags": flags,
    })  # fmt: skip


def _read(scan: Scan, settings: Settings) -> tuple[Volume, Grid, np.ndarray | None]:
    """Returns the image, where it lies as it is stored, and its mask where one is given."""
    volume, faults = read_checked(scan.path, PreprocessRecipe(), scan.path)
    if volume is None or faults:
        raise CohortError(faults)
    if scan.mask_path is None:
        if settings.mask is not None:
            raise CohortError(f"{scan.path}: got no mask of '{settings.mask}', expected one. Make it.")
        return volume, read_grid(scan.path), None
    mask = read_volume(scan.mask_path)
    faults = mask_faults(scan.mask_path, mask, volume)
    if faults:
        raise CohortError(faults)
    return volume, read_grid(scan.path), mask.array > 0


def _to_template(volume: Volume, brain: BrainMask, measures: dict[str, float]) -> np.ndarray:
    """Returns the affine map (4, 4) of a head's world to the template's, and notes how well it fits."""
    full = itk.align_affine(np.where(brain.array, volume.array - volume.array.min(), 0.0), volume.affine)
    template = itk.template()
    share = dataclasses.replace(volume, array=brain.array.astype(np.float32))
    laid = itk.resample(share, full, template.array.shape, template.affine, 0.0, cubic=False) > 0.5
    measures["template_overlap"] = dice(laid, template.array > TEMPLATE_BRAIN)
    measures["log_determinant_to_template"] = _log_determinant(full)
    return full


def _log_determinant(matrix: np.ndarray) -> float:
    return round(float(np.linalg.slogdet(matrix[:3, :3])[1]), 9) + 0.0  # A rotation has 0, not -1e-17.


def _aligned(
    volume: Volume, brain: BrainMask, to_space: np.ndarray, settings: Settings, black: float
) -> tuple[Volume, np.ndarray]:
    """Returns an image and its brain on the grid of all aligned images of its voxel size."""
    zoom = settings.zooms or round(float(np.prod(volume.zooms)) ** (1 / 3), 1)
    shape = [round((high - low) / zoom) for low, high in FIELD_OF_VIEW]
    affine = np.diag([zoom, zoom, zoom, 1.0])
    affine[:3, 3] = [
        low + (high - low - zoom * (side - 1)) / 2 for (low, high), side in zip(FIELD_OF_VIEW, shape, strict=True)
    ]
    array = itk.resample(volume, to_space, shape, affine, black, cubic=True)
    share = itk.resample(dataclasses.replace(volume, array=brain.share), to_space, shape, affine, 0.0, cubic=False)
    return Volume(array, affine), share > 0.5


@dataclasses.dataclass(frozen=True)
class _Made:
    """What is to be written: the image and its brain on their grid, the brain on the scan's own, and between them."""

    final: Volume
    mask: np.ndarray
    brain: BrainMask
    grid: Grid
    to_space: np.ndarray


def _write(scan: Scan, settings: Settings, directory: Path, made: _Made, record: dict[str, Any]) -> dict[str, Any]:
    space = space_of(settings)
    names = file_names(scan, settings.suffix, space)
    remove_scan(scan, settings, directory)
    about = {"Sources": [f"bids:raw:{scan.origin}"], **_describe_space(settings)}
    array, inside = _stepped(made.final.array), made.mask.astype(np.uint8)
    affine, where = made.final.affine, MNI if settings.alignment == "affine" else ALIGNED
    own = from_canonical(made.brain.array, made.grid.affine).astype(np.uint8)
    if space is None:
        affine, where = made.grid.affine, made.grid.space
        array, inside = from_canonical(array, affine), own
    else:
        write_volume(directory / names["native_mask"], own, made.grid.affine, made.grid.space)
        _write_transform(directory / names["transform"], made.to_space)
        write_json(directory / names["transform_sidecar"], {
            "Description": "From the scan's world to that of the aligned image; Matrix: in mm, RAS+. The text file is "
            "as ITK and ANTs apply it to images.",
            "Matrix": made.to_space.tolist(),
            "LogDeterminant": record["measures"]["log_determinant"],
            "LogDeterminantToTemplate": record["measures"]["log_determinant_to_template"],
        })  # fmt: skip
    write_volume(directory / names["image"], array, affine, where)
    write_volume(directory / names["mask"], inside, affine, where)
    write_json(directory / names["mask_sidecar"], {"Type": "Brain", **about})
    write_picture(directory / names["picture"], outline_strip(made.final.array, made.mask, made.final.zooms))
    record = record | {key: names[key] for key in ("image", "mask", "picture")}
    record["files"] = {name: file_digest(directory / name) for name in names.values()}
    write_json(
        directory / record_path(scan, settings.suffix, space),
        {"SkullStripped": record["mask_source"] == "stripped", **about, "mrigen": record},
    )
    return record


def _describe_space(settings: Settings) -> dict[str, str]:
    if settings.alignment == "rigid":
        return {"SpatialReference": "The axes and the origin of MNI152NLin2009aSym; sizes are the person's own."}
    return {"SpatialReference": "MNI152NLin2009aSym" if settings.alignment else "orig"}


def _stepped(array: np.ndarray) -> np.ndarray:
    """Returns an image, float32, whose intensities are whole numbers of a step that is a power of two."""
    low, high = np.percentile(array, (0.1, 99.9))
    step = 2.0 ** np.floor(np.log2(max(float(high - low), 1e-30) / INTENSITY_STEPS))
    return (np.round(array / step) * step).astype(np.float32)


def _write_transform(path: Path, to_space: np.ndarray) -> None:
    import SimpleITK as sitk

    with atomic_path(path) as temporary:
        sitk.WriteTransform(itk.itk_transform(to_space), str(temporary))


def remove_scan(scan: Scan, settings: Settings, directory: Path) -> None:
    """Removes the files of a scan, whatever the settings were that made them: two images would count as two runs."""
    for space in (None, *SPACES.values()):
        # The record first: without it nothing counts as made.
        (directory / record_path(scan, settings.suffix, space)).unlink(missing_ok=True)
        for name in file_names(scan, settings.suffix, space).values():
            (directory / name).unlink(missing_ok=True)


def file_names(scan: Scan, suffix: str, space: str | None) -> dict[str, str]:
    """Returns what a scan's files are called, below the folder of all: those of `space`, or without alignment."""
    mask = scan.name("desc-brain_mask.nii.gz", space)
    names = {
        "image": scan.name(f"desc-preproc_{suffix}.nii.gz", space),
        "mask": mask,
        "mask_sidecar": mask.replace(".nii.gz", ".json"),
        "picture": scan.picture,
    }
    if space is not None:
        transform = scan.name(f"from-{suffix}_to-{space}_mode-image_xfm.txt")
        names["native_mask"] = scan.name("desc-brain_mask.nii.gz")
        names["transform"], names["transform_sidecar"] = transform, transform.replace(".txt", ".json")
    return names
