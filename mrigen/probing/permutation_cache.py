"""Figures of permutations that are kept, so that a test that broke off goes on."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from mrigen.probing.inputs import ProbeInputs
from mrigen.probing.intervals import json_float
from mrigen.system.files import read_json, write_json


@dataclasses.dataclass(frozen=True)
class PermutationCache:
    """Figures of permutations in a file of the run, so that a test that broke off goes on.

    Attributes:
        path: of the file.
        inputs: of the probe; what was found with others, or with another seed, is not taken.
        seed: of the probe.
        others: what else the figures depend on.
    """

    path: Path
    inputs: ProbeInputs
    seed: int
    others: tuple[np.ndarray, ...] = ()

    @property
    def key(self) -> str:
        """Digest of what the figures depend on."""
        digest = hashlib.blake2b(f"{self.seed} {self.inputs.target}".encode(), digest_size=16)
        for part in (self.inputs.latents, self.inputs.targets, self.inputs.groups, *self.others):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def read(self) -> list[float]:
        """Returns the figures that are there, the first first; NaN where a permutation gave none."""
        if not self.path.is_file():
            return []
        try:
            content = read_json(self.path)
        except ValueError:
            return []
        if content.get("key") != self.key:
            return []
        return [float("nan") if value is None else value for value in content["null"]]

    def write(self, null: list[float]) -> None:
        """Writes the figures so far."""
        write_json(self.path, {"key": self.key, "null": [json_float(value) for value in null]})
