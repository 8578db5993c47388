"""The keys of `training`: how the network is trained, and how its volumes are changed at random."""

from typing import Literal

from pydantic import PositiveInt

from mrigen.schema import Section, key

# More than anybody has the time for: a number with more digits is a slip.
MOST_EPOCHS = 1000000
EPOCHS = f"an integer from 1 to {MOST_EPOCHS}"


class AugmentRecipe(Section):
    shift: float = key(6.0, "millimetres from 0 to 1000", "Largest shift along each axis.", ge=0, le=1000)
    rotation: float = key(4.0, "degrees from 0 to 45", "Largest rotation about each axis.", ge=0, le=45)
    scaling: float = key(
        0.0,
        "a fraction from 0 to 0.5",
        "Largest change of size. Off by default: it hides head size, and with it much of the sex signal.",
        ge=0,
        le=0.5,
    )
    flip: bool = key(
        False,
        "true or false",
        "Mirror left and right at random. Off by default: it erases asymmetry from the latents.",
    )
    intensity: float = key(0.08, "a fraction from 0 to 0.5", "Largest change of gain.", ge=0, le=0.5)
    bias_field: float = key(
        0.08, "a fraction from 0 to 0.5", "Strength of a smooth change of gain, (1 + it) squared at most.", ge=0, le=0.5
    )
    noise: float = key(
        0.01, "a number from 0 to 0.5", "Largest standard deviation of added noise, [0, 1] scale.", ge=0, le=0.5
    )


class TrainingRecipe(Section):
    epochs: int = key(100, EPOCHS, "How often every training subject is seen.", ge=1, le=MOST_EPOCHS)
    batch_size: int = key(8, "an integer from 1 to 65536", "Subjects a step, over all devices.", ge=1, le=65536)
    devices: Literal["auto"] | PositiveInt = key(
        "auto",
        "auto, or an integer >= 1",
        "GPUs of each worker; auto takes all that it sees. On CPU auto is 1, and more are logical devices: for tests.",
    )
    workers: Literal["auto"] | PositiveInt = key(
        "auto",
        "auto, or an integer >= 1",
        "Processes of the fit, on one or several machines; auto takes what SLURM or TF_CONFIG says.",
    )
    learning_rate: float = key(1e-3, "a number > 0 and up to 10", "Step size of Adam at the start.", gt=0, le=10)
    schedule: Literal["constant", "cosine"] = key(
        "cosine", "one of constant, cosine", "How the learning rate falls: not at all, or to a hundredth by cosine."
    )
    clip_norm: float | None = key(
        None,
        "a number > 0 and up to 1e30, or null",
        "Largest norm of the whole gradient; null does not clip.",
        gt=0,
        le=1e30,
    )
    kl_warmup_epochs: int = key(
        0,
        f"an integer from 0 to {MOST_EPOCHS}",
        "vae: epochs over which the KL weight rises from 0; 0 for a constant one.",
        ge=0,
        le=MOST_EPOCHS,
    )
    kl_cycles: int = key(
        1,
        EPOCHS,
        "vae: times that it rises anew, equally spaced over the epochs (cyclical schedule).",
        ge=1,
        le=MOST_EPOCHS,
    )
    early_stopping_epochs: int | None = key(
        None,
        f"{EPOCHS}, or null",
        "Stop after this many epochs without a better validation loss.",
        ge=1,
        le=MOST_EPOCHS,
    )
    on_collapse: Literal["warn", "stop"] = key(
        "warn",
        "warn or stop",
        "vae: what to do when hardly a latent variable is active after a fifth of the epochs: say so, or end the fit.",
    )
    start_from: str | None = key(
        None,
        "the folder of a finished run, or null",
        "Start with the weights of a run of the same model, on its grid or on a finer one over the same field of view.",
    )
    seed: int = key(
        0, "an integer from 0 to 2147483647", "Seed of weights, order, augmentation and noise.", ge=0, le=2**31 - 1
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto",
        "one of auto, float32, bfloat16, float16",
        "Compute type of the layers; auto takes bfloat16 where the hardware has it.",
    )
    trackers: list[Literal["mlflow", "wandb"]] = key(
        [],
        "a list of mlflow, wandb",
        "Trackers that get every epoch's figures, beside the run's own files; each is an extra of the installation.",
    )
    augment: AugmentRecipe | None = key(
        AugmentRecipe, "a block of keys, or null", "Random changes of training volumes; null for none."
    )
