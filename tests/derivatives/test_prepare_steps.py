"""The steps of `prepare` one by one, on arrays whose truth is known; and what is said where a tool is missing."""

import importlib.util

import numpy as np
import pytest
from mrigen_cli.main import main

from mrigen.derivatives import tools
from mrigen.derivatives.masking import find_brain, flag_mask
from mrigen.derivatives.outlines import OUTLINE, outline_strip
from mrigen.derivatives.settings import Settings, check_settings
from mrigen.errors import CohortError, UsageError
from mrigen.imaging.volumes import Volume

GOOD = {"brain_ml": 1400.0, "mask_parts": 0.0, "mask_holes": 0.0, "mask_sides": 0.0}
SHAPE, ZOOMS = (36, 44, 40), np.array([5.0, 5.0, 5.0])


@pytest.fixture(scope="module")
def head():
    """A ball of brain in a larger ball of head, with a face in front and below."""
    affine = np.diag([*ZOOMS, 1.0])
    affine[:3, 3] = -ZOOMS * (np.array(SHAPE) - 1) / 2
    x, y, z = (ZOOMS[0] * (np.indices(SHAPE)[axis] - (SHAPE[axis] - 1) / 2) for axis in range(3))
    brain = (x / 65) ** 2 + (y / 80) ** 2 + ((z - 20) / 60) ** 2 < 1
    skull = (x / 75) ** 2 + (y / 92) ** 2 + ((z - 20) / 72) ** 2 < 1
    face = (abs(x) < 40) & (y > 60) & (y < 100) & (z < -10) & (z > -80)
    array = np.where(brain, 100.0, np.where(skull | face, 60.0, 0.0)).astype(np.float32)
    return Volume(array, affine), brain, face & ~skull


def test_bias_field_is_the_planted_one(head):
    pytest.importorskip("SimpleITK", reason="comes with the extra prepare")
    from mrigen.derivatives.itk import bias_field

    volume, brain, _ = head
    planted = np.exp(0.4 * np.linspace(-1, 1, SHAPE[0]))[:, None, None].astype(np.float32)
    inside = volume.array > 0
    found = bias_field(Volume(volume.array * planted, volume.affine), inside, 0.0)
    left = (planted / found)[brain]
    assert left.std() / left.mean() < 0.35 * np.broadcast_to(planted, SHAPE)[brain].std()


def test_affine_map_of_the_template_moved_is_found():
    pytest.importorskip("SimpleITK", reason="comes with the extra prepare")
    from mrigen.derivatives.itk import align_affine, rigid_of, template

    moved = np.eye(4)
    angle = np.deg2rad(30.0)
    moved[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved[:3, :3] *= 0.9
    moved[:3, 3] = 12.0, -30.0, 25.0
    found = align_affine(template().array, moved @ template().affine)
    points = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-90, 60) for z in (-40, 70)])
    np.testing.assert_allclose(points @ (found @ moved).T, points, atol=1.0)
    rigid = rigid_of(found, moved[:3, 3])
    np.testing.assert_allclose(rigid[:3, :3], 0.9 * moved[:3, :3].T / 0.81, atol=0.02)


def test_defacing_removes_the_face_and_no_brain(head):
    pytest.importorskip("quickshear", reason="comes with the extra prepare")
    from mrigen.derivatives.defacing import deface

    volume, brain, face = head
    found = deface(volume.array, brain, volume.affine, 0.0)
    assert np.array_equal(found[brain], volume.array[brain])
    assert (found[face] == 0).mean() > 0.9


def test_defacing_fills_with_the_background(head):
    pytest.importorskip("quickshear", reason="comes with the extra prepare")
    from mrigen.derivatives.defacing import deface

    volume, brain, face = head
    found = deface(volume.array - 1000.0, brain, volume.affine, -1000.0)
    assert found.min() == -1000.0 and (found[face] == -1000.0).mean() > 0.9


