"""Known bad heads are told from known good ones by the figures that are for it."""

import numpy as np
import pytest
from scipy import ndimage
from synthetic_heads import make_material

from mrigen.evaluation import detail
from mrigen.evaluation.bootstrap import compared_interval, mean_interval, share_interval
from mrigen.evaluation.contenders import blurred, mean_volumes, quantised
from mrigen.evaluation.detail import FIGURES, MEASURES, judge, measure
from mrigen.evaluation.heads import FLOOR, MEAN, SAMPLES, Heads
from mrigen.evaluation.spectra import WAVELENGTHS, bands_of, depth_in, find_spectrum
from mrigen.evaluation.tissue import find_boundary, find_tissues

SIDES = (8.0, 8.0, 8.0)


def ball(shape=(48, 56, 44), zooms=(4.0, 4.0, 5.0), radius=70.0):
    """A ball of `radius` mm in the middle of a grid, bool, and the places of its voxels, mm."""
    places = [(np.arange(side) - (side - 1) / 2) * zoom for side, zoom in zip(shape, zooms, strict=True)]
    x, y, z = np.meshgrid(*places, indexing="ij")
    return x**2 + y**2 + z**2 <= radius**2, (x, y, z)


def rows_of(result):
    return {(row.figure, row.of): row for row in result.rows}


@pytest.fixture(scope="module")
def good(unheard):
    material = make_material(unheard)
    return material, rows_of(judge(material))


def with_samples(material, volumes, brains=None):
    """The same material with other samples, and the mean head alone beside them."""
    heads = Heads(volumes, material.samples.people, material.samples.brains if brains is None else brains)
    contenders = {SAMPLES: heads, MEAN: material.contenders[MEAN]}
    return type(material)(material.unseen, material.taught, contenders, material.zooms, material.affine)


def test_bands_are_those_that_the_grid_holds():
    assert bands_of((4.0, 4.0, 4.0)) == ((64, 32), (32, 16), (16, 8))
    assert bands_of((2.0, 2.0, 2.0))[-1] == (5, 4)
    assert bands_of((1.0, 1.0, 2.0))[-1] == (5, 4)
    assert bands_of((1.0, 1.0, 1.0))[-1] == (3, 2)
    assert bands_of((40.0, 40.0, 40.0)) == ()


def test_power_of_a_wave_is_in_its_band():
    brain, (x, y, z) = ball()
    depth = depth_in(brain, (4.0, 4.0, 5.0))
    edges = [64, 32, 16, 10]
    for wavelength, place in ((45.0, z), (22.0, x), (12.0, (x + y) / np.sqrt(2.0))):
        wave = 0.5 * (1.0 + 0.2 * np.cos(2.0 * np.pi * place / wavelength))
        powers = find_spectrum(wave, depth, (4.0, 4.0, 5.0)).between(edges)
        band = int(np.digitize(-wavelength, -np.array(edges))) - 1
        assert powers.argmax() == band
        assert powers[band] > 10.0 * np.delete(powers, band).max()


def test_power_of_white_noise_is_its_variance_times_a_voxel_at_any_brightness():
    brain, _ = ball()
    zooms = (4.0, 4.0, 5.0)
    depth, noise = depth_in(brain, zooms), np.random.default_rng(0).standard_normal(brain.shape)
    powers = find_spectrum(0.5 * (1.0 + 0.1 * noise), depth, zooms).between([32, 16, 10])
    assert powers == pytest.approx([0.01 * 80.0] * 2, rel=0.1)
    assert find_spectrum(0.2 * (1.0 + 0.1 * noise), depth, zooms).between([32, 16, 10]) == pytest.approx(powers)


