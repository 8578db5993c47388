"""An active appearance model of volumes: one mean image, moved and shaded along principal components of each.

It is the linear counterpart of a decoder that morphs a template: as many numbers a person, all of them Gaussian.
"""

import copy
import dataclasses

import numpy as np
from scipy import linalg, ndimage

from mrigen.errors import UsageError
from mrigen.statistics.pca import PCAModel, fit_pca
from mrigen.statistics.registration import (
    inverse_field,
    lattice_blur,
    lattice_points,
    lattice_sides,
    read,
    register,
    spread,
)

# Of the numbers a person gets, the share that moves the image; the others shade it. Of 0.5, 0.75 and 1, validation
# heads of `ixi-hh` were told best by this one.
SHAPE_SHARE = 0.75
# Displacements are found on a lattice of about this many mm, in so many rounds.
LATTICE_MM, NUM_ROUNDS = 8.0, 2
# Gauss-Newton steps towards a person's numbers, on the lattice and then on voxels, and what gain ends them, nats.
COARSE_STEPS, FINE_STEPS, SMALLEST_GAIN = 10, 8, 10.0
# Voxels by which a person's numbers are found at most, drawn at random: thousands for each number. Errors and ELBO are
# of all voxels.
MOST_PLACES = 150_000
# Draws of a person whose displacements are worked out together.
ROWS_AT_ONCE = 9


@dataclasses.dataclass(frozen=True)
class AppearanceModel:
    """x(v) = (template + textures)(v + displacement(v)) + noise, textures and displacement linear in Gaussian numbers.

    Attributes:
        template: (x, y, z) float32.
        textures: of (x * y * z) values: images that are added to the template before it is moved.
        shapes: of (3 * lattice points) values: displacements in voxels, mean included.
        lattice: (3,) sides of the lattice on which displacements are known; it spans the grid from corner to corner.
        noise_variance: of one voxel.

    References:
        Cootes et al. 2001, Active appearance models, IEEE Trans. Pattern Anal. Mach. Intell. 23(6).
        Vercauteren et al. 2009, Diffeomorphic demons, NeuroImage 45(1) (the registration of the training people).
    """

    template: np.ndarray
    textures: PCAModel | None
    shapes: PCAModel
    lattice: tuple[int, int, int]
    noise_variance: float

    @property
    def num_numbers(self) -> int:
        """How many numbers a person has."""
        return len(self.variances)

    @property
    def variances(self) -> np.ndarray:
        """Prior variances of a person's numbers: those that move, then those that shade."""
        shades = np.zeros(0) if self.textures is None else self.textures.eigenvalues
        return np.concatenate([self.shapes.eigenvalues, shades])

    def calibrated(self, volumes: np.ndarray, inside: np.ndarray, seed: int = 0) -> "AppearanceModel":
        """Returns the model with the noise that makes the ELBO of `volumes` (people, x, y, z) largest."""
        error = self.infer(volumes, inside, num_draws=1, seed=seed)["squared_error"].mean()
        noisy = dataclasses.replace(self, noise_variance=float(error))
        error = noisy.infer(volumes, inside, seed=seed)["drawn_error"].mean()
        return dataclasses.replace(self, noise_variance=float(error))

    def infer(self, volumes: np.ndarray, inside: np.ndarray, num_draws: int = 8, seed: int = 0) -> dict:
        """Returns what the model makes of people that it is shown.

        The posterior of a person's numbers is taken as the Gaussian at its mode (Laplace), found by Gauss-Newton steps,
        on fine grids by a random part of the voxels that stands for all of them. Whatever that Gaussian is, `elbo_nats`
        lies below the log-likelihood of the image.

        Args:
            volumes: (people, x, y, z).
            inside: (voxels,) bool, those that count.
            num_draws: of the posterior, for the ELBO.
            seed: of the draws.

        Returns:
            numbers: (people, k); squared_error and drawn_error: (people,) means over the voxels that count, at the
            mode and over draws; elbo_nats: (people,).
        """
        coarse, every = _Places.of_lattice(self), _Places.voxels(self, inside)
        fine, chosen, count = every, np.arange(len(every.points)), len(every.points)
        if count > MOST_PLACES:
            chosen = np.sort(np.random.default_rng(seed).choice(count, MOST_PLACES, replace=False))
            fine = every.part(chosen)
        share = len(fine.points) / count
        generator = np.random.default_rng(seed)
        found: dict[str, list] = {name: [] for name in ("numbers", "squared_error", "drawn_error", "elbo_nats")}
        for volume in volumes:
            smooth = ndimage.gaussian_filter(volume, lattice_blur(self.template.shape, self.lattice))
            numbers = np.zeros(self.num_numbers)
            numbers = coarse.climb(read(smooth, coarse.points), numbers, self.noise_variance, COARSE_STEPS)[0]
            values = volume.ravel()[inside]
            numbers, precision = fine.climb(values[chosen], numbers, share * self.noise_variance, FINE_STEPS)
            factor = linalg.cholesky(precision, lower=True)
            noise = generator.normal(size=(num_draws, len(numbers)))
            draws = numbers + linalg.solve_triangular(factor, noise.T, lower=True, trans="T").T
            at_mode, *at_draws = every.squared_errors(values, np.vstack([numbers, draws]))
            drawn = np.mean(at_draws)
            covariance = np.square(linalg.solve_triangular(factor, np.eye(len(numbers)), lower=True)).sum(axis=0)
            kl = 0.5 * ((covariance + numbers**2) / self.variances + np.log(self.variances) - 1.0).sum()
            kl += np.log(np.diag(factor)).sum()
            nll = 0.5 * len(values) * (np.log(2.0 * np.pi * self.noise_variance) + drawn / self.noise_variance)
            found["numbers"].append(numbers)
            found["squared_error"].append(at_mode)
            found["drawn_error"].append(drawn)
            found["elbo_nats"].append(-nll - kl)
        return {name: np.array(values) for name, values in found.items()}


