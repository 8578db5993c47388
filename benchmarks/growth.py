"""How much of a planted push a growth map shows, by how fine shading is: python -m benchmarks.growth

A picture of what training settles on, in 20 seconds of one core. The class means of a synthetic cohort
(300 people at 8 mm, `sex_effect: shape`) differ by the planted push and by what is left of everyone's own anatomy; the
template without anyone's pose, moved both ways by that, gives two heads. Their difference is explained by a velocity
(every 2 voxels, `velocity_smoothness: 1`), a gain and an offset, by least squares under the noise that a fit has, with
shading as fine as the velocity, coarser, and without any; then the same with a bias field that one class has.

Prints for each the area under the precision-recall curve of the growth (its absolute value) against the planted region
over chance, and its correlation with the growth that is there.
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import lsmr
from sklearn.metrics import average_precision_score

from mrigen.data import phantom_anatomy as anatomy
from mrigen.data.phantom_factors import MEAN_BRAIN_VOLUME_ML, PhantomSettings, draw_factors
from mrigen.layers.fields import spline_matrix

SETTINGS = PhantomSettings(num_subjects=300, zooms=8.0, sex_effect="shape")
SIDES = (24, 28, 24)
FIELD_SPACING = 2
SHADING_SPACINGS = (2, 4, 6, 8, 12, None)
# The noise that a fit of `morph` has left on this cohort, intensity; and the bias field of one class, log.
DECODER_SIGMA = 0.035
BIAS_SD = 0.012
NUM_ITERATIONS = 150


def main() -> None:
    """Prints the figures."""
    template, velocity, head, planted = _truth()
    divergence = sum(np.gradient(velocity[axis], axis=axis) for axis in range(3))
    places = np.indices(SIDES).astype(float)
    ends = [
        ndimage.map_coordinates(template, places + sign * velocity / 2, order=1, mode="nearest") for sign in (1, -1)
    ]
    difference = ends[1] - ends[0]
    bias = _bias(template > 0.1)
    print(f"{planted[head].sum()} of {head.sum()} voxels are planted: chance {planted[head].mean():.3f}")
    print(f"growth that is there: {_score(divergence, head, planted):.1f} times chance")
    for name, image in (("no bias field", difference), ("with one", difference + BIAS_SD * bias * template)):
        print(f"{name}: difference {_score(image, head, planted):.1f}")
        for spacing in SHADING_SPACINGS:
            growth = -_divergence_of_fit(image, template, spacing)
            r = np.corrcoef(growth[head], divergence[head])[0, 1]
            shading = "no shading" if spacing is None else f"shading every {spacing} voxels"
            print(f"  {shading}: growth {_score(growth, head, planted):.1f}, r {r:.2f}")


def _truth():
    """Returns the template without pose, the class difference of velocities (3, x, y, z) in voxels, the head's voxels
    and the planted ones, on the grid of `SIDES`."""
    source = anatomy.load_template(SETTINGS.zooms)
    magnification = (source.mask.sum() / 1000 / MEAN_BRAIN_VOLUME_ML) ** (1 / 3)
    affine = np.diag([SETTINGS.zooms] * 3 + [1.0])
    affine[:3, 3] = [-SETTINGS.zooms * (side - 1) / 2 for side in SIDES]
    points = anatomy.grid_points(SIDES, affine) * magnification + source.centre.reshape(3, 1, 1, 1)
    inside = anatomy.sample(source, "mask", points) > 0.5
    template = anatomy.sample(source, "t1", points) * inside
    table = draw_factors(SETTINGS)
    weights = np.where(table["sex"] == "M", 1.0 / (table["sex"] == "M").sum(), -1.0 / (table["sex"] == "F").sum())
    # To first order, the velocity of a person is the displacement backwards.
    velocity = -sum(
        weight * anatomy.draw_displacement(source, SETTINGS, index, factors)
        for index, (weight, factors) in enumerate(zip(weights, table.to_dict("records"), strict=True))
    )
    velocity = anatomy.velocity_at(source, velocity, points) / magnification / SETTINGS.zooms
    # A pushed surface changes the voxels on both sides of it.
    return template, velocity, ndimage.binary_dilation(inside), anatomy.planted_region(points)


def _bias(inside):
    """Returns a smooth pattern (x, y, z) of mean 0 and standard deviation 1 where `inside`."""
    x, y, z = (np.indices(SIDES).reshape(3, -1) - np.array(SIDES)[:, None] / 2) / 12.0
    terms = np.stack([x, y, z, x * y, y * z, z * x, x * x, y * y, z * z])
    pattern = (np.random.default_rng(0).standard_normal(len(terms)) @ terms).reshape(SIDES)
    return (pattern - pattern[inside].mean()) / pattern[inside].std()


def _score(values, head, planted) -> float:
    return average_precision_score(planted[head], np.abs(values)[head]) / planted[head].mean()


def _divergence_of_fit(difference, template, shading_spacing):
    """Returns the divergence (x, y, z) of the velocity that explains a difference, beside a gain and an offset."""
    coarse = tuple(-(-side // FIELD_SPACING) for side in SIDES)
    moved = _spline(coarse) * FIELD_SPACING
    slopes = np.gradient(template)
    columns = [sparse.diags(slope.ravel()) @ moved for slope in slopes]
    penalties = [_bending(coarse)] * 3
    if shading_spacing is not None:
        shown = _spline(tuple(-(-side // shading_spacing) for side in SIDES))
        columns += [sparse.diags(template.ravel()) @ shown, shown]
        penalties += [sparse.csr_matrix((0, shown.shape[1]))] * 2
    design = sparse.hstack(columns) / DECODER_SIGMA
    tiny = 1e-2 * sparse.eye(design.shape[1])
    system = sparse.vstack([design, sparse.block_diag(penalties), tiny]).tocsr()
    wanted = np.zeros(system.shape[0])
    wanted[: difference.size] = difference.ravel() / DECODER_SIGMA
    solution = lsmr(system, wanted, maxiter=NUM_ITERATIONS)[0]
    velocity = solution[: 3 * moved.shape[1]].reshape(3, -1)
    return sum(np.gradient((moved @ part).reshape(SIDES), axis=axis) for axis, part in enumerate(velocity))


def _spline(coarse):
    """Returns the matrix (voxels, points) from control points to a spline on the grid of `SIDES`."""
    along = [sparse.csr_matrix(spline_matrix(m, n).astype(float)) for m, n in zip(coarse, SIDES, strict=True)]
    return sparse.kron(sparse.kron(along[0], along[1]), along[2]).tocsr()


def _bending(sides):
    """Returns the matrix whose product with a field has `mrigen.layers.bending` as its sum of squares."""
    rows = []
    for first in range(3):
        for second in range(first, 3):
            along = [
                np.diff(np.eye(side), n=(first == axis) + (second == axis), axis=0) for axis, side in enumerate(sides)
            ]
            x, y, z = map(sparse.csr_matrix, along)
            rows.append(sparse.kron(sparse.kron(x, y), z) * (1.0 if first == second else 2.0**0.5))
    return sparse.vstack(rows)


if __name__ == "__main__":
    main()
