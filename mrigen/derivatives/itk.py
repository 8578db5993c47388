"""What SimpleITK does: N4 bias fields, alignment with the MNI152 template, resampling."""

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, ndimage

from mrigen.imaging.volumes import Volume

if TYPE_CHECKING:
    import SimpleITK

# Voxel size, mm, at which a bias field is estimated and heads are aligned.
BIAS_ZOOMS = 4.0
TEMPLATE_ZOOMS = 2
# N4: iterations a level of splines, each twice as fine, and when a level has converged.
BIAS_ITERATIONS = (50, 50, 30, 20)
BIAS_CONVERGENCE = 1e-3
# Brains are nodded by so many degrees for the rough alignment; the one that fits best is gone on with.
NODS = (0.0, -25.0, 25.0)
# Between the world of NIfTI (RAS+) and that of ITK (LPS).
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Around work that is done by one thread: scans are prepared side by side, and sums of several threads differ in
    their last digits from one time to the next."""
    import SimpleITK as sitk

    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def bias_field(volume: Volume, inside: np.ndarray, black: float) -> np.ndarray:
    """Returns by what the brightness of an image is to be divided, (x, y, z) float32; about 1.

    Args:
        volume: the native image, closest-canonical axes.
        inside: (x, y, z) bool, the head.
        black: intensity of the background.

    References:
        Tustison et al. 2010, N4ITK: improved N3 bias correction.
    """
    import SimpleITK as sitk

    # Logarithms are taken: above 0 everywhere.
    above = np.maximum(volume.array - black, 0.0) + 1e-3 * np.percentile(volume.array[inside] - black, 99)
    shrink = [max(1, round(BIAS_ZOOMS / zoom)) for zoom in volume.zooms]
    image = sitk.Shrink(to_itk(above.astype(np.float32), volume.affine), shrink)
    mask = sitk.Shrink(to_itk(inside.astype(np.uint8), volume.affine), shrink)
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(BIAS_ITERATIONS)
    corrector.SetConvergenceThreshold(BIAS_CONVERGENCE)
    corrector.Execute(image, mask)
    # The field is smooth over centimetres: lines between the coarse points are as good, and much faster.
    coarse = from_itk(corrector.GetLogBiasFieldAsImage(image))
    offsets = np.linalg.inv(volume.affine) @ affine_of(image)
    steps, start = 1.0 / np.diag(offsets)[:3], -offsets[:3, 3] / np.diag(offsets)[:3]
    field = ndimage.affine_transform(coarse, steps, start, volume.array.shape, np.float32, 1, "nearest")
    return np.exp(field - field[inside].mean())


@functools.cache
def template() -> Volume:
    """Returns the MNI152 template that nilearn carries, without skull, at 2 mm.

    References:
        Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies.
    """
    from nilearn import datasets  # Takes seconds.

    image = datasets.load_mni152_template(resolution=TEMPLATE_ZOOMS)
    return Volume(image.get_fdata(dtype=np.float32), np.asarray(image.affine, dtype=np.float64))


def align_affine(brain: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Returns the map (4, 4), in mm, RAS+, from the world of a brain to that of the template: size and shear, too.

    A similarity is found first, from several nods; mutual information tells how well brains match (Mattes et al. 2003).

    Args:
        brain: (x, y, z), 0 outside.
        affine: (4, 4), voxel-to-world.
    """
    import SimpleITK as sitk

    fixed = to_itk(template().array, template().affine)
    moving = to_itk(brain.astype(np.float32), affine)
    kind = sitk.CenteredTransformInitializerFilter.MOMENTS
    starts = []
    for nod in NODS:
        start = sitk.Similarity3DTransform(
            sitk.CenteredTransformInitializer(fixed, moving, sitk.Similarity3DTransform(), kind)
        )
        start.SetRotation([1.0, 0.0, 0.0], np.deg2rad(nod).item())
        starts.append((_register(fixed, moving, start, [4], [8.0]), start))
    rough = min(starts, key=lambda found: found[0])[1]
    _register(fixed, moving, rough, [2], [4.0])
    full = sitk.AffineTransform(3)
    full.SetCenter(rough.GetCenter())
    full.SetMatrix(rough.GetMatrix())
    full.SetTranslation(rough.GetTranslation())
    _register(fixed, moving, full, [4, 2, 1], [6.0, 3.0, 1.0])
    # ITK's maps lead from the fixed image to the moving one, in LPS.
    return np.linalg.inv(TO_LPS @ matrix_of(full) @ TO_LPS)


