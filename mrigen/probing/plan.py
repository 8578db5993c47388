"""What a probe does beyond its usual rows."""

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TypeVar

from mrigen.errors import Fault, UsageError

CLASSIFIERS = ("logistic", "svm_linear", "svm_rbf", "forest", "knn", "lda")
HARMONISED = ("site",)

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class ProbePlan:
    """What is asked, and which rows and protocols are added.

    Attributes:
        target: column of the cohort's table; text is classes, numbers are numbers.
        confounds: columns (or head_size) for the rows `confounds`, `confounds_and_latents`, `latents_deconfounded`,
            `pca_deconfounded`; of two classes `voxel_svm_linear_deconfounded` and, with head_size or brain_volume_ml,
            `latents_size_matched`.
        reliability: confound -> the share of its variance over people that is true: a number above 0 and up to 1;
            another column that measures the same; or 'visits', where people's later visits do. Without it, rows say
            what would follow from less reliable measures.
        harmonise: 'site' for the row `latents_harmonised`, and for how well the site can be predicted with and without
            it.
        classifiers: of `CLASSIFIERS`: rows `latents_<name>`. The row `latents` is `logistic` already.
        untrained: whether to add the row `untrained`: latents of the same architecture before any training.
        cnn: whether to add the row `cnn`: a network that is fitted to the target itself, in one repeat.
        against: folder of another run of the same people and split, for the row `latents_of_<its name>`; or None.
        registration: pattern of the paths of registration matrices (see `registration_log_det`), whose log-determinant
            joins the confounds; or None.
        leave_site_out: whether to add the protocol whose folds are sites.
        permutations: of the labels, for the p-value of `latents`; 0 for none.
        jobs: processes for the permutations; -1 for all processors.
        learning_curve: whether to repeat the cross-validation with fewer people to learn from.

    Raises:
        UsageError: a field that has no such value.

    Example:
        >>> ProbePlan("age", confounds=["sex", "head_size"]).confounds
        ('sex', 'head_size')
    """

    target: str = "sex"
    confounds: Sequence[str] = ()
    reliability: Mapping[str, float | str] = dataclasses.field(default_factory=dict)
    harmonise: str | None = None
    classifiers: Sequence[str] = ()
    untrained: bool = False
    cnn: bool = False
    against: str | os.PathLike | None = None
    registration: str | None = None
    leave_site_out: bool = False
    permutations: int = 0
    jobs: int = -1
    learning_curve: bool = False

    def __post_init__(self):
        for name in ("confounds", "classifiers"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        faults = [
            Fault(f"got {name}, expected some of {', '.join(CLASSIFIERS)}. Choose among these.", "classifiers")
            for name in self.classifiers
            if name not in CLASSIFIERS
        ]
        object.__setattr__(self, "reliability", dict(self.reliability))
        measured = (*self.confounds, *(["registration_log_det"] if self.registration else []))
        for name, value in self.reliability.items():
            if name not in measured:
                faults.append(
                    Fault(f"got {name}, expected some of the confounds ({', '.join(measured) or 'there are none'}). "
                          "Leave it out, or name it as a confound.", "reliability")
                )  # fmt: skip
            elif not isinstance(value, str) and not (_is_number(value) and 0.0 < value <= 1.0):
                faults.append(
                    Fault(f"got {value!r}, expected the share of its variance that is true, above 0 and up to 1, "
                          "or another column. Write for example 0.8.",
                          f"reliability={name!r}")
                )  # fmt: skip
        if self.harmonise not in (None, *HARMONISED):
            faults.append(Fault(f"got {self.harmonise}, expected site. Write `harmonise='site'`.", "harmonise"))
        if self.target in self.confounds:
            faults.append(
                Fault(f"got {self.target}, which is the target, expected other columns. Leave it out.", "confounds")
            )
        if self.harmonise == self.target:
            faults.append(
                Fault(
                    f"got {self.target}, which is the target, expected another target. Leave out `harmonise`.",
                    "harmonise",
                )
            )
        if self.permutations < 0:
            faults.append(Fault(f"got {self.permutations}, expected 0 or more. Write for example 200.", "permutations"))
        if self.jobs < -1 or self.jobs == 0:
            faults.append(
                Fault(f"got {self.jobs}, expected a number of processes, or -1 for one a core. Leave it out.", "jobs")
            )
        if faults:
            raise UsageError(faults)


def _default(field: dataclasses.Field) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def takes_plan(verb: Callable[..., Result]) -> Callable[..., Result]:
    """Returns a function of a `plan` that takes the fields of `ProbePlan` as keywords too, instead of it.

    Its signature names them all, so that `help` and completion in a notebook do.

    Args:
        verb: has a keyword `plan`.
    """
    own = inspect.signature(verb)
    fields = {
        field.name: inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=_default(field),
                                      annotation=field.type)
        for field in dataclasses.fields(ProbePlan)
    }  # fmt: skip
    named = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.KEYWORD_ONLY]
    others = [
        parameter.replace(default=None, annotation=ProbePlan | None) if parameter.name == "plan" else parameter
        for parameter in own.parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    signature = own.replace(parameters=[*named, *fields.values(), *others])

    @functools.wraps(verb)
    def wrapped(*args, plan: ProbePlan | None = None, **keywords):
        signature.bind(*args, **keywords)  # A keyword that is no field is refused as Python does.
        chosen = {name: keywords.pop(name) for name in fields if name in keywords}
        if plan is not None and chosen:
            raise UsageError("got it beside `plan`, expected one of them. Leave one out.", parameter=next(iter(chosen)))
        return verb(*args, plan=ProbePlan(**chosen) if plan is None else plan, **keywords)

    wrapped.__signature__ = signature
    return wrapped