def test_skull_and_edge_of_the_brain_carry_no_power():
    brain, (x, y, z) = ball()
    zooms, radius = (4.0, 4.0, 5.0), np.sqrt(x**2 + y**2 + z**2)
    waves = 0.5 + 0.02 * np.cos(2.0 * np.pi * x / 24.0)
    stripped, bright = np.where(brain, waves, 0.0), np.where(brain, waves, np.where(radius < 80.0, 1.0, 0.0))
    rim = np.where(brain & (radius > 66.0), 1.0, bright)
    powers = [find_spectrum(volume, depth_in(brain, zooms), zooms).between([64, 32, 16, 10]) for volume in
              (waves, stripped, bright, rim)]  # fmt: skip
    for other in powers[1:]:
        assert other == pytest.approx(powers[0], rel=2e-3)


def test_power_falls_by_the_square_of_the_blur():
    brain, _ = ball((56, 56, 56), (4.0,) * 3, 90.0)
    zooms, sigma = (4.0,) * 3, 4.0 / 2.3548
    noise = 0.5 + 0.05 * np.random.default_rng(0).standard_normal(brain.shape)
    smooth = np.fft.ifftn(ndimage.fourier_gaussian(np.fft.fftn(noise), sigma / 4.0)).real
    edges, depth = [20.0, 16.0], depth_in(brain, zooms)
    ratio = find_spectrum(smooth, depth, zooms).between(edges) / find_spectrum(noise, depth, zooms).between(edges)
    expected = [np.exp(-np.square(2.0 * np.pi * sigma / wavelength)) for wavelength in (16.0, 20.0)]
    assert expected[0] < ratio[0] < expected[1]


def test_dark_ventricles_are_no_edge_of_the_brain():
    brain, (x, y, z) = ball()
    hollow = brain & (x**2 + y**2 + z**2 > 15.0**2)
    specks = hollow.copy()
    specks[0, 0, 0] = True
    assert np.array_equal(depth_in(specks, (4.0, 4.0, 5.0)), depth_in(brain, (4.0, 4.0, 5.0)))
    assert depth_in(brain, (4.0, 4.0, 5.0)).max() == pytest.approx(70.0, abs=4.0)


def test_tissues_are_those_of_a_mixture():
    brain, _ = ball()
    generator, depth = np.random.default_rng(0), depth_in(brain, (4.0, 4.0, 5.0))
    kinds = generator.choice(3, size=brain.shape, p=[0.1, 0.5, 0.4])
    volume = np.array([0.2, 0.5, 0.8])[kinds] + np.array([0.05, 0.05, 0.03])[kinds] * generator.normal(size=brain.shape)
    found = find_tissues(volume, depth)
    assert found.means == pytest.approx([0.2, 0.5, 0.8], abs=0.01)
    assert found.shares == pytest.approx([0.1, 0.5, 0.4], abs=0.02)
    assert found.separation == pytest.approx(0.3 / np.sqrt((0.05**2 + 0.03**2) / 2.0), rel=0.06)
    assert found.white_share == pytest.approx(4.0 / 9.0, abs=0.02)
    brighter = find_tissues(0.5 * volume + 0.1, depth)
    assert brighter.separation == pytest.approx(found.separation, rel=0.02)
    assert find_tissues(np.full(brain.shape, 0.5), depth) is None
    assert find_tissues(volume, np.zeros(brain.shape)) is None


def test_boundary_of_a_ball_of_white_matter_is_that_of_a_ball():
    brain, (x, y, z) = ball((60, 64, 50), (3.0, 3.0, 4.0), 80.0)
    zooms, radius = (3.0, 3.0, 4.0), np.sqrt(x**2 + y**2 + z**2)
    depth = depth_in(brain, zooms)
    volume = 0.6 - 0.1 * np.tanh((radius - 50.0) / 4.0)
    found = find_boundary(volume, depth, 0.6, zooms)
    assert found.area == pytest.approx(4.0 * np.pi * 50.0**2, rel=0.02)
    assert found.volume == pytest.approx(4.0 / 3.0 * np.pi * 50.0**3, rel=0.02)
    assert found.folding == pytest.approx(1.0, abs=0.02)
    assert found.contrast == pytest.approx(0.2 * np.tanh(0.5) / 0.6, rel=0.15)
    angle = np.arctan2(y, x)
    folds = find_boundary(0.6 - 0.1 * np.tanh((radius - 50.0 - 6.0 * np.cos(8.0 * angle)) / 4.0), depth, 0.6, zooms)
    assert folds.folding > 1.2
    noisy = volume.copy()
    noisy[::9, ::9, ::9] += 0.3
    outside = np.where((radius > 56.0) | (radius < 44.0), noisy, volume)
    assert find_boundary(outside, depth, 0.6, zooms).area == pytest.approx(found.area, rel=1e-3)