class _Places:
    """A model seen at some places: what it decodes there, and its derivatives.

    Args:
        model: the model.
        points: (places, 3) in voxels.
        blur: of template and textures, standard deviations in voxels, or None.
    """

    def __init__(self, model: AppearanceModel, points: np.ndarray, blur=None):
        self.points, self.sides = points, model.template.shape
        smooth = (lambda image: image) if blur is None else (lambda image: ndimage.gaussian_filter(image, blur))
        self.template = smooth(model.template).ravel()
        textures = () if model.textures is None else model.textures.components
        self.textures = np.array([smooth(each.reshape(self.sides)).ravel() for each in textures], np.float32)
        self.textures = self.textures.reshape(-1, self.template.size)
        spread_out = [spread(field, model.lattice, self.sides, points) for field in model.shapes.components]
        self.shapes = np.array(spread_out, np.float32)
        self.mean_shape = spread(model.shapes.mean, model.lattice, self.sides, points)
        self.variances = model.variances

    @classmethod
    def voxels(cls, model: AppearanceModel, inside: np.ndarray) -> "_Places":
        points = np.indices(model.template.shape, np.float32).reshape(3, -1).T
        return cls(model, points[inside])

    @classmethod
    def of_lattice(cls, model: AppearanceModel) -> "_Places":
        sides = model.template.shape
        return cls(model, lattice_points(model.lattice, sides), lattice_blur(sides, model.lattice))

    def part(self, chosen: np.ndarray) -> "_Places":
        """Returns the model seen at the places numbered in `chosen`."""
        places = copy.copy(self)
        places.points, places.mean_shape = self.points[chosen], self.mean_shape[chosen]
        places.shapes = np.take(self.shapes, chosen, axis=1)  # In one block of memory, unlike an index.
        return places

    def _split(self, numbers):
        numbers = numbers.astype(np.float32)
        return numbers[: len(self.shapes)], numbers[len(self.shapes) :]

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the image at the places, (places,) float32."""
        moves = self._split(numbers)[0]
        return self._image(numbers, self.points + self.mean_shape + np.tensordot(moves, self.shapes, 1))

    def _image(self, numbers, places):
        shades = self._split(numbers)[1]
        return read((self.template + shades @ self.textures).reshape(self.sides), places)

    def squared_errors(self, values: np.ndarray, numbers: np.ndarray) -> list[float]:
        """Returns the mean squared error of an image's `values` (places,) under each row of `numbers` (n, k)."""
        found = []
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            rows = numbers[start : start + ROWS_AT_ONCE].astype(np.float32)
            fields = np.tensordot(rows[:, : len(self.shapes)], self.shapes, 1)
            for row, field in zip(rows, fields, strict=True):
                image = self._image(row, self.points + self.mean_shape + field)
                found.append(np.square(values - image).mean(dtype=np.float64))
        return found

    def climb(self, values: np.ndarray, numbers: np.ndarray, noise: float, num_steps: int):
        """Returns the numbers nearer to the mode of the posterior of an image, and the precision (k, k) there.

        Args:
            values: (places,) the image.
            numbers: (k,) where to begin.
            noise: variance of one value.
            num_steps: at most.
        """

        def loss(numbers):
            error = np.square(values - self.decode(numbers)).sum(dtype=np.float64)
            return 0.5 * (error / noise + (numbers**2 / self.variances).sum())

        before = loss(numbers)
        for step in range(num_steps + 1):
            slope, precision = self._derivatives(values, numbers, noise)
            if step == num_steps:
                break
            move, length = linalg.solve(precision, slope, assume_a="pos"), 1.0
            while length > 0.05 and not (after := loss(numbers + length * move)) < before:
                length /= 2.0
            if not length > 0.05:
                break
            numbers, gain, before = numbers + length * move, before - after, after
            if gain < SMALLEST_GAIN:
                slope, precision = self._derivatives(values, numbers, noise)
                break
        return numbers, precision

    def _derivatives(self, values, numbers, noise):
        """Returns the slope (k,) of the log-posterior and the precision (k, k), without second derivatives."""
        moves, shades = self._split(numbers)
        places = self.points + self.mean_shape + np.tensordot(moves, self.shapes, 1)
        image = (self.template + shades @ self.textures).reshape(self.sides)
        slopes = np.gradient(image)
        jacobian = np.empty((self.num_numbers, len(values)), np.float32)
        shaded = jacobian[len(moves) :]
        jacobian[: len(moves)] = sum(self.shapes[:, :, axis] * read(slopes[axis], places) for axis in range(3))
        for row, texture in zip(shaded, self.textures, strict=True):
            row[:] = read(texture.reshape(self.sides), places)
        residual = values - read(image, places)
        slope = jacobian @ residual / noise - numbers / self.variances
        return slope, (jacobian @ jacobian.T).astype(np.float64) / noise + np.diag(1.0 / self.variances)

    @property
    def num_numbers(self) -> int:
        return len(self.variances)


