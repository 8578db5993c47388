"""Maps of latents, and what they go with."""

import sys
import types

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mrigen.analysis.latent_maps import LatentMaps, correlate, first_images, map_latents, principal_map, umap_map
from mrigen.errors import UsageError
from mrigen.imaging.figures import plot_maps, save_figure
from mrigen.runs import Run


@pytest.fixture
def planted():
    """60 people whose 2nd latent falls with age, whose 3rd is larger in men, and whose 4th differs between sites."""
    generator = np.random.default_rng(0)
    people = pd.DataFrame(
        {
            "sex": generator.choice(["F", "M"], 60),
            "age": generator.uniform(20, 80, 60),
            "site": generator.choice(["A", "B", "C"], 60),
            "head_volume_ml": 1200.0,
        }
    )
    loc = generator.normal(size=(60, 6))
    loc[:, 1] -= 0.1 * people["age"]
    loc[:, 2] += 3.0 * (people["sex"] == "M")
    loc[:, 3] += people["site"].map({"A": 2.0, "B": -2.0, "C": 2.0})
    loc[:, 5] = 7.0
    return loc, people


def test_what_was_planted_is_found_and_nothing_else(planted):
    table = correlate(*planted).set_index(["covariate", "latent"])
    assert set(table.index.get_level_values(0)) == {"sex", "age", "site"}  # Everyone's head size is the same.
    found = set(table.index[table["q"] < 0.01])
    assert found == {("age", "loc_002"), ("sex", "loc_003"), ("site", "loc_004")}
    assert table.loc[("age", "loc_002"), "value"] < -0.7
    assert table.loc[("sex", "loc_003"), "value"] > 0.7
    assert table.loc[("site", "loc_004"), "value"] > 0.7
    assert table.xs("loc_006", level=1)[["value", "p", "q"]].isna().all(axis=None)  # The same for everyone.


def test_figures_are_those_of_scipy(planted):
    loc, people = planted
    people.loc[:4, "age"] = np.nan
    table = correlate(loc, people).set_index(["covariate", "latent"])
    known = people["age"].notna()
    expected = stats.pearsonr(people.loc[known, "age"], loc[known, 0])
    row = table.loc[("age", "loc_001")]
    assert (row["num_people"], row["statistic"]) == (55, "r")
    np.testing.assert_allclose([row["value"], row["p"]], [expected.statistic, expected.pvalue], rtol=1e-6)
    row = table.loc[("site", "loc_001")]
    analysis = stats.f_oneway(*(loc[people["site"] == site, 0] for site in "ABC"))
    share = 2 * analysis.statistic / (2 * analysis.statistic + 57)
    np.testing.assert_allclose([row["value"], row["p"]], [np.sqrt(share), analysis.pvalue], rtol=1e-6)
    tested = table[table["p"].notna()]
    np.testing.assert_allclose(tested["q"], stats.false_discovery_control(tested["p"]))
    assert (tested["q"] >= tested["p"]).all()


def test_noise_is_called_noise():
    generator = np.random.default_rng(1)
    people = pd.DataFrame({"age": generator.uniform(20, 80, 40), "sex": generator.choice(["F", "M"], 40)})
    table = correlate(generator.normal(size=(40, 200)), people)
    assert (table["p"] < 0.05).sum() > 5
    assert (table["q"] < 0.05).sum() == 0


