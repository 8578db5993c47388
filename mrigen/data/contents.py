"""What is known of a cohort's files without opening them: digests, faults, and so the name of their cache. No
TensorFlow."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd

from mrigen.data.memo import Checked, FileMemo
from mrigen.recipe import PreprocessRecipe
from mrigen.system.files import existing_parent, read_json

CACHE_FORMAT = 1
# How much more than its volumes a cache takes.
SPARE = 1.05


class Contents:
    """What the memo of a folder of caches remembers of a cohort's images and masks.

    Args:
        table: of the cohort.
        settings: what an image becomes.
        apply_mask: whether voxels outside the mask become 0.
        directory: folder of all caches.

    Attributes:
        known: path -> what was found; of unchanged files alone.
        unfit: scan_id -> what makes its files unfit, as far as that is known.
    """

    def __init__(self, table: pd.DataFrame, settings: PreprocessRecipe, apply_mask: bool, directory: Path):
        self.table = table
        self.settings = settings
        self.apply_mask = apply_mask
        self.directory = directory
        self.memo = FileMemo(directory / "checks.sqlite")
        self.known = self._remembered()
        self.unfit = self._known_faults()

    @property
    def fit(self) -> pd.DataFrame:
        """The rows of the table that are not known to be unfit."""
        return self.table[~self.table["scan_id"].isin(self.unfit)].reset_index(drop=True)

    def _remembered(self) -> dict[str, Checked]:
        """Returns path -> what is known of the unchanged files."""
        known = self.memo.get_many([*self.table["path"], *self.table["mask_path"].dropna()])
        for path in self.table["path"]:
            # Nothing is known of what it is where voxels that are not a number are taken otherwise.
            if path in known and known[path].facts.get("nan") != self.settings.nan_as_background:
                del known[path]
        return known

    def _known_faults(self) -> dict[str, list[str]]:
        """Returns scan_id -> what is remembered of unfit files."""
        unfit = {}
        for row in self.table.itertuples():
            image, mask = self.known.get(row.path), self.known.get(row.mask_path)
            faults = [] if image is None else list(image.faults)
            # A mask may fit one image and not another, so its faults are remembered with the image's digest.
            if image is not None and mask is not None and mask.facts.get("image") == image.digest:
                faults += mask.faults
            if faults:
                unfit[row.scan_id] = faults
        return unfit

    def key(self) -> str | None:
        """Returns the digest of the contents of the fit images and of the settings, or None while a file's content is
        not known, or if none is fit."""
        fit, settings = self.fit, self.settings.model_dump(mode="json")
        version = settings.pop("version")
        if not settings["nan_as_background"]:
            del settings["nan_as_background"]  # As it was before there was such a key.
        if fit.empty or any(path not in self.known for path in [*fit["path"], *fit["mask_path"].dropna()]):
            return None
        content = {
            "format": [CACHE_FORMAT, version],
            "settings": settings,
            "apply_mask": self.apply_mask,
            "images": [
                [row.scan_id, self.known[row.path].digest, self.known[row.mask_path].digest if row.mask_path else None]
                for row in fit.itertuples()
            ],
        }
        return "volumes-" + hashlib.blake2b(json.dumps(content).encode(), digest_size=10).hexdigest()


def is_cache(directory: Path) -> bool:
    """Whether a folder holds a cache whose description can be read."""
    try:
        manifest = read_json(directory / "manifest.json")
    except (OSError, ValueError):
        return False
    return {"volume_shape", "shards"} <= set(manifest) and (directory / "facts.tsv").is_file()


def space_faults(directory: Path, num_bytes: int) -> list[str]:
    """Returns why a cache of so many bytes cannot be made in a folder, which need not be there; nothing if it can."""
    parent = existing_parent(directory)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return [
            f"{directory}: cannot be written ({parent} is {'not yours to write' if parent.is_dir() else 'a file'}), "
            "expected a folder for the cache. Set MRIGEN_CACHE to another."
        ]
    free, needed = shutil.disk_usage(parent).free, SPARE * num_bytes
    if free >= needed:
        return []
    return [
        f"{directory}: got {free / 1e6:,.0f} MB of free space, expected at least {needed / 1e6:,.0f} MB for the cache. "
        "Free some, or set MRIGEN_CACHE to another disk."
    ]