def test_boundary_does_not_run_along_the_edge_of_the_brain():
    brain, (x, *_) = ball()
    zooms = (4.0, 4.0, 5.0)
    half = find_boundary(np.where(x > 1.0, 0.8, 0.5), depth_in(brain, zooms), 0.65, zooms)
    assert half.area == pytest.approx(np.pi * 67.0**2, rel=0.1)
    assert find_boundary(np.full(brain.shape, 0.8), depth_in(brain, zooms), 0.65, zooms) is None
    assert find_boundary(np.full(brain.shape, 0.5), depth_in(brain, zooms), 0.65, zooms) is None


def test_people_of_the_same_population_are_at_the_floor(good):
    _, rows = good
    for (figure, of), row in rows.items():
        if of not in (SAMPLES, FLOOR):
            continue
        if figure.startswith("power"):
            assert row.low < 1.0 < row.high or row.value == pytest.approx(1.0, abs=0.1)
        elif figure.endswith("_within"):
            assert row.value >= 0.7 and row.high >= 0.9
    assert rows["power_32_16", MEAN].high < 0.6
    assert rows["folding_within", MEAN].value == 0.0
    assert {figure for figure, _ in rows} == {"power_64_32", "power_32_16"} | {
        key for name in MEASURES for key in (name, f"{name}_within")
    }
    assert {figure for figure, _ in rows} <= set(FIGURES)


def test_blurred_people_fall_in_order(good, unheard):
    material, rows = good
    found = [rows]
    for fwhm in (8.0, 12.0, 16.0):
        volumes = blurred(unheard.volumes, SIDES, fwhm)
        found.append(rows_of(judge(with_samples(material, volumes, unheard.brains))))
    for figure in ("power_64_32", "power_32_16", "tissue_contrast", "folding"):
        values = [each[figure, SAMPLES].value for each in found]
        assert all(np.diff(values) < 0.0), figure
    # What is lost is lost in the band of short waves.
    weakest = found[1]
    assert weakest["power_64_32", SAMPLES].value > 0.8 * rows["power_64_32", SAMPLES].value
    assert weakest["power_32_16", SAMPLES].high < rows["power_32_16", SAMPLES].low
    assert [each["folding_within", SAMPLES].value for each in found[2:]] == [0.0, 0.0]


def test_noise_raises_power_and_folds_and_lowers_the_separation(good, unheard):
    material, rows = good
    noise = 0.08 * np.random.default_rng(0).standard_normal(unheard.volumes.shape, dtype=np.float32)
    noisy = rows_of(judge(with_samples(material, quantised(unheard.volumes + noise), unheard.brains)))
    assert noisy["power_32_16", SAMPLES].low > rows["power_32_16", SAMPLES].high
    assert noisy["folding", SAMPLES].low > rows["folding", SAMPLES].high
    assert noisy["tissue_separation", SAMPLES].high < rows["tissue_separation", SAMPLES].low


def test_brightness_does_not_matter(good, unheard):
    material, rows = good
    darker = rows_of(judge(with_samples(material, 0.6 * unheard.volumes, unheard.brains)))
    for figure in ("power_64_32", "power_32_16", *MEASURES):
        assert darker[figure, SAMPLES].value == pytest.approx(rows[figure, SAMPLES].value, rel=1e-3), figure


