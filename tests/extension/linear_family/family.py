"""The family `linear`: what a recipe may say of it. Imports no TensorFlow."""

from typing import ClassVar, Literal

from mrigen.models import ModelFamily, ModelRecipe
from mrigen.schema import key


class LinearRecipe(ModelRecipe):
    """A linear decoder and a prior of its own."""

    has_likelihood: ClassVar[bool] = True
    has_prior: ClassVar[bool] = True

    kind: Literal["linear"] = key("linear", "linear", "The model family.")
    prior_width: float = key(1.0, "a number > 0", "Standard deviation of the prior.", gt=0)

    @property
    def objective_name(self) -> str:
        return "elbo"

    @property
    def watched_figure(self) -> str:
        return "elbo_nats"


FAMILY = ModelFamily(LinearRecipe, "linear_family.model:LinearModel")
