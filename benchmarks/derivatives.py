"""How good the masks of `mrigen prepare` are: python -m benchmarks.derivatives DATA [OUT].

The Dice coefficient of each brain mask, on the scan's own grid, with the label maps of somebody else's tool (label >
0), which neither the masks nor their flags have seen; and what becomes of scans that were spoiled, which the flags are
to tell. OUT is kept, and gone on with the next time; without it a temporary folder is used.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from scipy import ndimage

from benchmarks.report import markdown_table
from mrigen.data.cohort import index_cohort
from mrigen.derivatives import prepare
from mrigen.derivatives.masking import dice
from mrigen.imaging.volumes import Volume, read_volume, write_volume
from mrigen.recipe import DataRecipe

POOR = 0.9


def _noisy(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    white = np.percentile(volume.array, 99)
    noise = rng.normal(0, 0.15 * white, (2, *volume.array.shape))
    return Volume(np.hypot(volume.array + noise[0], noise[1]), volume.affine)


def _shaded(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    return Volume(volume.array * np.exp(np.linspace(-1.2, 1.2, volume.array.shape[2])), volume.affine)


def _blurred(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    return Volume(ndimage.gaussian_filter(volume.array, [3.0 / zoom for zoom in volume.zooms]), volume.affine)


def _cut(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    bright = (head.array > 0.2 * np.percentile(head.array, 99)).mean(axis=(0, 1))
    top = np.flatnonzero(bright > 0.02)[-1]
    return Volume(volume.array[:, :, : top - round(45 / volume.zooms[2])], volume.affine)


def _upside_down(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    return Volume(volume.array[:, :, ::-1], volume.affine)


def _on_its_side(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    return Volume(volume.array.transpose(2, 1, 0), np.diag([*volume.zooms[::-1], 1.0]))


def _half_lost(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    array = volume.array.copy()
    array[: array.shape[0] // 2 - 5] = 0
    return Volume(array, volume.affine)


def _negative(volume: Volume, rng: np.random.Generator, head: Volume) -> Volume:
    return Volume(np.percentile(volume.array, 99.9) - volume.array, volume.affine)


SPOILED: dict[str, Callable[[Volume, np.random.Generator, Volume], Volume]] = {
    "noise of 15 % of white": _noisy,
    "eleven times as bright above as below": _shaded,
    "smoothed (7 mm)": _blurred,
    "top cut off, 45 mm": _cut,
    "upside down": _upside_down,
    "axes exchanged": _on_its_side,
    "one half lost": _half_lost,
    "black for white": _negative,
}

# What changes where the voxels lie, so that the labels change with them.
MOVING = (_cut, _upside_down, _on_its_side, _half_lost)


@click.command()
@click.argument("data", type=click.Path(exists=True))
@click.argument("out", type=click.Path(), required=False)
@click.option("--labels", default="dlmuse", show_default=True, help="Folder under derivatives/ with the label maps.")
@click.option("--steps", default="none", show_default=True, help="As of mrigen prepare; the masks depend on none.")
@click.option("--spoiled", type=int, default=3, show_default=True, help="Heads that are spoiled in each way.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Scans at a time.")
def main(data: str, out: str | None, labels: str, steps: str, spoiled: int, jobs: int) -> None:
    """Measure the brain masks of DATA, and print the figures as Markdown."""
    truths = index_cohort(DataRecipe(root=data, mask=labels)).table.set_index("path")["mask_path"].to_dict()
    with tempfile.TemporaryDirectory() as folder:
        names = [step for step in steps.split(",") if step not in ("", "none")]
        made = prepare(data, out or Path(folder, "out"), steps=names, jobs=jobs)
        table = made.table[made.table["source"].isin(list(truths))].reset_index(drop=True)
        scores = np.array([_score(made.directory, row, truths[row.source]) for row in table.itertuples()])
        is_flagged = (table["verdict"] != "fine").to_numpy()
        click.echo("\n".join(made.findings + made.figures))
        low, middle = np.percentile(scores, (5, 50))
        click.echo(
            f"\n{len(scores)} masks against {labels}: Dice median {middle:.4f}, 5 % {low:.4f}, smallest "
            f"{scores.min():.4f} ({table['scan'][scores.argmin()]}); under {POOR}: {(scores < POOR).sum()}, of which "
            f"without a flag {((scores < POOR) & ~is_flagged).sum()}; flagged: {is_flagged.sum()}\n"
        )
        if spoiled:
            click.echo(_spoil(list(truths.items())[:: max(1, len(truths) // spoiled)][:spoiled], Path(folder), jobs))


def _score(directory: Path, row, truth: str) -> float:
    """Returns the Dice of the mask on the scan's own grid; 0 where there is none."""
    path = directory / row.participant_id / (row.session_id or "") / "anat" / f"{row.scan}_desc-brain_mask.nii.gz"
    return dice(read_volume(path).array > 0, read_volume(truth).array > 0) if path.is_file() else 0.0


def _spoil(people: list[tuple[str, str]], folder: Path, jobs: int) -> str:
    """Returns a table of what becomes of scans that were spoiled: how good their masks are, and are they told."""
    rows = []
    for number, (what, change) in enumerate(SPOILED.items()):
        root = folder / f"spoiled{number}"
        for index, (path, truth) in enumerate(people):
            person = f"sub-{index:02d}"
            for source, name, changed in (
                (path, "T1w", True),
                (truth, "dseg", change not in (_noisy, _shaded, _blurred, _negative)),
            ):
                volume = read_volume(source)
                volume = change(volume, np.random.default_rng(index), read_volume(path)) if changed else volume
                kind = np.uint8 if name == "dseg" else np.float32
                write_volume(
                    root / person / "anat" / f"{person}_{name}.nii.gz", volume.array.astype(kind), volume.affine
                )
        made = prepare(root, folder / f"made{number}", steps=("rigid",), jobs=jobs)
        scores = [
            _score(made.directory, row, str(root / row.participant_id / "anat" / f"{row.participant_id}_dseg.nii.gz"))
            for row in made.table.itertuples()
        ]
        told = made.table["verdict"] != "fine"
        poor = np.array(scores) < POOR
        rows.append(
            [
                what,
                len(scores),
                float(np.median(scores)),
                float(np.min(scores)),
                int(told.sum()),
                int((poor & ~told).sum()),
            ]
        )
        click.echo(str(rows[-1]), err=True)
    columns = ["scans spoiled", "number", "median Dice", "smallest", "flagged or refused", f"under {POOR} and not"]
    return markdown_table(columns, rows)


if __name__ == "__main__":
    main()