def test_given_mask_is_kept_as_it_is_and_told_about(head):
    volume, brain, _ = head
    given = brain.copy()
    given[:2, :2, :2] = True
    given[18, 22, 24] = False
    found = find_brain(volume, head=None, given=given)
    assert np.array_equal(found.array, given)
    assert found.measures["mask_parts"] == pytest.approx(8 / brain.sum(), rel=0.01)
    assert found.measures["mask_holes"] == pytest.approx(1 / brain.sum(), rel=0.01)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"brain_ml": 600.0}, "The brain has 600 ml"),
        ({"brain_ml": 2400.0}, "The brain has 2400 ml"),
        ({"mask_parts": 0.02}, "was in parts: 2.0%"),
        ({"mask_holes": 0.03}, "had holes: 3.0%"),
        ({"mask_sides": 0.01}, "touches the sides"),
        ({"mask_agreement": 0.9}, "mirror image differ: Dice 0.900"),
        ({"template_overlap": 0.7}, "Dice of 0.700"),
    ],
)
def test_strange_mask_is_flagged(change, said):
    assert flag_mask(GOOD, "deepbet") == []
    flags = flag_mask(GOOD | change, "deepbet")
    assert len(flags) == 1 and said in flags[0]


def test_picture_shows_the_outline_around_the_brain_alone(head):
    volume, brain, _ = head
    strip = outline_strip(volume.array, brain, volume.zooms)
    drawn = (strip == OUTLINE).all(axis=2)
    assert drawn.any()
    grey = strip[~drawn]
    assert (grey == grey[:, :1]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"steps": ["n4"]}, r"steps: got 'n4', expected any of bias, rigid, affine, deface"),
        ({"steps": ["rigid", "affine"]}, "steps: got rigid and affine, expected one"),
        ({"zooms": 0.1}, r"zooms: got 0\.1, expected 0\.5 to 8 mm"),
        ({"zooms": float("nan")}, "zooms: got nan"),
        ({"steps": ["bias"], "zooms": 2.0}, "without an alignment"),
    ],
)
def test_wrong_settings_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        check_settings(
            **({"steps": ("rigid",), "deface": False, "zooms": None, "mask": None, "suffix": "T1w"} | arguments)
        )


def test_steps_are_done_in_their_order_whatever_order_they_come_in():
    assert check_settings(("deface", "rigid", "bias"), False, None, None, "T1w").steps == ("bias", "rigid", "deface")


def test_missing_tools_are_one_line_that_names_the_extra(monkeypatch, tmp_path, capsys):
    found = importlib.util.find_spec
    gone = set(tools.PURPOSES)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in gone else found(name, *rest))
    with pytest.raises(SystemExit) as exit:
        main(["prepare", str(tmp_path), str(tmp_path / "out"), "--deface"])
    assert exit.value.code == 2
    assert capsys.readouterr().err == (
        "mrigen: got no SimpleITK (bias fields and alignment), deepbet (brain masks), quickshear (faces), expected the "
        "tools that prepare scans. Install them with pip install 'mrigen[prepare]'.\n"
    )
    assert not (tmp_path / "out").exists()


def test_only_tools_that_are_used_are_needed():
    assert tools.needed_tools(Settings(steps=(), mask="mine")) == []
    assert tools.needed_tools(Settings(steps=("deface",))) == ["deepbet", "quickshear"]


def test_mask_that_a_cut_would_go_through_is_a_fault(head, monkeypatch):
    pytest.importorskip("quickshear", reason="comes with the extra prepare")
    import quickshear

    from mrigen.derivatives.defacing import deface
    from mrigen.imaging.volumes import make_image

    volume, brain, _ = head
    monkeypatch.setattr(
        quickshear, "quickshear", lambda whole, mask, buffer: make_image(0 * brain.astype("u1"), volume.affine)
    )
    with pytest.raises(CohortError, match="goes through the brain"):
        deface(volume.array, brain, volume.affine, 0.0)