def test_broken_heads_are_said_and_are_outside(good, unheard):
    material, _ = good
    volumes, brains = unheard.volumes.copy(), unheard.brains.copy()
    volumes[:3] = 0.0
    brains[1], volumes[3] = False, 0.5
    result = judge(with_samples(material, volumes, brains))
    rows = rows_of(result)
    assert any("samples: 3 of 24 heads have no brain" in note for note in result.notes)
    assert any("samples: in 4 of 24 heads grey and white matter cannot" in note for note in result.notes)
    assert rows["folding_within", SAMPLES].value <= 20 / 24
    assert rows["power_32_16", SAMPLES].n == 21
    nothing = rows_of(judge(with_samples(material, np.zeros_like(volumes), np.zeros_like(brains))))
    assert nothing["power_32_16", SAMPLES].value is None
    assert nothing["folding_within", SAMPLES].value == 0.0


def test_few_people_are_enough_for_an_answer(good):
    material, _ = good
    few = material.unseen.take(np.arange(8))
    rows = rows_of(judge(type(material)(few, few, {SAMPLES: few}, material.zooms, material.affine)))
    assert rows["power_32_16", SAMPLES].value == pytest.approx(1.0)
    assert rows["power_32_16", SAMPLES].low < 1.0 < rows["power_32_16", SAMPLES].high


def test_details_of_two_calls_are_the_same(good):
    material, rows = good
    again = rows_of(judge(material))
    assert again == rows


def test_ranges_hold_nine_in_ten_of_other_people():
    generator, inside = np.random.default_rng(0), []
    for _ in range(400):
        ends = detail._range_of(generator.normal(size=24))
        inside.append(np.mean((generator.normal(size=200) >= ends[0]) & (generator.normal(size=200) <= ends[1])))
    known = [detail._range_of(np.random.default_rng(seed).normal(size=24)) for seed in range(400)]
    from scipy import stats

    covered = [stats.norm.cdf(high) - stats.norm.cdf(low) for low, high in known]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)
    assert detail._range_of(np.array([1.0, np.nan, 2.0])) is None


def test_intervals_hold_the_truth_and_relatives_count_together():
    generator, held = np.random.default_rng(0), {"ratio": 0, "mean": 0, "twins": 0, "naive": 0}
    for number in range(150):
        ours, theirs = np.exp(0.3 * generator.normal(size=(2, 24)))
        names = np.arange(24).astype(str)
        low, high = compared_interval(np.divide, ours, names, theirs, names, number)
        held["ratio"] += low <= 1.0 <= high
        low, high = mean_interval(ours, names, number)
        held["mean"] += low <= np.exp(0.045) <= high
        twins = np.repeat(generator.normal(size=20), 2)
        for key, families in (("twins", np.repeat(np.arange(20), 2)), ("naive", np.arange(40))):
            low, high = mean_interval(twins, families.astype(str), number)
            held[key] += low <= 0.0 <= high
    shares = {name: count / 150 for name, count in held.items()}
    assert min(shares["ratio"], shares["mean"], shares["twins"]) >= 0.9
    assert shares["naive"] < 0.88


def test_share_of_all_has_an_interval():
    low, high = share_interval(np.ones(24, bool), np.arange(24).astype(str))
    assert (round(low, 3), high) == (0.862, 1.0)
    assert share_interval(np.ones(24, bool), np.repeat(np.arange(12), 2).astype(str))[0] < low


def test_measures_of_the_mean_head_are_those_of_no_fold(good):
    material, _ = good
    volumes = mean_volumes(material.taught.volumes, 4)
    brains = np.repeat(material.taught.brains.mean(axis=0)[None] > 0.5, 4, axis=0)
    found = measure(Heads(volumes, material.samples.people.iloc[:4], brains), SIDES)
    assert WAVELENGTHS[0] == 64 and found.powers.shape == (4, 2)
    real = measure(material.unseen.take(np.arange(6)), SIDES)
    assert found.measures[:, 3].max() < real.measures[:, 3].min()
