"""A model family of another package: found by its entry point, it trains, samples and is probed like mrigen's own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrigen.imaging.volumes import read_volume
from mrigen.runs import Run

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def mrigen_with_family(tmp_path_factory, cache_directory):
    """Returns a function that runs a `mrigen` beside which the package `linear_family` is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "linear_family").symlink_to(HERE / "linear_family")
    metadata = site / "linear_family-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-family\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mrigen.models]\nlinear = linear_family.family:FAMILY\n")
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    program = "from mrigen_cli.main import main; main()"

    def call(*arguments):
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True)

    return call


def test_a_family_of_another_package_trains_samples_and_is_probed(mrigen_with_family, tmp_path):
    run = tmp_path / "run"
    settings = ["model={kind: linear, latent_dim: 6, prior_width: 2.0}", "training.learning_rate=1e-2"]
    options = [part for setting in settings for part in ("--set", setting)]
    fitted = mrigen_with_family("fit", "smoke", *options, "--run", run)
    assert fitted.returncode == 0, fitted.stderr
    metrics = Run(run).metrics
    assert (metrics["latent_dim"], metrics["heldout"]["elbo_nats"] is not None) == (6, True)
    assert "kind: linear" in (run / "recipe.yaml").read_text()

    sampled = mrigen_with_family("sample", "-n", 2, "--run", run, "--density", "prior")
    assert sampled.returncode == 0, sampled.stderr
    heads = [read_volume(path).array for path in sampled.stdout.split()]
    assert len(heads) == 2 and np.abs(heads[0] - heads[1]).max() > 0.0

    probed = mrigen_with_family("probe", "--run", run)
    assert probed.returncode == 0, probed.stderr
    assert {"latents", "latents_draw"} <= {row["predictor"] for row in Run(run).probe_results["rows"]}

    listed = mrigen_with_family("compare", run, "--format", "csv")
    assert listed.returncode == 0, listed.stderr
    assert ",linear,elbo," in listed.stdout


def test_its_keys_are_checked_like_all_others(mrigen_with_family):
    said = mrigen_with_family("recipe", "show", "smoke", "--set", "model={kind: linear, prior_width: -1}")
    assert said.returncode == 2
    assert "model.prior_width: got -1, expected a number > 0. Standard deviation of the prior." in said.stderr
    said = mrigen_with_family("recipe", "show", "smoke", "--set", "model.kind=linaer")
    assert "expected one of autoencoder, vae, morph, linear. Did you mean 'linear'?" in said.stderr
