"""Small heads with labels: simple shapes, made in an instant, whose volumes, age and sex are known."""

import numpy as np
import pandas as pd
from scipy import ndimage

from mrigen.evaluation.contenders import quantised
from mrigen.evaluation.heads import Heads

SIDES, ZOOMS = (20, 24, 20), (8.0, 8.0, 8.0)
NAMES = {1: "cortex", 2: "white matter", 3: "ventricles", 4: "left nucleus", 5: "right nucleus"}
PLACES = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2 for side in SIDES], indexing="ij"), axis=-1)


def head(generator, age, sex, grey=0.55):
    """Returns a head of a skull and a brain, (x, y, z), and its five labels.

    Ventricles grow with age, with the brain and by chance; men have larger heads.
    """
    size = 1.0 + (0.03 if sex == "M" else -0.03) + 0.03 * generator.standard_normal()
    ventricles = 2.2 * size * (1.0 + 0.008 * (age - 50) + 0.06 * generator.standard_normal())
    cortex = 1.0 + 0.15 * generator.standard_normal()
    places = PLACES - 0.4 * generator.standard_normal(3)
    radius = np.sqrt(((places / [0.9, 1.1, 0.9]) ** 2).sum(axis=-1)) / size
    volume, labels = np.zeros(SIDES), np.zeros(SIDES, np.int16)

    def paint(distance, brightness, label):
        inside = 1.0 / (1.0 + np.exp(np.clip(5.0 * distance, -50, 50)))
        volume[:] = inside * brightness + (1.0 - inside) * volume
        labels[distance < 0] = label

    paint(np.abs(radius - 8.2) - 0.7, 0.7, 0)
    paint(radius - 5.9, grey, 1)
    paint(radius - 5.9 + 1.6 * cortex, 0.8, 2)
    for label, side in ((4, -1.0), (5, 1.0)):
        paint(np.linalg.norm(places - [side * 3.0, 1.5, -1.0], axis=-1) - 1.7 * size, grey, label)
    paint(np.sqrt(((places / [0.8, 1.3, 0.8]) ** 2).sum(axis=-1)) - ventricles, 0.15, 3)
    volume = ndimage.gaussian_filter(volume, 0.6) + 0.01 * generator.standard_normal(SIDES)
    return quantised(volume.astype(np.float32)), labels


def people(count, seed, name, ages=(20.0, 80.0)):
    """Returns heads of people, and the label image of each."""
    generator = np.random.default_rng(seed)
    age = generator.uniform(*ages, count)
    sex = np.where(np.arange(count) % 2, "M", "F")
    volumes, labels = zip(*[head(generator, *each) for each in zip(age, sex, strict=True)], strict=True)
    names = [f"{name}-{index:03d}" for index in range(count)]
    table = pd.DataFrame({"participant_id": names, "family": names, "age": age, "sex": sex})
    brains = np.stack([each > 0 for each in labels])
    return Heads(np.stack(volumes), table, brains), list(labels)
