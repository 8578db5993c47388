"""Walks through the latent space."""

import nibabel
import numpy as np
import pytest

from mrigen.errors import UsageError
from mrigen.generation.traversals import traverse
from mrigen.runs.encoding import decode_latents


def test_a_walk_leads_through_the_mean_along_a_principal_component(finished_run, tmp_path):
    paths = traverse(finished_run, num_directions=2, num_steps=3, extent=1.5).write(tmp_path)
    assert [path.name for path in paths] == ["traversal_pc01.nii.gz", "traversal_pc02.nii.gz"]
    image = nibabel.load(paths[0])
    assert image.shape == (24, 28, 24, 3)
    np.testing.assert_allclose(image.affine, finished_run.affine)
    loc = finished_run.load_latents("train")["loc"]
    values, vectors = np.linalg.eigh(np.cov(loc.T))
    ends = loc.mean(axis=0) + 1.5 * np.sqrt(values[-1]) * np.array([[-1], [1]]) * vectors[:, -1]
    model, heads = finished_run.load_model(), np.moveaxis(image.get_fdata(), -1, 0)
    expected = np.clip(decode_latents(model, ends), 0, 1)
    straight, reverse = (np.abs(heads[[0, 2]] - order).max() for order in (expected, expected[::-1]))
    assert min(straight, reverse) < 1e-2  # A component has no sign.
    np.testing.assert_allclose(heads[1], np.clip(decode_latents(model, loc.mean(axis=0)[None]), 0, 1)[0], atol=1e-2)
    assert (tmp_path / "traversal_pc02.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_directions": 0}, "num_directions: got 0, expected an integer from 1 to 8"),
        ({"num_directions": 9}, "num_directions: got 9, expected an integer from 1 to 8"),
        ({"num_steps": 1}, "num_steps: got 1, expected an integer >= 2"),
        ({"extent": 0.0}, "extent: got 0, expected a number > 0"),
    ],
)
def test_numbers_out_of_range_are_refused(finished_run, options, message):
    with pytest.raises(UsageError, match=message):
        traverse(finished_run, **options)


def test_walks_that_are_there_are_kept_unless_forced(finished_run, tmp_path):
    traverse(finished_run, num_directions=1, num_steps=2).write(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        traverse(finished_run, num_directions=1, num_steps=2).write(tmp_path)
    traverse(finished_run, num_directions=1, num_steps=2).write(tmp_path, force=True)


def test_a_walk_in_memory_is_the_one_that_is_written(finished_run, tmp_path):
    walks = traverse(finished_run, num_directions=2, num_steps=3)
    written = [nibabel.load(path) for path in walks.write(tmp_path)]
    assert len(walks) == 2 and len(walks[0]) == 3
    np.testing.assert_array_equal(walks[1].image.get_fdata(), written[1].get_fdata())
    np.testing.assert_array_equal(walks[1][2].get_fdata(), written[1].get_fdata()[..., 2])
    assert walks[0].model is walks[1].model
    assert len(walks.plot().axes) == 3 * 6
    assert list(walks.to_frame()["name"]) == ["traversal_pc01", "traversal_pc02"]