def test_the_principal_map_keeps_distances_of_a_plane():
    generator = np.random.default_rng(0)
    plane = generator.normal(size=(30, 2)) * (3.0, 1.0)
    turn = np.linalg.qr(generator.normal(size=(5, 5)))[0][:2]
    points, shares = principal_map(plane @ turn + 4.0)
    distances = [np.linalg.norm(where[:, None] - where[None], axis=-1) for where in (plane, points)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    assert shares.sum() == pytest.approx(1.0) and shares[0] > shares[1]
    points, shares = principal_map(plane[:, :1])
    assert not points[:, 1].any() and shares.tolist() == pytest.approx([1.0, 0.0])


def test_maps_and_tables_of_a_run(finished_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    paths = map_latents(finished_run).write(tmp_path)
    assert [path.name for path in paths] == ["map_pca.png", "map.tsv", "correlations.tsv"]
    table = pd.read_csv(tmp_path / "correlations.tsv", sep="\t")
    assert len(table) == 5 * 8
    assert set(table["covariate"]) == {"sex", "age", "head_size", "site", "brain_volume"}
    row = table.query("covariate == 'brain_volume' and latent == 'loc_003'").iloc[0]
    loc, people = finished_run.load_latents()["loc"], finished_run.subjects
    assert row["value"] == pytest.approx(np.corrcoef(loc[:, 2], people["brain_volume_ml"])[0, 1], abs=1e-5)
    places = pd.read_csv(tmp_path / "map.tsv", sep="\t")
    assert list(places) == ["scan_id", "participant_id", "pc1", "pc2"]
    np.testing.assert_allclose(places["pc1"].var(ddof=0), np.linalg.eigvalsh(np.cov(loc.T, ddof=0))[-1], rtol=1e-4)
    assert (tmp_path / "map_pca.png").read_bytes().startswith(b"\x89PNG")
    maps = map_latents(finished_run)
    assert list(maps.points) == list(places) and len(maps.points) == len(places)
    pd.testing.assert_frame_equal(maps.correlations, table)
    assert len(maps.plot().axes) >= 4 and "loc_" in maps._repr_html_()
    with pytest.raises(UsageError, match="method: got umap, expected umap-learn to be there"):
        maps.plot("umap")
    with pytest.raises(UsageError, match="is there already"):
        map_latents(finished_run).write(tmp_path)
    map_latents(finished_run).write(tmp_path, force=True)


def test_umap_is_drawn_where_it_is_installed(finished_run, tmp_path, monkeypatch):
    class UMAP:
        def __init__(self, **options):
            assert options == {"n_neighbors": 15, "random_state": 3, "n_jobs": 1}

        def fit_transform(self, loc):
            return np.asarray(loc[:, :2], dtype=np.float32)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    paths = map_latents(finished_run, seed=3).write(tmp_path)
    assert tmp_path / "map_umap.png" in paths and (tmp_path / "map_umap.png").is_file()
    places = pd.read_csv(tmp_path / "map.tsv", sep="\t")
    np.testing.assert_allclose(places["umap2"], finished_run.load_latents()["loc"][:, 1], rtol=1e-5)
    monkeypatch.setitem(sys.modules, "umap", None)
    assert umap_map(np.zeros((5, 2))) is None


def test_of_several_images_of_a_person_the_first_counts(finished_run):
    run = Run(finished_run.directory)
    run.subjects["participant_id"] = [f"p{number // 2}" for number in range(len(run.subjects))]
    run.subjects["visit"] = [1 - number % 2 for number in range(len(run.subjects))]
    people, loc = first_images(run)
    assert len(people) == len(run.subjects) // 2 and set(people["visit"]) == {0}
    np.testing.assert_array_equal(loc, run.load_latents()["loc"][1::2])


def test_people_of_whom_nothing_is_known_lie_on_a_map_all_the_same(finished_run, tmp_path, monkeypatch):
    run = Run(finished_run.directory)
    for column in ("sex", "age", "site", "head_volume_ml", "brain_volume_ml"):
        run.subjects[column] = None
    paths = map_latents(run).write(tmp_path)
    assert pd.read_csv(paths[-1], sep="\t").empty
    few = {name: values[:3] for name, values in run.load_latents().items()}
    monkeypatch.setattr(Run, "load_latents", lambda *_: few)
    run.subjects.drop(index=range(3, len(run.subjects)), inplace=True)
    with pytest.raises(UsageError, match="got 3 people, expected 4 or more"):
        LatentMaps(run).write(tmp_path / "few")
    assert not (tmp_path / "few").exists()


def test_a_map_shows_many_groups_and_gaps(tmp_path):
    points = np.random.default_rng(0).normal(size=(60, 2))
    colourings = {
        "site": np.array([f"s{number % 30}" for number in range(59)] + [None], dtype=object),
        "age": np.array([np.nan, *range(59)]),
    }
    save_figure(plot_maps(points, colourings, ["a", "b"]), tmp_path / "map.png")
    first = (tmp_path / "map.png").read_bytes()
    save_figure(plot_maps(points, colourings, ["a", "b"]), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes() == first
