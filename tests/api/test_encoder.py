"""The latents of a model as features for scikit-learn."""

import inspect
import pickle

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import mrigen
from mrigen import MrigenEncoder
from mrigen.errors import UsageError

TINY = {"epochs": 1, "zooms": 16, "volume_shape": 16, "latent_dim": 3}

# scikit-learn's own checks that need no data, or are of an estimator that is not fitted. The others fit and transform
# made-up arrays (numbers, lists of numbers, sparse matrices, NaN, one feature, two samples, weights), and ask for
# n_features_in_ and errors of arrays: here X is a list of images, which no such array is. What they are about is tested
# below with images: fit returns self, nothing given is changed, pickles, the names of features, data frames, and that
# the rows of X do not depend on each other.
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_output_transform",
    "check_set_params",
    "check_transformers_unfitted",
    "check_valid_tag_types",
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Paths of a synthetic cohort of small images, and the sex of each person."""
    root = tmp_path_factory.mktemp("bids") / "phantom"
    mrigen.write_phantom_cohort(root, mrigen.data.phantom.PhantomSettings(num_subjects=12, zooms=8.0))
    sex = pd.read_csv(root / "participants.tsv", sep="\t").set_index("participant_id")["sex"]
    paths = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))
    return [str(path) for path in paths], [sex[path.name.split("_")[0]] for path in paths]


@pytest.fixture(scope="module")
def fitted(cohort, tmp_path_factory):
    """A fitted encoder; treat it as read-only."""
    return MrigenEncoder("smoke", directory=tmp_path_factory.mktemp("encoder") / "run", **TINY).fit(cohort[0])


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("settings", [{}, {"epochs": 3}])
def test_checks_of_scikit_learn(name, settings):
    check = getattr(estimator_checks, name)
    if name == "check_no_attributes_set_in_init" and settings:
        pytest.skip("it knows no **settings")
    check("MrigenEncoder", MrigenEncoder(**settings))
    assert len(inspect.signature(check).parameters) == 2


def test_settings_are_parameters():
    encoder = MrigenEncoder("smoke", epochs=2, directory="x")
    assert encoder.get_params() == {"recipe": "smoke", "directory": "x", "force": False, "epochs": 2}
    assert clone(encoder.set_params(latent_dim=3)).get_params()["latent_dim"] == 3
    assert repr(encoder) == "MrigenEncoder(directory='x', epochs=2, latent_dim=3, recipe='smoke')"
    assert "fit" not in encoder.get_params() and not hasattr(encoder, "run_")


def test_an_encoder_that_was_not_fitted_says_so(cohort):
    with pytest.raises(NotFittedError):
        MrigenEncoder().transform(cohort[0])
    with pytest.raises(NotFittedError):
        MrigenEncoder().get_feature_names_out()


def test_what_is_no_list_of_images_is_refused():
    with pytest.raises(UsageError, match="got a str, expected a list of images"):
        MrigenEncoder("smoke").fit("/data/bids")


def test_fit_and_transform_turn_images_into_latents(fitted, cohort):
    paths, _ = cohort
    latents = fitted.transform(paths)
    assert latents.shape == (12, 3) and latents.dtype == np.float32 and fitted.n_features_out_ == 3
    np.testing.assert_allclose(latents, fitted.run_.latents, atol=1e-4)
    assert len(np.unique(latents[:, 0])) == 12
    # Rows do not depend on each other, nor on how an image comes.
    np.testing.assert_allclose(fitted.transform([nibabel.load(paths[3])]), latents[3:4], atol=1e-4)
    np.testing.assert_allclose(fitted.transform(pd.DataFrame({"path": paths[:2]})), latents[:2], atol=1e-4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(paths[:1]), latents[:1])


def test_latents_have_names_and_come_as_a_frame_when_asked(fitted, cohort):
    paths, _ = cohort
    assert list(fitted.get_feature_names_out()) == ["loc_001", "loc_002", "loc_003"]
    frame = pickle.loads(pickle.dumps(fitted)).set_output(transform="pandas").transform(paths[:2])
    assert isinstance(frame, pd.DataFrame) and list(frame) == ["loc_001", "loc_002", "loc_003"]


def test_an_encoder_is_a_step_of_a_pipeline_that_is_cross_validated(cohort, tmp_path, monkeypatch):
    paths, sex = cohort
    monkeypatch.chdir(tmp_path)
    pipeline = make_pipeline(MrigenEncoder("smoke", **TINY), StandardScaler(), LogisticRegression())
    scores = cross_val_score(pipeline, paths, sex, cv=2, error_score="raise")
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()
    runs = list((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    people = [set(mrigen.Run(run).subjects["path"]) for run in runs]
    assert people[0].isdisjoint(people[1]) and people[0] | people[1] == set(paths)


def test_settings_can_be_searched():
    pipeline = make_pipeline(MrigenEncoder("smoke", **TINY), LogisticRegression())
    for setting in ParameterGrid({"mrigenencoder__latent_dim": [2, 4], "mrigenencoder__beta": [0.5]}):
        encoder = clone(pipeline).set_params(**setting)[0]
        assert encoder.get_params() == {**MrigenEncoder("smoke", **TINY).get_params(), "beta": 0.5} | {
            "latent_dim": setting["mrigenencoder__latent_dim"]
        }
