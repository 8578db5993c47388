"""What the library says of parameters, the command line says of flags."""

import pytest
from mrigen_cli.main import mrigen
from mrigen_cli.words import translate, translate_fault

from mrigen.errors import Fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Name another place with `directory`, or set `force=True`.", "Name another place with --out, or set --force."),
        ("Draw with `density='gmm'`.", "Draw with --density gmm."),
        ("Go on with `mrigen.resume('runs/x')`.", "Go on with mrigen fit --resume runs/x."),
        ("Try `mrigen.sample(density='prior')`.", "Try mrigen sample --density prior."),
        ("Name another with `run`.", "Name another with --run."),
        ("Set `no_such_thing` of {id}.", "Set no_such_thing of {id}."),
    ],
)
def test_parameters_become_flags(text, said):
    assert translate(text, mrigen.get_command(None, "sample")) == said


def test_recipe_keys_become_settings_where_the_command_has_them():
    text = "Name a folder: `data.root=/data/x`."
    assert translate(text, mrigen.get_command(None, "fit")) == "Name a folder: --set data.root=/data/x."
    assert translate(text, mrigen.get_command(None, "runs")) == "Name a folder: data.root=/data/x."


def test_fault_begins_with_the_flag():
    fault = Fault("got 0, expected an integer >= 1.", "num_samples")
    assert str(fault) == "num_samples: got 0, expected an integer >= 1."
    assert translate_fault(fault, mrigen.get_command(None, "sample")) == "--num: got 0, expected an integer >= 1."
    assert translate_fault(Fault("x.nii: gone.", None), None) == "x.nii: gone."
