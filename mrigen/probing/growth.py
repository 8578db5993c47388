"""How much larger the same tissue is in one head than in another, of a model that moves one template into both."""

from collections.abc import Sequence

import tensorflow as tf

from mrigen.layers import jacobian_determinant, warp
from mrigen.models import LatentModel

# Where a map folds, the logarithm of the volume is that of this share.
SMALLEST_VOLUME = 1e-3


def growth_maps(model: LatentModel, women: tf.Tensor, men: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of how much larger a man's tissue is than a woman's, (pairs, x, y, z) float32.

    0.1 is a tenth more volume. One voxel of two heads holds different tissue, so voxels are not compared: each point of
    the template is followed into the woman and into the man, and its volume there is compared. The outcome is shown on
    the head in the middle of the two.

    Args:
        model: that warps a template.
        women, men: (pairs, *field_sides, 3) velocities, as `model.decode_parts` returns them.
    """
    women, men = tf.cast(women, tf.float32), tf.cast(men, tf.float32)
    # A negated velocity leads from the template into the head.
    smaller, larger = (
        tf.math.log(tf.maximum(jacobian_determinant(model.displacement(-velocity)), SMALLEST_VOLUME))
        for velocity in (women, men)
    )
    from_middle = model.displacement((women + men) / 2.0)
    return warp((larger - smaller)[..., None], from_middle)[..., 0]


def growth_spacing(model: LatentModel, zooms: Sequence[float]) -> tuple[float, ...]:
    """Returns how far apart, in mm along each axis, the points of the velocity lie: the resolution of growth.

    A spline says what the tissue does between them, and what it says there of growth is a guess.

    Args:
        model: that warps a template.
        zooms: (3,) mm, of its volumes.
    """
    sides = zip(model.volume_shape, model.field_sides, zooms, strict=True)
    return tuple(float(zoom) * fine / coarse for fine, coarse, zoom in sides)
