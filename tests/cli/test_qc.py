"""`mrigen qc`, as it is typed."""

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from mrigen_cli.main import mrigen

from mrigen.data.phantom import PhantomSettings, write_phantom_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Five people, one of them upside down."""
    folder = write_phantom_cohort(tmp_path_factory.mktemp("cohort") / "bids", PhantomSettings(num_subjects=5))
    path = next(folder.glob("sub-*/anat/*_T1w.nii.gz"))
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[:, :, ::-1], image.affine), path)
    return folder


@pytest.fixture(autouse=True)
def said_aloud(monkeypatch):
    """A quiet command silences the process."""
    monkeypatch.setenv("MRIGEN_QUIET", "")
    monkeypatch.delenv("MRIGEN_QUIET")


def type_in(*arguments):
    return CliRunner().invoke(mrigen, ["qc", *map(str, arguments)])


def test_a_folder_is_looked_at_and_the_files_are_named(cohort, tmp_path):
    done = type_in(cohort, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "5 images: 1 wrong, 0 to be looked at, 4 fine"
    assert "upside down" in done.stdout and "exclude.txt" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"qc.tsv", "qc.html", "qc.png", "exclude.txt"}


def test_nothing_is_replaced_unless_forced_and_this_is_said_before_the_work(cohort, tmp_path):
    (tmp_path / "qc.html").write_text("mine")
    done = CliRunner().invoke(mrigen, ["qc", "/nowhere/at/all.tsv", "-o", str(tmp_path)])
    assert "is there already" in str(done.exception)
    assert type_in(cohort, "-o", tmp_path, "--force").exit_code == 0
    assert "<html" in (tmp_path / "qc.html").read_text()


def test_a_recipe_with_a_cohort_is_looked_at(cohort, tmp_path):
    done = type_in("smoke", "--set", "data.source=files", "--set", f"data.root={cohort}", "-o", tmp_path, "-q")
    assert done.exit_code == 0 and done.stderr == "", done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/data", "--run", "runs/a"], "got SOURCE and --run"),
        (["--set", "data.root=/data"], "give SOURCE"),
    ],
)
def test_what_does_not_go_together_is_bad_usage(arguments, message):
    done = type_in(*arguments)
    assert done.exit_code == 2 and message in done.output
