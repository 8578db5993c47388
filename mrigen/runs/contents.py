"""What the JSON files of a run may hold: looked at once, when they are read, so that whoever reads on need not ask."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrigen.errors import RunError
from mrigen.schema import short

Number = Annotated[float, Field(allow_inf_nan=False)]
Figure = Number | None
Whole = Annotated[int, Field(ge=0)]
Count = Whole | None
# A figure, or several by name, such as those of people who were not copied.
Block = dict[str, Figure | dict[str, Figure]]
REPAIR = "Restore the file, or fit again."
_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "finite": "a number",
    "dict": "keys and values",
    "string": "text",
    "model": "keys and values",
}


class _Content(BaseModel):
    """What is known of a file; other keys may hold anything."""

    model_config = ConfigDict(strict=True, extra="allow")


class Performance(_Content):
    """What a fit took."""

    seconds: Number = 0.0
    peak_rss_mb: Number = 0.0
    volumes_per_second: Figure = None
    data_wait_share: Figure = None


class Figures(_Content):
    """What is known of some people; other keys may hold as much of fewer of them."""

    __pydantic_extra__: Block = Field(init=False)

    mse: Figure = None
    psnr: Figure = None
    explained_variance: Figure = None
    elbo_nats: Figure = None
    shuffled_gap_nats: Figure = None
    loglik_nats: Figure = None
    loglik_calibrated_nats: Figure = None


class Metrics(_Content):
    """metrics.json."""

    heldout: Figures = Figures()
    validation: Figures = Figures()
    pca: Figures = Figures()
    appearance_model: Figures = Figures()
    told_by_latents: dict[str, dict[str, Figure]] = {}
    told_by_unseen: dict[str, dict[str, Figure]] = {}
    num_subjects: dict[str, Whole] = {}
    performance: Performance = Performance()
    kl_nats: Figure = None
    active_units: Count = None
    latent_dim: Whole = 0
    decoder_sigma: Figure = None
    residual_rmse: Figure = None
    epochs: Whole = 0
    best_epoch: Whole = 0
    precision: str = ""


class Facts(_Content):
    """run.json."""

    recipe: str = ""
    settings: dict[str, Any] = {}
    precision: str = ""
    precision_reason: str = ""
    data_fingerprint: str = ""


class Keys(dict):
    """The keys of a file; one that is missing is told with the file's name."""

    def __init__(self, content=(), place: str = ""):
        super().__init__(content)
        self.place = place

    def __missing__(self, key):
        raise RunError(f"{self.place}: no {key}, expected it as a fit writes it. {REPAIR}")


def with_place(content: Any, place: str) -> Any:
    """Returns what a file holds with dictionaries that tell which of their keys is missing."""
    if not isinstance(content, dict):
        return content
    return Keys({key: with_place(value, f"{place}: {key}") for key, value in content.items()}, place)


def check_figures(content: Keys, *names: str) -> None:
    """Refuses figures that a model of this kind has, and that are not there: those of another run.

    Raises:
        RunError: one line a figure.
    """
    missing = [name for name in names if content[name] is None]
    if missing:
        raise RunError([f"{content.place}: {name}: got None, expected a number. {REPAIR}" for name in missing])


def check_content(content: dict[str, Any], kind: type[_Content], path: Path) -> None:
    """Refuses values of another type than a fit writes.

    Raises:
        RunError: one line a value.
    """
    try:
        kind.model_validate(content)
    except ValidationError as error:
        places: dict[str, str] = {}
        for item in error.errors():
            names = [str(part) for part in item["loc"]]
            # Between and behind the names stand the members of a union that were tried.
            names = names[:1] + [name for name in names[1:] if "[" not in name]
            while len(names) > 1 and names[-1] in ("float", "int"):
                names.pop()
            expected = _EXPECTED.get(item["type"].partition("_")[0], "another value")
            places.setdefault(".".join(names), f"got {short(item['input'])}, expected {expected}. {REPAIR}")
        raise RunError([f"{path}: {place}: {text}" for place, text in places.items()]) from None
