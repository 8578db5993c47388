"""What is fuzzed: for each target, values that hypothesis draws and what must hold of each.

Every value is written into a new folder and met by the command line in this process: it ends in success (or where
TensorFlow would be loaded) or in lines of ours, within the limits of `scene`,
and a refusal leaves the folder as it was.
"""

import contextlib
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from mrigen.errors import MrigenError
from tests.trust.bad_tables import people
from tests.trust.drawing import command_lines, images, recipes, settings_of, tables
from tests.trust.registry import write
from tests.trust.scene import call, check, inside, snapshot

# A finished run, and one of another kind, where there are any to open.
RUNS: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        values: what is drawn. meet: says by AssertionError what must not be.
        examples: that once went wrong.
    """

    values: st.SearchStrategy
    meet: Callable[[typing.Any], None]
    examples: tuple = ()


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """Yields a folder that is removed in the end, and works in it."""
    with tempfile.TemporaryDirectory() as folder, inside(Path(folder)):
        yield Path(folder)


def calls(folder: Path, *arguments: str) -> None:
    """Calls, and makes sure that it ended well or in lines of ours."""
    before = snapshot(folder)
    check(call(*arguments), folder, before)


def is_told(work: Callable[[], object]) -> None:
    """Makes sure that what the library does ends well or in lines of ours."""
    try:
        work()
    except MrigenError as error:
        assert error.faults and not any("\n" in fault for fault in error.faults), error.faults


def meet_recipe(content: bytes) -> None:
    """Shows a recipe."""
    with new_folder() as folder:
        write("my.yaml", content)(folder)
        calls(folder, "recipe", "show", "my.yaml")


def meet_settings(words: list[str]) -> None:
    """Shows a shipped recipe with changes."""
    options = [
        part for word in words if "\x00" not in word for part in ("--set", word.encode("utf-8", "replace").decode())
    ]
    with new_folder() as folder:
        calls(folder, "recipe", "show", "smoke", *options)


def meet_table(table: tuple[str, bytes]) -> None:
    """Reads a table as whatever it is named for."""
    place, content = table
    with new_folder() as folder:
        people()(folder)
        for person in ("sub-01", "sub-02"):
            write(f"people/{person}/ses-2/anat/{person}_ses-2_T1w.nii.gz", "x")(folder)
        write(place, content)(folder)
        options = ["data.source=files", "data.root=people", "data.visits=all"]
        name = Path(place).stem
        if name == "list":
            options[1] = f"data.root={place}"
        elif name == "split":
            options.append(f"data.split.file={place}")
        elif name == "exclude":
            options.append(f"data.exclude={place}")
        elif name == "normative":
            is_told(lambda: _judge(place))
            return
        elif name == "latents":
            from mrigen.runs.latents import read_latents

            is_told(lambda: read_latents(place))
            return
        calls(folder, "check", "smoke", *(part for option in options for part in ("--set", option)))
        if name == "split":
            from mrigen.data.cohort import index_cohort
            from mrigen.data.splits import split_subjects
            from mrigen.recipe import load_recipe

            def divide():
                data = load_recipe("smoke", options).data
                split_subjects(index_cohort(data).table, data.split)

            is_told(divide)


def _judge(place: str) -> None:
    from mrigen.evaluation.normative import NormativeTable

    table = NormativeTable(place)
    for region in table.regions:
        table.judge(region, [20.0, 30.0], ["F", "M"], [1.0, 2.0], [3.0, 4.0])


def meet_image(image: tuple[str, bytes]) -> None:
    """Reads an image as a fit does, and as a cohort's check does."""
    from mrigen.data.preparing import prepare_image
    from mrigen.recipe import PreprocessRecipe

    name, content = image
    with new_folder() as folder:
        write(name, content)(folder)
        found = prepare_image(name, None, PreprocessRecipe(zooms=16.0, volume_shape=[12, 12, 12]), False, measured=True)
        faults = (*found.faults, *found.mask_faults)
        assert (found.prepared is None) == bool(faults)
        for fault in faults:
            assert fault.startswith(name) and "\n" not in fault and "cannot be prepared (" not in fault, fault
        if found.prepared is not None:
            assert np.isfinite(found.prepared.array).all()


def meet_command_line(words: list[str]) -> None:
    """Calls, in a folder that holds a run, a table and a few people; no sweep begins to work."""
    from mrigen.sweeps import Sweep

    work = Sweep.work
    try:
        Sweep.work = lambda *_, **__: None
        with new_folder() as folder:
            people()(folder)
            if RUNS is not None:
                shutil.copytree(RUNS[0], folder / "run")
            calls(folder, *words)
    finally:
        Sweep.work = work


def meet_run(drawn: tuple[str, int]) -> None:
    """Damages a run by a seed, and opens it with a verb."""
    from tests.trust.tampering import try_verb

    if RUNS is not None:
        with new_folder() as folder:
            try_verb(*drawn, folder / "tampered", *RUNS)


LIGHT = ("runs", "compare", "compare-two")


TARGETS: dict[str, Target] = {
    "recipes": Target(
        recipes(),
        meet_recipe,
        (
            b'{"model": {"kind": []}}',
            b"data: !!omap [a]",
            b"data: {where: {a: \xff}}",
            b"\xf1\xa0\xa1\xaa: &a [1]\nb: &a [1]\n",
        ),
    ),
    "settings": Target(settings_of(), meet_settings, (["model.kind="], ["training.seed.more=3"], ["data.root=a #1"])),
    "tables": Target(
        tables(),
        meet_table,
        (
            ("normative.tsv", b"region\tage\tsex\tmean\tsd\nx\tF\tF\thigh\t1\n"),
            ("normative.csv", b"region,age,sex,mean,sd\nx,20,F,1,2\nx,20,F,1,2,3\n"),
        ),
    ),
    "images": Target(images(), meet_image),
    "command lines": Target(command_lines(), meet_command_line, (["latents", "\u202e", "--run", "run"],)),
    "run folders": Target(st.tuples(st.sampled_from(LIGHT), st.integers(0, 2**31)), meet_run),
}
