"""Where the brain is, in heads that are moved and in brains without a head."""

import numpy as np

from mrigen.evaluation.brains import find_brains

SIDES, ZOOMS = (22, 26, 24), (8.0, 8.0, 8.0)


def head(shift=(0.0, 0.0, 0.0), size=1.0):
    """A bright rim around a dark gap around a grey brain, and where the brain is."""
    places = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2 for side in SIDES], indexing="ij"), axis=-1)
    radius = np.sqrt((((places - shift) / size / [0.9, 1.1, 1.0]) ** 2).sum(axis=-1))
    volume = 0.5 / (1 + np.exp(4 * (radius - 6.5))) + 0.9 * np.exp(-(((radius - 9.0) / 0.7) ** 2))
    return volume.astype(np.float32), radius < 6.5


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_brains_of_moved_heads_are_found():
    template, mask = head()
    moved = [head((1.0, -1.0, 0.5), 0.95), head((-0.5, 0.0, 1.0), 1.06)]
    found = find_brains(np.stack([each for each, _ in moved]), template, mask.astype(np.float32), ZOOMS)
    for brain, (_, truth) in zip(found, moved, strict=True):
        assert dice(brain, truth) > 0.95 > dice(mask, truth)


def test_a_stripped_brain_is_what_is_not_dark():
    volume = np.where(head()[1], head()[0], np.float32(0))
    volume[11, 13, 12] = 0.0  # A hole.
    volume[1, 1, 1] = 0.5  # A speck outside.
    found = find_brains(volume[None], volume, head()[1].astype(np.float32), ZOOMS)[0]
    assert found[11, 13, 12] and not found[1, 1, 1]
    assert dice(found, head()[1]) > 0.95
    np.testing.assert_array_equal(find_brains(volume[None], None, None, ZOOMS)[0], found)


def test_an_empty_volume_has_no_brain():
    assert not find_brains(np.zeros((1, *SIDES), np.float32), None, None, ZOOMS).any()
    template, mask = head()
    assert not find_brains(np.zeros((1, *SIDES), np.float32), template, mask.astype(np.float32), ZOOMS).any()
