"""Where every voxel of a synthetic subject comes from: a template, smooth deformations of it, size and pose."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.ndimage

from mrigen.data.phantom_factors import (
    ANATOMY,
    FAMILY_ANATOMY,
    MEAN_BRAIN_VOLUME_ML,
    PhantomSettings,
    family_head,
    mix_siblings,
    stream,
)

# Velocity fields live on a coarse grid: the deformations are smooth, and a subject must not take a second.
GRID_ZOOMS_MM = 8.0
GRID_MARGIN_MM = 16.0
NUM_SQUARINGS = 6

# (smoothness in mm, root mean square velocity in mm): broad differences in shape, and the course of the folds.
ANATOMY_SCALES_MM = ((26.0, 2.3), (11.0, 1.3))

# (centre, outward velocity) in template mm: in men the brain bulges at the right frontal and left occipital pole and
# is flatter at the left temporal and right parietal lobe, in women the other way round. Pushing the surface changes a
# picture more, for the same strain of the tissue, than blowing up a ball inside it.
SEX_PUSHES = (
    ((38.0, 48.0, 8.0), (3.0, 4.0, 0.0)),
    ((-30.0, -88.0, 8.0), (-2.0, -4.6, 0.0)),
    ((-62.0, -8.0, -8.0), (5.0, 0.0, 0.0)),
    ((50.0, -54.0, 42.0), (-3.4, 2.2, -2.9)),
)
SEX_PUSH_RADIUS_MM = 33.0

AGE_PEAK_VELOCITY_MM = 4.0

FIELD_OF_VIEW_MM = (192.0, 224.0, 192.0)


@dataclasses.dataclass(frozen=True)
class Template:
    """The average brain, blurred for the voxel size to be written, and the velocity fields planted in it.

    Attributes:
        t1: (x, y, z) float32, white matter near 0.87, gray matter 0.65, cerebrospinal fluid 0.28, nothing outside.
        gray, white: (x, y, z) float32, tissue fractions.
        sulci: (x, y, z) float32, gray matter that lies beside fluid on the outside of the brain, 0 to about 1.
        mask: (x, y, z) float32, fraction of each voxel inside the brain.
        soft_mask: (x, y, z) float32, the mask blurred enough to be summed on the coarse grid.
        affine: (4, 4), voxels of the arrays above to template coordinates in mm.
        centre: (3,), middle of the brain in template coordinates in mm; at the world origin in a subject without shift.
        grid_affine: (4, 4), voxels of the coarse grid to template coordinates in mm.
        sex_velocity, age_velocity: (3, i, j, k) on the coarse grid, in mm: where the planted effects push the anatomy.
        envelope: (i, j, k) on the coarse grid, 1 in and near the brain, fading to 0 at the border of the grid.
    """

    t1: np.ndarray
    gray: np.ndarray
    white: np.ndarray
    sulci: np.ndarray
    mask: np.ndarray
    soft_mask: np.ndarray
    affine: np.ndarray
    centre: np.ndarray
    grid_affine: np.ndarray
    sex_velocity: np.ndarray
    age_velocity: np.ndarray
    envelope: np.ndarray


def load_template(zooms: float) -> Template:
    """Returns the MNI152 template and tissue maps that nilearn carries in its package, made ready for `zooms` mm.

    References:
        Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54 (2011).
    """
    # nilearn takes seconds to import; who only draws factors need not wait for it.
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    affine = np.asarray(image.affine, dtype=np.float64)
    t1 = image.get_fdata(dtype=np.float32)
    gray = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    mask = datasets.load_mni152_brain_mask(resolution=1).get_fdata(dtype=np.float32)
    t1 = t1 * mask

    fluid = np.clip(mask - gray - white, 0, 1)
    ventricles = fluid * _ball_window(t1.shape, affine, centre=(0, -14, 12), radii=(34, 50, 30))
    beside_fluid = np.clip(2 * scipy.ndimage.gaussian_filter(fluid - ventricles, 2.0, truncate=2.5), 0, 1)
    centre = affine[:3, :3] @ scipy.ndimage.center_of_mass(mask) + affine[:3, 3]

    corner = affine[:3, 3] - GRID_MARGIN_MM
    grid_shape = np.ceil((np.array(t1.shape) + 2 * GRID_MARGIN_MM) / GRID_ZOOMS_MM).astype(int) + 1
    grid_affine = np.diag([GRID_ZOOMS_MM] * 3 + [1.0])
    grid_affine[:3, 3] = corner
    points = _grid_points(tuple(grid_shape), grid_affine)
    soft_mask = scipy.ndimage.gaussian_filter(mask, 4.0, truncate=3)
    envelope = scipy.ndimage.grey_dilation(_sample(soft_mask, points, affine) > 0.1, size=(3, 3, 3))
    envelope = scipy.ndimage.gaussian_filter(envelope.astype(np.float64), 1.0)

    # Template voxels are larger than the subject's by the ratio of brain volumes. A Gaussian of about a third of the
    # written voxel removes what that voxel cannot hold, and little more.
    magnification = (mask.sum() / 1000 / MEAN_BRAIN_VOLUME_ML) ** (1 / 3)
    blur = 0.32 * zooms * magnification

    def blurred(array):
        return scipy.ndimage.gaussian_filter(array, blur, truncate=3)

    return Template(
        t1=blurred(t1),
        gray=blurred(gray),
        white=blurred(white),
        sulci=blurred(gray * beside_fluid),
        mask=blurred(mask),
        soft_mask=soft_mask,
        affine=affine,
        centre=centre,
        grid_affine=grid_affine,
        sex_velocity=sex_velocity_at(points),
        age_velocity=_age_velocity(ventricles, affine, points) * envelope,
        envelope=envelope,
    )


def planted_region(points: np.ndarray) -> np.ndarray:
    """Returns where template coordinates `points` (3, ...) in mm lie in the planted sex difference in shape.

    The planted velocity is below a tenth of its peak outside of this region.
    """
    return np.max([_bump(points, centre) for centre, _ in SEX_PUSHES], axis=0) > 0.1


def draw_displacement(template: Template, settings: PhantomSettings, index: int, factors: Mapping) -> np.ndarray:
    """Returns the displacement that takes each point of the undistorted subject to the template.

    It is `exp(-v) - identity` for the stationary velocity `v` of subject `index`: random anatomy, the planted sex
    difference and age. An exponential of a smooth field has no folds.

    Args:
        factors: the row of `draw_factors`.

    Returns:
        (3, i, j, k) on the coarse grid, in mm.
    """
    shape = template.envelope.shape
    own = stream(settings, ANATOMY, index)
    shared = stream(settings, FAMILY_ANATOMY, family_head(index))
    velocity = np.zeros((3, *shape))
    for smoothness, amplitude in ANATOMY_SCALES_MM:
        sigma = smoothness / GRID_ZOOMS_MM
        noise = mix_siblings(own.standard_normal((3, *shape)), shared.standard_normal((3, *shape)))
        # Root mean square of white noise after a Gaussian filter: (2 sqrt(pi) sigma) ** -1.5 in three dimensions.
        gain = amplitude * (2 * np.sqrt(np.pi) * sigma) ** 1.5
        velocity += gain * scipy.ndimage.gaussian_filter(noise, (0, sigma, sigma, sigma), mode="wrap", truncate=3)
    velocity *= template.envelope
    velocity += factors["sex_shape"] * template.sex_velocity
    velocity += factors["ventricle_expansion"] * template.age_velocity
    return exponential(-velocity)


def exponential(velocity: np.ndarray) -> np.ndarray:
    """Returns the displacement of the exponential map of a stationary velocity field, by scaling and squaring.

    Args:
        velocity: (3, i, j, k) on the coarse grid, in mm.

    Returns:
        (3, i, j, k), in mm.

    References:
        Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006.
    """
    voxels = np.indices(velocity.shape[1:], dtype=np.float64)
    displacement = velocity / GRID_ZOOMS_MM / 2**NUM_SQUARINGS
    for _ in range(NUM_SQUARINGS):
        moved = voxels + displacement
        displacement = displacement + np.stack(
            [scipy.ndimage.map_coordinates(part, moved, order=1, mode="nearest") for part in displacement]
        )
    return displacement * GRID_ZOOMS_MM


def pull_back(template: Template, displacement: np.ndarray, factors: Mapping, points: np.ndarray) -> np.ndarray:
    """Returns the template coordinates (3, ...) in mm that are seen at the subject's world coordinates `points`.

    One map holds everything: pose, size, proportions and deformation, so that images are interpolated only once.
    The size is set after the deformation: the brain has the volume of the table whatever its shape.

    Args:
        displacement: (3, i, j, k) of `draw_displacement`, in mm.
        factors: the row of `draw_factors`.
        points: (3, ...) in mm.
    """
    scale = (factors["brain_volume_true_ml"] / _deformed_volume_ml(template, displacement)) ** (1 / 3)
    width, height = factors["head_width"], factors["head_height"]
    stretch = scale * np.exp([width, -(width + height), height])
    rotation = rotation_matrix([factors["rotation_x"], factors["rotation_y"], factors["rotation_z"]])
    shift = np.array([factors["shift_x"], factors["shift_y"], factors["shift_z"]])

    flat = points.reshape(3, -1)
    upright = (rotation.T @ (flat - shift[:, None])) / stretch[:, None] + template.centre[:, None]
    voxels = (upright - template.grid_affine[:3, 3:]) / GRID_ZOOMS_MM
    # Cubic: with linear interpolation of the coarse grid its cells would show in the brain.
    upright += np.stack([scipy.ndimage.map_coordinates(part, voxels, order=3, mode="nearest") for part in displacement])
    return upright.reshape(points.shape)


def sample(template: Template, name: str, points: np.ndarray) -> np.ndarray:
    """Returns the template array called `name` at template coordinates `points` (3, ...) in mm, 0 outside; float32."""
    return _sample(getattr(template, name), points, template.affine)


def jacobian_determinant(coordinates: np.ndarray, zooms: float) -> np.ndarray:
    """Returns the local volume factor (x, y, z) of a map of coordinates (3, x, y, z) in mm, on a grid of `zooms` mm.

    For a map made by `pull_back` this is template volume per subject volume: negative where tissue is folded.

    Example:
        >>> doubled = 2.0 * np.indices((3, 4, 5))
        >>> round(float(jacobian_determinant(doubled, zooms=1.0)[1, 1, 1]), 6)
        8.0
    """
    gradients = np.stack([np.stack(np.gradient(part, zooms), axis=-1) for part in coordinates], axis=-2)
    return np.linalg.det(gradients)


def subject_grid(zooms: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Returns the shape and the affine of the written images: room for the largest head, world origin in the middle.

    Example:
        >>> subject_grid(4.0)[0]
        (48, 56, 48)
    """
    # A multiple of four: networks halve the grid at least twice.
    shape = tuple(int(np.ceil(length / zooms / 4)) * 4 for length in FIELD_OF_VIEW_MM)
    affine = np.diag([float(zooms)] * 3 + [1.0])
    affine[:3, 3] = [-zooms * (size - 1) / 2 for size in shape]
    return shape, affine


def template_grid(template: Template, zooms: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Returns the shape and the affine (template coordinates, mm) of a grid of `zooms` mm over the whole template."""
    shape = tuple(int(np.ceil(size / zooms)) for size in template.t1.shape)
    affine = np.diag([float(zooms)] * 3 + [1.0])
    affine[:3, 3] = template.affine[:3, 3]
    return shape, affine


def grid_points(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """Returns the coordinates (3, x, y, z) in mm of all voxels of a grid without rotation."""
    return _grid_points(shape, affine)


def velocity_at(template: Template, velocity: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns a velocity field (3, i, j, k) of the coarse grid at template coordinates `points` (3, ...), in mm."""
    voxels = (points - template.grid_affine[:3, 3].reshape(3, *[1] * (points.ndim - 1))) / GRID_ZOOMS_MM
    return np.stack([scipy.ndimage.map_coordinates(part, voxels, order=3, mode="nearest") for part in velocity])


def _deformed_volume_ml(template: Template, displacement: np.ndarray) -> float:
    points = _grid_points(template.envelope.shape, template.grid_affine) + displacement
    return float(_sample(template.soft_mask, points, template.affine).sum(dtype=np.float64)) * GRID_ZOOMS_MM**3 / 1000


def sex_velocity_at(points: np.ndarray) -> np.ndarray:
    """Returns the planted sex difference (3, ...) in mm at template coordinates `points` (3, ...) in mm."""
    return sum(np.reshape(push, (3,) + (1,) * (points.ndim - 1)) * _bump(points, centre) for centre, push in SEX_PUSHES)


def _bump(points: np.ndarray, centre: tuple[float, float, float]) -> np.ndarray:
    """Returns a bump (...) at `points` (3, ...) in mm: 1 at the centre, smooth, exactly 0 beyond the radius."""
    squared = ((points - np.reshape(centre, (3,) + (1,) * (points.ndim - 1))) ** 2).sum(axis=0)
    return np.clip(1 - squared / SEX_PUSH_RADIUS_MM**2, 0, None) ** 3


def _age_velocity(ventricles: np.ndarray, affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    # Downhill from the blurred ventricles is outwards through their walls.
    potential = scipy.ndimage.gaussian_filter(ventricles, 7.0, truncate=3)
    outwards = np.stack([_sample(part, points, affine) for part in np.gradient(-potential)]).astype(np.float64)
    return AGE_PEAK_VELOCITY_MM * outwards / np.sqrt((outwards**2).sum(axis=0)).max()


def _ball_window(shape, affine, centre, radii) -> np.ndarray:
    axes = [((np.arange(size) + affine[axis, 3] - centre[axis]) / radii[axis]) ** 2 for axis, size in enumerate(shape)]
    squared = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    return np.clip(4 * (1 - squared), 0, 1).astype(np.float32)


def rotation_matrix(degrees) -> np.ndarray:
    """Returns the rotation (3, 3) by pitch, then roll, then yaw, in degrees about x, y and z."""
    pitch, roll, yaw = np.deg2rad(degrees)
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    about_y = [[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]]
    about_z = [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def _grid_points(shape, affine) -> np.ndarray:
    zooms = np.diag(affine)[:3].reshape(3, 1, 1, 1)
    return np.indices(shape, dtype=np.float64) * zooms + affine[:3, 3].reshape(3, 1, 1, 1)


def _sample(array: np.ndarray, points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    # The template has voxels of one mm without rotation: its coordinates are voxels but for the origin.
    voxels = points - affine[:3, 3].reshape(3, *[1] * (points.ndim - 1))
    return scipy.ndimage.map_coordinates(array, voxels, order=1, mode="constant", cval=0.0)
