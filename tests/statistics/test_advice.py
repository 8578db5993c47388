"""What is advised about a collapse: nothing that is set already, and nothing that cannot help there."""

import pytest

from mrigen.recipe import load_recipe
from mrigen.statistics.collapse import Course, Forecast, advise, collapse_of_figures, has_collapsed

LONG = Course(epochs=60, best_epoch=40, steps=11)


def forecast(num_directions, num_people=90, latent_size=64):
    return Forecast(num_directions, latent_size, num_people, 1.0, 1.0)


def advice(*changes, course=LONG, told=None, recipe="vae"):
    epochs = () if any(change.startswith("training.epochs") for change in changes) else ("training.epochs=60",)
    return advise(load_recipe(recipe, [*changes, *epochs]), course, told)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["model.objective=paper"], "Use `model.objective=elbo`."),
        (
            ["model.objective=paper", "model.decoder_sigma=1.0", "model.beta=4"],
            "Use `model.objective=elbo` and `model.decoder_sigma=optimal` and `model.beta=1`.",
        ),
        (["model.beta=1000"], "Use `model.beta=1`."),
        (["model.decoder_sigma=2.0"], "Use `model.decoder_sigma=optimal`."),
        (["model.decoder_sigma=2.0", "model.likelihood=student"], "Use `model.decoder_sigma=learned`."),
        (["model.objective=capacity", "model.capacity_nats=1"], "Use `model.capacity_nats=100`."),
        (["model.objective=tc"], "Use `model.tc_weight=1`."),
    ],
)
@pytest.mark.parametrize("told", [None, forecast(0)])
def test_what_costs_too_much_is_named_and_nothing_else(changes, expected, told):
    assert advice(*changes, told=told) == expected
    assert advice(*changes, told=told, course=None) == expected


@pytest.mark.parametrize("changes", [["model.beta=2"], ["model.decoder_sigma=0.05"]])
def test_what_leaves_room_is_not_at_fault(changes):
    said = advice(*changes, told=forecast(40))
    assert "model.beta" not in said and "decoder_sigma" not in said


def test_two_epochs_are_too_few_to_tell():
    said = advice("training.epochs=2", course=Course(2, 2, 2), told=forecast(20))
    assert said == "It was trained for 4 steps only: raise `training.epochs` (now 2)."


def test_the_repairs_come_one_after_the_other():
    room = forecast(40)
    assert "`training.kl_warmup_epochs=6`" in advice(told=room)
    assert "`model.free_bits=0.1`" in advice("training.kl_warmup_epochs=6", told=room)
    last = advice("training.kl_warmup_epochs=6", "model.free_bits=0.5", told=room)
    assert "training.learning_rate" in last and "free_bits" not in last and "kl_warmup" not in last
    assert "free_bits" not in advice(
        "training.kl_warmup_epochs=6", "model.objective=iw", "model.num_draws=2", told=room
    )


def test_a_fit_that_was_ended_is_told_to_go_on():
    ended = Course(12, 9, 11)
    said = advice("training.on_collapse=stop", course=ended, told=forecast(40))
    assert said == "The fit ended after 12 of 60 epochs: use `training.on_collapse=warn` to let it go on."
    said = advice(course=Course(50, 40, 100), told=forecast(40))
    assert said.startswith("The fit ended after 50 of 60 epochs. Use `training.kl_warmup_epochs=6`")


def test_where_the_data_carry_no_more_the_objective_is_left_alone():
    three = Course(60, 40, 11, num_active=2)
    assert "`model.latent_dim=3`" in advice(told=forecast(3), course=three)
    assert "`model.latent_dim=3`" in advice(told=forecast(3), course=None)
    assert "look at the images" in advice(told=forecast(0))
    assert "3 people differ in 2 directions at most" in advice(told=forecast(2, num_people=3), course=None)


def test_the_advice_is_valid():
    """Each setting that is advised is one that a recipe takes."""
    import re

    for changes in (["model.objective=paper", "model.decoder_sigma=3", "model.beta=2"], ["model.objective=tc"], []):
        said = advice(*changes, told=forecast(0) if changes else forecast(40))
        settings = re.findall(r"`([\w.]+=[^`]+)`", said)
        assert settings
        load_recipe("vae", [*changes, *settings])


@pytest.mark.parametrize("recipe", ["vae", "morph", "demo"])
def test_it_is_for_every_family(recipe):
    assert advice("model.objective=paper", "model.refinement_steps=0", recipe=recipe) == "Use `model.objective=elbo`."


def test_few_people_cannot_make_many_variables_active():
    assert has_collapsed(104, 3360) and not has_collapsed(104, 3360, num_people=89)
    assert has_collapsed(0, 8, num_people=2)
    figures = {"kl_nats": 1.0, "active_units": 0, "latent_dim": 8, "num_subjects": {"train": 17}}
    assert collapse_of_figures(figures) == (0, 8)
    assert collapse_of_figures(figures | {"active_units": 5}) is None
    assert collapse_of_figures(figures | {"kl_nats": None}) is None
    assert collapse_of_figures({}) is None
