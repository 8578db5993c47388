"""The latents of a model as features for scikit-learn."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from mrigen.api.cohorts import images_in
from mrigen.api.fitting import fit
from mrigen.api.settings import RecipeLike


class MrigenEncoder(TransformerMixin, BaseEstimator):
    """A scikit-learn transformer from images to latents: `fit` trains a model, `transform` encodes.

    It is given lists of images (paths or nibabel images), or data frames with a column of them. In a cross-validation
    the model is trained anew on the training part of each fold, so that nothing is learned from whom it is tested on.
    The people that `fit` gets are divided by the recipe's own split; `heldout=0.0, train=0.9` (or the like) leaves out
    nobody who is not needed.

    Args:
        recipe: as of `mrigen.fit`.
        directory: of the run; a new one under runs/ if None, which is what a cross-validation needs.
        force: whether an older run in `directory` is replaced, as when one estimator is fitted twice.
        **settings: changes of the recipe, as of `mrigen.fit`.

    Attributes:
        run_: the `Run` of the model.
        n_features_out_: number of latent variables.

    Example:
        >>> encoder = MrigenEncoder("vae", epochs=20)
        >>> encoder.get_params()["epochs"]
        20
        >>> latents = encoder.fit(paths).transform(paths)  # doctest: +SKIP
    """

    def __init__(self, recipe: RecipeLike = "vae", *, directory=None, force: bool = False, **settings: Any):
        self.recipe = recipe
        self.directory = directory
        self.force = force
        for name, value in settings.items():
            setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the arguments of the estimator, its settings among them."""
        # As in all of scikit-learn, what a fit finds ends in "_".
        return {name: value for name, value in vars(self).items() if not (name.startswith("_") or name.endswith("_"))}

    def set_params(self, **params: Any) -> "MrigenEncoder":
        """Changes arguments and settings; a key of a recipe that was not set before is one, too."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X, y=None) -> "MrigenEncoder":
        """Trains the model on images.

        Args:
            X: a list of images, or a data frame with a column of paths (and of sex, age, site and family, as far as
                known). y: is not used.
        """
        images_in(X)
        settings = self.get_params()
        self.run_ = fit(settings.pop("recipe"), X, **settings)
        self.n_features_out_ = self.run_.latents.shape[1]
        return self

    def transform(self, X) -> np.ndarray:
        """Returns the posterior means of images, (images, latent) float32."""
        check_is_fitted(self)
        return self.run_.encode(images_in(X))[self.run_.latents.columns].to_numpy(dtype=np.float32)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Returns loc_001, loc_002, ..., the columns of `Run.latents`."""
        check_is_fitted(self)
        return self.run_.latents.columns.to_numpy(dtype=object)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags
