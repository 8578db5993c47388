"""Brain masks by label propagation."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrigen.analysis.atlas import ATLAS, REGIONS, Carrier, make_atlas
from mrigen.analysis.segmentation import Segmenter, TemplateFit, segment
from mrigen.errors import CohortError, RunError, UsageError
from mrigen.imaging.volumes import read_volume
from mrigen.layers import warp
from mrigen.models import MorphingAutoencoder
from mrigen.runs import Run


@pytest.fixture
def own_run(morph_run, tmp_path):
    """A copy of the morphing run that a test may write into."""
    return Run(Path(shutil.copytree(morph_run.directory, tmp_path / "run")))


def test_a_mask_lies_on_the_grid_of_its_image_and_where_the_brain_is(own_run, tmp_path):
    person = own_run.subjects.merge(own_run.split, on="participant_id").query("split == 'heldout'").iloc[0]
    turned = nibabel.load(person["path"]).as_reoriented([[1, -1], [2, 1], [0, -1]])
    turned.set_sform(turned.affine, 4)
    turned.set_qform(None, 0)
    nibabel.save(turned, tmp_path / "turned_T1w.nii.gz")
    (path,) = segment(own_run, [tmp_path / "turned_T1w.nii.gz"]).write(tmp_path / "out")
    assert path == tmp_path / "out" / "turned_desc-brain_mask.nii.gz"
    mask = nibabel.load(path)
    assert mask.shape == turned.shape and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine, turned.affine, atol=1e-4)
    assert (mask.header["sform_code"], mask.header["qform_code"]) == (4, 0)
    images = segment(own_run, [nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine)])
    np.testing.assert_array_equal(images[0].get_fdata(), mask.get_fdata())
    assert images.names == ["image-001"] and images[0].get_data_dtype() == np.uint8
    assert len(images.plot().axes) == 6
    with pytest.raises(UsageError, match="got masks alone, expected regions"):
        images.regions(0)
    found, truth = read_volume(path).array > 0.5, read_volume(person["mask_path"]).array > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.8


def test_the_atlas_is_a_probability_and_is_made_once(own_run):
    Segmenter(own_run, fit_steps=0)
    path = own_run.directory / ATLAS
    atlas, stamp = read_volume(path).array, path.stat().st_mtime_ns
    assert 0.0 <= atlas.min() < 0.01 and 0.9 < atlas.max() <= 1.001
    Segmenter(own_run, fit_steps=0)
    assert path.stat().st_mtime_ns == stamp


def test_masks_move_into_the_template_against_the_displacement(morph_run):
    """A head whose displacement is 2 voxels along x is the template moved by -2: its mask moves by +2 to get there."""
    model = morph_run.load_model()
    model.to_fields.kernel.assign(np.zeros(model.to_fields.kernel.shape))
    atlases = []
    for shift in (0.0, 2.0):
        model.to_fields.bias.assign([shift * model.field_sides[0] / model.volume_shape[0], 0, 0, 0, 0])
        atlases.append(make_atlas(morph_run, model))
    still, moved = atlases
    assert still.std() > 0.1
    np.testing.assert_allclose(moved[2:], still[:-2], atol=1e-3)


def test_the_fit_brings_the_template_closer(morph_run):
    model = morph_run.load_model()
    volume = model.decode(np.full((1, 8), 3.0, "float32")).numpy()
    volume = np.roll(volume, 1, axis=1)
    errors = []
    for steps in (0, 30):
        fit = TemplateFit(model, steps)
        velocity = fit(volume)
        shading = model.fields(fit.z.value)[1]
        errors.append(float(np.square(model.render(velocity, shading)["reconstruction"] - volume).sum()))
        np.testing.assert_allclose(fit(volume), velocity, atol=1e-5)  # Nothing is left over from the head before.
    assert errors[1] < 0.9 * errors[0]


def test_the_fit_sees_modes_of_appearance():
    """Of a head that differs from the template by a mode alone, their amount is found."""
    shape = (9, 8, 7)
    model = MorphingAutoencoder(shape, latent_dim=2, channels=(2, 2), decoder_sigma=0.05, appearance_modes=1)
    model.build((None, *shape, 1))
    generator = np.random.default_rng(0)
    for image in (model.mean.image, model.mean.modes):
        image.assign(generator.uniform(size=image.shape))
    wanted = model.amounts(np.array([[1.0, -1.0]], "float32")).numpy().item()
    assert abs(wanted) > 0.1
    fit = TemplateFit(model, 200)
    fit(model.mean.image.numpy()[None] + wanted * model.mean.modes.numpy()[None])
    guess, found = (model.amounts(z).numpy().item() for z in (np.zeros((1, 2), "float32"), fit.z.value))
    assert abs(found - wanted) < 0.3 * abs(guess - wanted)


def test_faults_write_nothing(own_run, finished_run, tmp_path):
    image = own_run.subjects["path"].iloc[0]
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="got a run of kind vae, expected kind morph"):
        segment(finished_run, [image]).write(out)
    with pytest.raises(CohortError) as error:
        segment(own_run, [image, tmp_path / "none.nii", tmp_path / "neither.nii"]).write(out)
    assert len(error.value.faults) == 2
    with pytest.raises(UsageError, match="another image has the same name"):
        segment(own_run, [image, image]).write(out)
    assert not out.exists()


def test_masks_that_are_there_are_kept_unless_forced(own_run, tmp_path):
    image = own_run.subjects["path"].iloc[0]
    (path,) = segment(own_run, [image]).write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        segment(own_run, [image]).write(tmp_path)
    segment(own_run, [image]).write(tmp_path, force=True)
    assert path.read_bytes() == before


def halves(run, folder):
    """Writes label maps, 3 in the left half of each training person's mask and 7 in the right one."""
    for number, person in run.subjects.iterrows():
        mask = nibabel.load(person["mask_path"])
        inside = np.asanyarray(mask.dataobj) > 0
        middle = np.argwhere(inside)[:, 0].mean()
        labels = np.where(np.arange(inside.shape[0])[:, None, None] < middle, 3, 7) * inside
        path = folder / f"{person['scan_id']}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(labels.astype(np.int16), mask.affine), path)
        run.subjects.loc[number, "mask_path"] = str(path)


def test_a_part_of_a_grid_is_carried_as_the_whole_would_be():
    generator = np.random.default_rng(0)
    displacement = 2.0 * generator.normal(size=(1, 14, 16, 12, 3)).astype(np.float32)
    whole, found = np.zeros((2, 14, 16, 12), np.float32)
    whole[4:7, 0:3, 6:12] = generator.random((3, 3, 6))  # At two edges, beyond which the nearest voxel counts.
    box, seen = Carrier(displacement).see(whole[4:7, 0:3, 5:12], (4, 0, 5))
    found[box] = seen
    np.testing.assert_allclose(found, warp(whole[None, ..., None], displacement)[0, ..., 0], atol=1e-6)
    assert found.max() > 0.5


def test_regions_lie_in_the_brain_on_their_own_side(own_run, tmp_path):
    halves(own_run, tmp_path)
    person = own_run.subjects.merge(own_run.split, on="participant_id").query("split == 'heldout'").iloc[0]
    mask_path, regions_path = segment(own_run, [person["path"]], regions=True).write(tmp_path / "out")
    assert regions_path.name.endswith("_dseg.nii.gz")
    mask, regions, truth = (read_volume(path).array for path in (mask_path, regions_path, person["mask_path"]))
    assert set(np.unique(regions)) == {0, 3, 7}
    np.testing.assert_array_equal(regions > 0, mask > 0)
    for label in (3, 7):
        found, true = regions == label, truth == label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.75
    # Made once, kept to a byte, and not by running what a stranger put there.
    before = (own_run.directory / REGIONS).read_bytes()
    again = segment(own_run, [person["path"]], regions=True).write(tmp_path / "again")[1]
    assert (own_run.directory / REGIONS).read_bytes() == before
    np.testing.assert_array_equal(read_volume(again).array, regions)
    (own_run.directory / REGIONS).write_bytes(b"nonsense")
    with pytest.raises(RunError, match="cannot be read"):
        segment(own_run, [person["path"]], regions=True).write(tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_masks_of_one_label_have_no_regions(own_run, tmp_path):
    with pytest.raises(UsageError, match="got masks with one label"):
        segment(own_run, [own_run.subjects["path"].iloc[0]], regions=True).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_people_without_masks_make_no_atlas(own_run):
    own_run.subjects["mask_path"] = None
    with pytest.raises(UsageError, match=r"none of the training people has a mask.*data\.mask"):
        make_atlas(own_run, own_run.load_model())
