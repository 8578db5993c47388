"""What a probe does beyond its usual rows."""

import dataclasses

from mrigen.errors import UsageError

CLASSIFIERS = ("logistic", "svm_linear", "svm_rbf", "forest", "knn", "lda")
HARMONISED = ("site",)


@dataclasses.dataclass(frozen=True)
class ProbePlan:
    """What is asked, and which rows and protocols are added.

    Attributes:
        target: column of the cohort's table; text is classes, numbers are numbers.
        confounds: columns (or head_size) for the rows `confounds`, `latents_deconfounded` and, with head_size and two
            classes, `latents_size_matched`.
        harmonise: 'site' for the row `latents_harmonised`, and for how well sites can be told with and without it.
        classifiers: of `CLASSIFIERS`: rows `latents_<name>`. The row `latents` is `logistic` already.
        untrained: whether to add the row `untrained`: latents of the same architecture before any training.
        cnn: whether to add the row `cnn`: a network that is taught the target itself, in one repeat.
        against: folder of another run of the same people and split, for the row `latents_of_<its name>`; or None.
        registration: pattern of the paths of registration matrices (see `registration_log_det`), whose log-determinant
            joins the confounds; or None.
        leave_site_out: whether to add the protocol whose folds are sites.
        permutations: of the labels, for the p-value of `latents`; 0 for none.
        jobs: processes for the permutations; -1 for all processors.
        learning_curve: whether to repeat the cross-validation with fewer people to learn from.
    """

    target: str = "sex"
    confounds: tuple[str, ...] = ()
    harmonise: str | None = None
    classifiers: tuple[str, ...] = ()
    untrained: bool = False
    cnn: bool = False
    against: str | None = None
    registration: str | None = None
    leave_site_out: bool = False
    permutations: int = 0
    jobs: int = -1
    learning_curve: bool = False

    def __post_init__(self):
        faults = [
            f"--classifiers: got {name}, expected some of {', '.join(CLASSIFIERS)}. Choose among these."
            for name in self.classifiers
            if name not in CLASSIFIERS
        ]
        if self.harmonise not in (None, *HARMONISED):
            faults.append(f"--harmonise: got {self.harmonise}, expected site. Write --harmonise site.")
        if self.target in self.confounds:
            faults.append(f"--confounds: got {self.target}, which is the target, expected other columns. Leave it out.")
        if self.harmonise == self.target:
            faults.append(
                f"--harmonise: got {self.target}, which is the target, expected another target. Leave out --harmonise."
            )
        if self.permutations < 0:
            faults.append(f"--permutations: got {self.permutations}, expected 0 or more. Write for example 200.")
        if self.jobs < -1 or self.jobs == 0:
            faults.append(
                f"--jobs: got {self.jobs}, expected a number of processes, or -1 for one a core. Leave it out."
            )
        if faults:
            raise UsageError(faults)
