"""Images that are refused; see tests/bad_files.py for what makes them."""

from pathlib import Path

from tests import bad_files
from tests.trust.registry import Case


def image(bad: bad_files.BadFile) -> Case:
    """Returns the case of a bad image that a model is to reconstruct."""
    call = f"mrigen reconstruct {bad.file} --run run -q"
    what = f"image, {bad.kind}" + (", packed" if bad.file.endswith("gz") and "packed" not in bad.kind else "")
    return Case(what, call, lambda folder: bad.build(Path(folder, bad.file)), run=True, tensorflow=True)


# Each kind once.
CASES = list({case.what: case for case in map(image, bad_files.IMAGES)}.values())
