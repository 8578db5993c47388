"""How much larger the same tissue is in one head than in another, of a model that moves one template into both."""

import numpy as np
import tensorflow as tf

from mrigen.layers import jacobian_determinant, warp
from mrigen.models import LatentModel

# Where a map folds, the logarithm of the volume is that of this share.
SMALLEST_VOLUME = 1e-3


def growth_map(model: LatentModel, woman_parts: dict[str, np.ndarray], man_parts: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the logarithm of how much larger a man's tissue is than a woman's, (x, y, z) float32.

    0.1 is a tenth more volume. One voxel of two heads holds different tissue, so voxels are not compared: each point of
    the template is followed into the woman and into the man, and its volume there is compared. The outcome is shown on
    the head in the middle of the two.

    Args:
        model: that warps a template.
        woman_parts, man_parts: what `model.decode_parts` returns of each, without the axis of the batch.
    """
    velocities = tf.stack([tf.cast(parts["velocity"], tf.float32) for parts in (woman_parts, man_parts)])
    # A negated velocity leads from the template into the head.
    volumes = jacobian_determinant(model.displacement(-velocities))
    woman, man = tf.unstack(tf.math.log(tf.maximum(volumes, SMALLEST_VOLUME)))
    from_middle = model.displacement(tf.reduce_mean(velocities, axis=0, keepdims=True))
    return warp((man - woman)[None, ..., None], from_middle)[0, ..., 0].numpy()