def fit_appearance(
    volumes: np.ndarray, num_numbers: int, zooms=(4.0, 4.0, 4.0), moves: np.ndarray | None = None
) -> AppearanceModel:
    """Returns the active appearance model of people, whom it registers to their common mean.

    Args:
        volumes: (people, x, y, z) float32.
        num_numbers: numbers a person, of which three quarters move and the others shade.
        zooms: voxel size in mm.
        moves: (number, 3, 4) how heads may lie elsewhere: displacement = move @ (place from the middle, 1), voxels.
            People are also taught as moved by these, in turn.

    Raises:
        UsageError: fewer than 2 people, or fewer than 2 numbers.
    """
    if len(volumes) < 3 or num_numbers < 2:
        raise UsageError(
            f"fit_appearance: got {len(volumes)} people and {num_numbers} numbers each, expected at least 3 and 2. "
            "Give more."
        )
    sides = volumes.shape[1:]
    lattice = lattice_sides(sides, zooms, LATTICE_MM)
    points, blur = lattice_points(lattice, sides), lattice_blur(sides, lattice)
    template = volumes.mean(axis=0)
    fields = np.zeros((len(volumes), len(points), 3), np.float32)
    every_voxel = np.indices(sides, np.float32).reshape(3, -1).T
    for _ in range(NUM_ROUNDS):
        target = ndimage.gaussian_filter(template, blur)
        for volume, field in zip(volumes, fields, strict=True):
            field[:] = register(ndimage.gaussian_filter(volume, blur), target, field, points, lattice)
        fields -= fields.mean(axis=0)
        laid = np.stack(
            [
                read(
                    volume, every_voxel + spread(inverse_field(field, points, lattice, sides), lattice, sides), order=3
                )
                for volume, field in zip(volumes, fields, strict=True)
            ]
        )
        template = laid.mean(axis=0).reshape(sides)
    num_moving = min(max(1, round(SHAPE_SHARE * num_numbers)), num_numbers - 1)
    shapes = fit_pca(_with_moves(fields, points, sides, moves), num_moving)
    num_shading = min(num_numbers - len(shapes.components), len(volumes) - 1)
    textures = fit_pca(laid, num_shading)
    noise = max(float(np.square(laid - textures.reconstruct(laid)).mean()), 1e-6)
    return AppearanceModel(template, textures, shapes, lattice, noise)


def _with_moves(fields, points, sides, moves):
    fields = fields.reshape(len(fields), -1)
    if moves is None or not len(moves):
        return fields
    places = np.concatenate([points - (np.array(sides) - 1) / 2.0, np.ones((len(points), 1))], axis=1)
    moved = np.stack([(places @ move.T).ravel() for move in moves]).astype(np.float32)
    return np.concatenate([fields, fields[np.arange(len(moves)) % len(fields)] + moved])
