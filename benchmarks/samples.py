"""How good a run's samples are: python -m benchmarks.samples RUN [DENSITY]

Draws 50 heads from a density (auto unless told otherwise) and prints, beside the same figure of the training heads:

- sharpness: the mean gradient magnitude inside the head; noise in real heads counts, so also against denoised ones;
- folding (morph): the share of head voxels whose Jacobian determinant is above 0;
- diversity: the mean MS-SSIM (3-D, three scales) of 200 random pairs;
- novelty: the distance to the nearest training head, beside that of reconstructions of held-out heads, and the
  one-sided Mann-Whitney p of samples being closer.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from mrigen.data.dataset import open_dataset
from mrigen.data.pipeline import read_volumes
from mrigen.generation.densities import choose_density
from mrigen.layers import jacobian_determinant
from mrigen.runs import open_run
from mrigen.runs.encoding import decode_batches

# Width of a voxel's neighbourhood in the structural similarity, and what keeps its ratios finite (Wang 2004).
SSIM_SIGMA, SSIM_TRUNCATE, SSIM_C1, SSIM_C2 = 1.5, 2.0, 0.01**2, 0.03**2
NUM_SCALES = 3
NUM_PAIRS = 200
NUM_SAMPLES = 50


def sharpness(volumes: np.ndarray, inside: np.ndarray) -> float:
    """Returns the mean gradient magnitude of `volumes` (n, x, y, z) inside a mask (x, y, z), per voxel."""
    return float(np.mean([np.linalg.norm(np.gradient(volume), axis=0)[inside].mean() for volume in volumes]))


def denoise(volume: np.ndarray) -> np.ndarray:
    """Returns `volume` with its noise median-filtered away (3 x 3 x 3)."""
    return ndimage.median_filter(volume, 3)


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the multi-scale structural similarity of two volumes in [0, 1]: window of 7 voxels, three scales.

    References:
        Wang et al. 2003, Multi-scale structural similarity for image quality assessment, equation 7 (equal weights).
    """
    product = 1.0
    for scale in range(NUM_SCALES):
        contrast, whole = _similarity(a, b)
        last = scale == NUM_SCALES - 1
        product *= max(whole if last else contrast, 0.0) ** (1.0 / NUM_SCALES)
        a, b = (ndimage.uniform_filter(volume, 2)[1::2, 1::2, 1::2] for volume in (a, b))
    return float(product)


def _similarity(a, b):
    def blur(values):
        return ndimage.gaussian_filter(values, SSIM_SIGMA, truncate=SSIM_TRUNCATE)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    contrast = (2 * (blur(a * b) - mean_a * mean_b) + SSIM_C2) / (var_a + var_b + SSIM_C2)
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    return contrast.mean(), (contrast * luminance).mean()


def mean_ms_ssim(volumes: np.ndarray, generator: np.random.Generator) -> float:
    """Returns the mean MS-SSIM of random pairs of different volumes."""
    pairs = [generator.choice(len(volumes), 2, replace=False) for _ in range(NUM_PAIRS)]
    return float(np.mean([ms_ssim(volumes[i], volumes[j]) for i, j in pairs]))


def nearest(volumes: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Returns the mean squared error of each of `volumes` to the nearest of `training`."""
    return np.array([np.mean((training - volume) ** 2, axis=(1, 2, 3)).min() for volume in volumes])


def main() -> None:
    """Prints the figures."""
    run = open_run(Path(sys.argv[1]))
    dataset = open_dataset(run.recipe, run.split)
    training = read_volumes(dataset.cache, dataset.rows("train"))
    model = run.load_model()
    generator = np.random.default_rng(0)
    density = choose_density(run, model, sys.argv[2] if len(sys.argv) > 2 else "auto")
    print(f"density: {density.name}")
    batches = list(decode_batches(model, np.stack([density.draw(generator, 1.0) for _ in range(NUM_SAMPLES)])))
    samples = np.clip(np.concatenate([parts["reconstruction"][..., 0] for parts in batches]), 0.0, 1.0)
    inside = training.mean(axis=0) > 0.15
    denoised = np.stack([denoise(volume) for volume in training])
    real, clean, ours = (sharpness(volumes, inside) for volumes in (training, denoised, samples))
    print(f"sharpness: samples {ours:.4f}, {ours / real:.3f} of real heads, {ours / clean:.3f} of denoised ones")
    if "displacement" in batches[0]:
        positive = [(jacobian_determinant(parts["displacement"]).numpy() > 0)[:, inside].mean() for parts in batches]
        print(f"folding: {100 * np.mean(positive):.4f} % of head voxels have a positive Jacobian determinant")
    print(
        f"MS-SSIM: samples {mean_ms_ssim(samples, generator):.3f}, real {mean_ms_ssim(training, generator):.3f}, "
        f"denoised {mean_ms_ssim(denoised, generator):.3f}"
    )
    latents = run.load_latents()["loc"][dataset.rows("heldout")]
    reconstructed = np.concatenate([parts["reconstruction"][..., 0] for parts in decode_batches(model, latents)])
    of_samples, of_heldout = nearest(samples, training), nearest(np.clip(reconstructed, 0, 1), training)
    closer = stats.mannwhitneyu(of_samples, of_heldout, alternative="less").pvalue
    print(
        f"nearest training head (MSE): samples {np.median(of_samples):.5f}, held-out reconstructions "
        f"{np.median(of_heldout):.5f}; p of samples being closer {closer:.3g}"
    )


if __name__ == "__main__":
    main()
