"""A whole recipe: the keys of its five blocks, and what must hold between them."""

from pydantic import model_validator

from mrigen.models.family import ModelBlock
from mrigen.models.vae.keys import VAERecipe
from mrigen.recipe.data_keys import DataRecipe, PreprocessRecipe
from mrigen.recipe.detail_keys import DetailRecipe
from mrigen.recipe.training_keys import TrainingRecipe
from mrigen.schema import Section, fault, key


class Recipe(Section):
    """Everything a fit needs."""

    data: DataRecipe = key(DataRecipe, "a block of keys", "Who is in the cohort, and how it is divided.")
    preprocess: PreprocessRecipe = key(PreprocessRecipe, "a block of keys", "What an image becomes.")
    model: ModelBlock = key(VAERecipe, "a block of keys", "The network and its objective.")
    training: TrainingRecipe = key(TrainingRecipe, "a block of keys", "How the network is trained.")
    detail: DetailRecipe = key(DetailRecipe, "a block of keys", "What is drawn beside what the network decodes.")

    @model_validator(mode="after")
    def _centre_has_a_mask(self):
        masks = [cohort.mask for cohort in self.data.cohorts] or [self.data.mask]
        if self.preprocess.centre == "mask" and self.data.source == "files" and None in masks:
            raise fault("got preprocess.centre: mask without a mask, expected data.mask. Name the masks, or set auto.")
        return self