def _register(fixed, moving, transform, shrink: list[int], sigmas: list[float]) -> float:
    """Changes a transform until images match, and returns how badly they do."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.25, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(sigmas)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return method.GetMetricValue()


def rigid_of(full: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Returns the rotation and shift (4, 4) that are nearest to an affine map, and the same at one point.

    Args:
        full: (4, 4). centre: (3,), the point, mm.

    References:
        Higham 1986, Computing the polar decomposition, with applications.

    Example:
        >>> rigid_of(np.diag([2.0, 2.0, 2.0, 1.0]), np.array([1.0, 0.0, 0.0])).tolist()[0]
        [1.0, 0.0, 0.0, 1.0]
    """
    rigid = np.eye(4)
    rigid[:3, :3] = linalg.polar(full[:3, :3])[0]
    rigid[:3, 3] = full[:3, :3] @ centre + full[:3, 3] - rigid[:3, :3] @ centre
    return rigid


def resample(volume: Volume, to_grid: np.ndarray, shape, affine: np.ndarray, fill: float, cubic: bool) -> np.ndarray:
    """Returns an image on another grid, float32, after a map of its world.

    Args:
        volume: the image.
        to_grid: (4, 4) from the image's world to the grid's, mm, RAS+.
        shape: of the grid. affine: (4, 4) of the grid.
        fill: value where the image shows nothing.
        cubic: by cubic splines, within the image's own range; linear otherwise.
    """
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkBSpline if cubic else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(float(fill))
    resampler.SetTransform(itk_transform(to_grid))
    zooms, directions, origin = _geometry(affine)
    resampler.SetSize([int(side) for side in shape])
    resampler.SetOutputSpacing(zooms)
    resampler.SetOutputDirection(directions)
    resampler.SetOutputOrigin(origin)
    array = from_itk(resampler.Execute(to_itk(volume.array.astype(np.float32), volume.affine)))
    return np.clip(array, volume.array.min(), volume.array.max())


def itk_transform(to_grid: np.ndarray) -> "SimpleITK.AffineTransform":
    """Returns a map between worlds (4, 4) as ITK and ANTs want it to resample images: the inverse, in LPS."""
    import SimpleITK as sitk

    pull = TO_LPS @ np.linalg.inv(to_grid) @ TO_LPS
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(pull[:3, :3].ravel().tolist())
    transform.SetTranslation(pull[:3, 3].tolist())
    return transform


def matrix_of(transform) -> np.ndarray:
    """Returns a linear transform of ITK as a matrix (4, 4)."""
    matrix, centre = np.eye(4), np.array(transform.GetCenter())
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def to_itk(array: np.ndarray, affine: np.ndarray) -> "SimpleITK.Image":
    """Returns an array (x, y, z) as an image of ITK."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    zooms, directions, origin = _geometry(affine)
    image.SetSpacing(zooms)
    image.SetDirection(directions)
    image.SetOrigin(origin)
    return image


def from_itk(image: "SimpleITK.Image") -> np.ndarray:
    """Returns the array (x, y, z) of an image of ITK, C order."""
    import SimpleITK as sitk

    return np.ascontiguousarray(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))


def affine_of(image: "SimpleITK.Image") -> np.ndarray:
    """Returns the voxel-to-world map (4, 4) of an image of ITK, RAS+."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return TO_LPS @ affine


def _geometry(affine: np.ndarray) -> tuple[Any, Any, Any]:
    """Returns voxel size, directions and origin of a voxel-to-world map, as ITK has them."""
    lps = TO_LPS @ affine
    zooms = np.sqrt((lps[:3, :3] ** 2).sum(axis=0))
    return zooms.tolist(), (lps[:3, :3] / zooms).ravel().tolist(), lps[:3, 3].tolist()
