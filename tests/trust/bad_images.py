"""Images that are refused; see tests/bad_files.py for what makes them."""

from pathlib import Path

from tests import bad_files
from tests.trust.registry import Case


def image(bad: bad_files.BadFile) -> Case:
    """Returns the case of a bad image that a model is to reconstruct."""
    call = f"mrigen reconstruct {bad.file} --run run -q"
    return Case(f"image: {bad.kind}", call, lambda folder: bad.build(Path(folder, bad.file)), run=True, tensorflow=True)


CASES = [image(bad) for bad in bad_files.IMAGES]
