"""MONAI's datasets, and plain nibabel with SciPy."""

import concurrent.futures
import itertools

import numpy as np

from benchmarks.loaders import PERCENTILES, VOLUME_SHAPE, ZOOMS, image_paths, timed_epochs
from benchmarks.machine import num_cores
from benchmarks.worker import without_tensorflow

# Before halving the resolution, what takes a voxel's width (as a Gaussian's) from 2 to 4 mm; in voxels of 2 mm.
SIGMA = float(np.sqrt((ZOOMS[0] / 2.0) ** 2 - 1.0) / np.sqrt(8.0 * np.log(2.0)))


def monai_persistent(files, folder, batch_size, min_seconds):
    """PersistentDataset: prepared by the workers of the first epoch, then read from disk."""
    without_tensorflow()
    from monai.data import PersistentDataset

    def dataset(paths, transform, fresh):
        return PersistentDataset(paths, transform, cache_dir=fresh)

    return _monai(dataset, files, folder, batch_size, min_seconds)


def monai_cached(files, folder, batch_size, min_seconds):
    """CacheDataset: prepared before the first epoch, then held in memory."""
    without_tensorflow()
    from monai.data import CacheDataset

    def dataset(paths, transform, fresh):
        return CacheDataset(paths, transform, num_workers=num_cores(), progress=False)

    return _monai(dataset, files, folder, batch_size, min_seconds)


def nibabel_scipy(files, folder, batch_size, min_seconds):
    """No cache: every epoch reads and resamples the files again, in threads."""
    paths = image_paths(files)

    def open_epochs(fresh):
        def batches():
            with concurrent.futures.ThreadPoolExecutor(num_cores()) as pool:
                volumes = pool.map(_prepare, paths)
                for _ in range(0, len(paths), batch_size):
                    yield np.stack(list(itertools.islice(volumes, batch_size)))

        return batches

    return timed_epochs(open_epochs, len(paths), folder, min_seconds)


def _monai(make_dataset, files, folder, batch_size, min_seconds):
    without_tensorflow()
    from monai import transforms
    from monai.data import DataLoader

    paths = [str(path) for path in image_paths(files)]
    transform = transforms.Compose(
        [
            transforms.LoadImage(ensure_channel_first=True),
            transforms.Orientation("RAS"),
            transforms.GaussianSmooth(SIGMA),
            transforms.Spacing(ZOOMS, mode="bilinear", padding_mode="zeros"),
            transforms.ScaleIntensityRangePercentiles(*PERCENTILES, 0.0, 1.0, clip=True),
            transforms.ResizeWithPadOrCrop(VOLUME_SHAPE),
        ]
    )

    def open_epochs(fresh):
        dataset = make_dataset(paths, transform, fresh)
        loader = DataLoader(dataset, num_cores(), batch_size=batch_size, shuffle=True, persistent_workers=True)
        return lambda: loader

    return timed_epochs(open_epochs, len(paths), folder, min_seconds)


def _prepare(path) -> np.ndarray:
    """Returns an image on the grid (x, y, z) float32 in [0, 1], centred on the field of view."""
    import nibabel
    from scipy import ndimage

    image = nibabel.as_closest_canonical(nibabel.load(path))
    array = np.asarray(image.dataobj, dtype=np.float32)
    low, high = np.percentile(array, PERCENTILES)
    array = np.clip((array - low) / (high - low), 0.0, 1.0)
    steps = np.asarray(ZOOMS) / image.header.get_zooms()[:3]
    offset = (np.asarray(array.shape) - 1) / 2.0 - steps * (np.asarray(VOLUME_SHAPE) - 1) / 2.0
    smooth = ndimage.gaussian_filter(array, SIGMA)
    return ndimage.affine_transform(smooth, steps, offset, output_shape=VOLUME_SHAPE, order=1)
