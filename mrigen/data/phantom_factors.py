"""Who is in the synthetic cohort: settings, and the table of true factors of every subject (no images)."""

import dataclasses
import math

import numpy as np
import pandas as pd

from mrigen.errors import UsageError

SEX_EFFECTS = ("none", "size", "shape", "both")
ANATOMIES = ("warped", "grown")

MEAN_BRAIN_VOLUME_ML = 1195.0
BRAIN_VOLUME_SD_ML = 90.0
# Men and women differ by about 130 ml, half of it on each side of the common mean: alone worth an AUC near 0.85.
SEX_VOLUME_OFFSET_ML = 65.0
# The shape component is +1 or -1 by sex plus this spread. Random anatomy and pose hide most of it from a linear
# classifier of the voxels.
SEX_SHAPE_SD = 0.6

AGE_RANGE_YEARS = (20.0, 80.0)
MIDDLE_AGE_YEARS = 50.0
SIBLING_SHARE = 0.6
TYPICAL_THINNING = 0.5
EXTREME_SDS = 2.5

# First word after the seed of every random stream. Streams never mix: a new factor in one leaves the others alone.
DESIGN, AGES, FAMILY, SUBJECT, SITES, ANATOMY, FAMILY_ANATOMY, SCAN, SITE_SCAN, GROWN, FAMILY_GROWN, RESCAN = range(12)

COLUMNS = {
    "participant_id": {"Description": "Subject identifier"},
    "sex": {"Description": "Sex, balanced within every site", "Levels": {"F": "female", "M": "male"}},
    "age": {"Description": "Age; matched between the sexes, spread alike over the sites", "Units": "years"},
    "site": {"Description": "Scanner site"},
    "family": {"Description": "Family; siblings share part of their anatomy, so keep them in one split"},
    "brain_volume_true_ml": {"Description": "Volume of the brain mask as planted", "Units": "ml"},
    "head_size_scale": {"Description": "Linear size of the brain relative to the average of both sexes"},
    "head_width": {"Description": "Log of the left-right stretch at constant volume"},
    "head_height": {"Description": "Log of the inferior-superior stretch at constant volume"},
    "sex_shape": {"Description": "Coefficient of derivatives/phantom/truth/sex_velocity.nii.gz"},
    "ventricle_expansion": {"Description": "Coefficient of derivatives/phantom/truth/age_velocity.nii.gz"},
    "cortical_thinning": {"Description": "Loss of cortical signal beside the sulci, 0 = as in the template"},
    "rotation_x": {"Description": "Pose: pitch", "Units": "degrees"},
    "rotation_y": {"Description": "Pose: roll", "Units": "degrees"},
    "rotation_z": {"Description": "Pose: yaw", "Units": "degrees"},
    "shift_x": {"Description": "Pose: shift towards the right", "Units": "mm"},
    "shift_y": {"Description": "Pose: shift towards the front", "Units": "mm"},
    "shift_z": {"Description": "Pose: shift towards the top", "Units": "mm"},
    "contrast_gamma": {"Description": "Exponent applied to the intensities (white matter near 1)"},
    "gray_contrast": {"Description": "Added brightness of gray matter, as a fraction of white matter"},
    "noise": {"Description": "Standard deviation of the noise, as a fraction of white matter"},
    "bias_amplitude": {"Description": "Standard deviation of the log bias field over the brain"},
    "resolution_mm": {"Description": "Full width at half maximum of the scanner's own blur", "Units": "mm"},
    "intensity_scale": {"Description": "Scanner units of white matter", "Units": "arbitrary"},
}

# Brains that are grown have these as well.
GROWN_COLUMNS = {
    "cortical_thickness_mm": {"Description": "Mean thickness of the cortex, thinning included", "Units": "mm"},
    "sulcal_width_mm": {"Description": "Width of the sulci; grows with cortical_thinning", "Units": "mm"},
    "sulcal_depth_mm": {"Description": "Mean depth of the sulci", "Units": "mm"},
    "fold_spacing_mm": {
        "Description": "Mean distance of sulci in a brain of average size",
        "Units": "mm",
    },
}


# What another scan of a person changes: pose, scanner and session. All else is the person's.
POSE = ("rotation_x", "rotation_y", "rotation_z", "shift_x", "shift_y", "shift_z")
SCANNER = ("contrast_gamma", "gray_contrast", "noise", "bias_amplitude", "resolution_mm", "intensity_scale")
OF_SCAN = ("session_id", "site", *POSE, *SCANNER)


@dataclasses.dataclass(frozen=True)
class PhantomSettings:
    """What the synthetic cohort is like. One seed fixes every byte.

    Subject `k` depends on the seed and on the other settings, never on `num_subjects`.

    Args:
        num_subjects: how many subjects, >= 1.
        seed: the only source of randomness, >= 0.
        zooms: isotropic voxel size of the written images in mm, 1 to 16.
        sex_effect: what differs between men and women: "none", "size" (brain volume), "shape" (a local
            deformation that leaves brain volume alone) or "both".
        sex_effect_strength: multiplies the planted sex differences, 0 to 2; at 1 the size is true to life.
        num_sites: how many scanner sites, 1 to 99.
        site_effect_strength: multiplies the differences between sites, 0 (all alike) to 2.
        age_effect_strength: multiplies what age does to ventricles and cortex, 0 to 2.
        anatomy: "warped", everyone is one template deformed smoothly; or "grown", everyone's tissues are made by
            procedure, with folds of their own.
        num_scanners: how often everyone is scanned, 1 to 20, each time by another scanner and in another pose. The
            first scans are those of a cohort with one.

    Raises:
        UsageError: one line for each setting that is out of range.

    Example:
        >>> PhantomSettings(num_subjects=8, sex_effect="size").zooms
        4.0
    """

    num_subjects: int = 100
    seed: int = 0
    zooms: float = 4.0
    sex_effect: str = "both"
    sex_effect_strength: float = 1.0
    num_sites: int = 2
    site_effect_strength: float = 1.0
    age_effect_strength: float = 1.0
    anatomy: str = "warped"
    # Not shown: what was made before there was such a setting keeps its name.
    num_scanners: int = dataclasses.field(default=1, repr=False)

    def __post_init__(self):
        bounds = {
            "num_subjects": (int, 1, 9999),
            "seed": (int, 0, 2**63 - 1),
            "zooms": (float, 1, 16),
            "sex_effect_strength": (float, 0, 2),
            "num_sites": (int, 1, 99),
            "site_effect_strength": (float, 0, 2),
            "age_effect_strength": (float, 0, 2),
            "num_scanners": (int, 1, 20),
        }
        faults = []
        for name, (kind, low, high) in bounds.items():
            value = getattr(self, name)
            is_kind = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
            if not is_kind or not low <= value <= high:
                noun = "an integer" if kind is int else "a number"
                faults.append(
                    f"phantom.{name}: got {value!r}, expected {noun} from {low} to {high}. "
                    f"Set it in that range, or leave it out for {type(self).__dataclass_fields__[name].default}."
                )
        for name, known in {"sex_effect": SEX_EFFECTS, "anatomy": ANATOMIES}.items():
            if (value := getattr(self, name)) not in known:
                faults.append(f"phantom.{name}: got {value!r}, expected one of {', '.join(known)}. Choose one.")
        if faults:
            raise UsageError(faults)

    def as_dict(self) -> dict[str, object]:
        """Returns the settings by name, as they are written; `num_scanners` where it is more than 1."""
        settings = dataclasses.asdict(self)
        return settings if self.num_scanners > 1 else {k: v for k, v in settings.items() if k != "num_scanners"}


def draw_factors(settings: PhantomSettings) -> pd.DataFrame:
    """Returns the true factors of every subject, one row each, with the columns (and units) of `COLUMNS`.

    Pure and quick: no template is loaded, no image is made.

    Example:
        >>> table = draw_factors(PhantomSettings(num_subjects=4))
        >>> table["participant_id"].tolist()[-1], sorted(table["sex"])
        ('sub-phantom0004', ['F', 'F', 'M', 'M'])
    """
    sites = [_draw_site(settings, site) for site in range(settings.num_sites)]
    rows = [_draw_subject(settings, sites, index) for index in range(settings.num_subjects)]
    return pd.DataFrame(rows, columns=list(described_columns(settings)))


def draw_scans(settings: PhantomSettings) -> pd.DataFrame:
    """Returns the true factors of every scan: `num_scanners` rows a person, in order.

    The columns are those of `draw_factors`, with session_id ("ses-1", ...) in the second place. Whose scan it is says
    all but `OF_SCAN`, which alone differs between the scans of a person. The first scan is that of `draw_factors`; the
    next is made at the next site, of which there are as many as scanners at least.

    Example:
        >>> scans = draw_scans(PhantomSettings(num_subjects=2, num_sites=1, num_scanners=3))
        >>> scans["session_id"].tolist()[:3], scans["site"].tolist()[:3]
        (['ses-1', 'ses-2', 'ses-3'], ['site01', 'site02', 'site03'])
    """
    num_sites = max(settings.num_sites, settings.num_scanners)
    scanners = [_draw_site(settings, site) for site in range(num_sites)]
    rows = []
    for index, person in enumerate(draw_factors(settings).to_dict("records")):
        for scan in range(settings.num_scanners):
            site = (site_index(person["site"]) + scan) % num_sites
            row = person if scan == 0 else person | _rounded(_draw_scan(settings, scanners[site], index, scan))
            rows.append(row | {"session_id": f"ses-{scan + 1}", "site": f"site{site + 1:02d}"})
    first, *others = described_columns(settings)
    return pd.DataFrame(rows, columns=[first, "session_id", *others])


def described_columns(settings: PhantomSettings) -> dict[str, dict]:
    """Returns the columns of the table of true factors, and what participants.json says of each."""
    if settings.anatomy == "warped":
        return COLUMNS
    thinning = {"Description": "How far the cortex is thinned and the sulci are widened, 0 = not at all"}
    return COLUMNS | {"cortical_thinning": thinning} | GROWN_COLUMNS


def typical_factors(settings: PhantomSettings) -> dict[str, float]:
    """Returns the factors of a head that is typical in every way, upright, in an average scanner, of no sex."""
    factors = dict.fromkeys(list(described_columns(settings))[5:], 0.0)
    factors |= {"brain_volume_true_ml": MEAN_BRAIN_VOLUME_ML, "head_size_scale": 1.0, "contrast_gamma": 1.0}
    factors |= {"cortical_thinning": TYPICAL_THINNING, "intensity_scale": 1000.0, "resolution_mm": 2.0}
    if settings.anatomy == "grown":
        factors |= _cortex_of(TYPICAL_THINNING, np.zeros(4))
    return factors


def stream(settings: PhantomSettings, *keys: int) -> np.random.Generator:
    """Returns the random generator of one purpose (`keys`), independent of every other."""
    return np.random.default_rng([settings.seed, *keys])


def family_head(index: int) -> int:
    """Returns the index of the first member of the family of subject `index`: two siblings in every ten subjects."""
    return index - 4 if index % 10 == 7 else index


def site_index(site: str) -> int:
    """Returns the zero-based number of a site name.

    Example:
        >>> site_index("site02")
        1
    """
    return int(site.removeprefix("site")) - 1


def mix_siblings(own, shared):
    """Returns standard normal values of one person whose siblings have the same `shared` and another `own` part."""
    return math.sqrt(SIBLING_SHARE) * shared + math.sqrt(1 - SIBLING_SHARE) * own


def _draw_subject(settings: PhantomSettings, sites: list[dict[str, float]], index: int) -> dict[str, object]:
    sex, site, age = _draw_design(settings, index)
    scanner = sites[site]
    # Every subject draws the same numbers in the same order whatever the settings: effects can be switched on and
    # off without changing anything else about the cohort.
    own = stream(settings, SUBJECT, index)
    shared = stream(settings, FAMILY, family_head(index)).standard_normal(3)
    size, width, height = _within_reach(mix_siblings(own.standard_normal(3), shared))
    sex_shape, ventricles, cortex = _within_reach(own.standard_normal(3))
    scan = _scan_factors(scanner, own)

    sign = {"F": -1.0, "M": 1.0}[sex] * settings.sex_effect_strength
    volume = MEAN_BRAIN_VOLUME_ML + BRAIN_VOLUME_SD_ML * size
    volume += sign * SEX_VOLUME_OFFSET_ML * (settings.sex_effect in ("size", "both"))
    sex_shape = SEX_SHAPE_SD * sex_shape + sign * (settings.sex_effect in ("shape", "both"))
    decades = settings.age_effect_strength * (age - MIDDLE_AGE_YEARS) / 10
    factors = {
        "brain_volume_true_ml": volume,
        "head_size_scale": (volume / MEAN_BRAIN_VOLUME_ML) ** (1 / 3),
        "head_width": 0.025 * width,
        "head_height": 0.025 * height,
        "sex_shape": sex_shape,
        "ventricle_expansion": 0.35 * decades + 0.5 * ventricles,
        "cortical_thinning": max(0.0, TYPICAL_THINNING + 0.15 * decades + 0.12 * cortex),
        **scan,
    }
    if settings.anatomy == "grown":
        factors |= _draw_cortex(settings, index, factors["cortical_thinning"])
    return {
        "participant_id": f"sub-phantom{index + 1:04d}",
        "sex": sex,
        "age": round(age, 1),
        "site": f"site{site + 1:02d}",
        "family": f"family{family_head(index) + 1:04d}",
        **_rounded(factors),
    }


def _rounded(factors: dict[str, float]) -> dict[str, float]:
    """Images are made from rounded values, so that the written table is the whole truth."""
    return {name: round(float(value), 6) for name, value in factors.items()}


def _draw_scan(settings: PhantomSettings, scanner: dict[str, float], index: int, scan: int) -> dict[str, float]:
    """Returns pose and scanner of a later scan (from 1) of subject `index`."""
    return _scan_factors(scanner, stream(settings, RESCAN, index, scan))


def _scan_factors(scanner: dict[str, float], own: np.random.Generator) -> dict[str, float]:
    rotations = 3.0 * _within_reach(own.standard_normal(3))
    shifts = 3.0 * _within_reach(own.standard_normal(3))
    gamma, gray, noise, bias, resolution, scale = _within_reach(own.standard_normal(6))
    return {
        **dict(zip(POSE, (*rotations, *shifts), strict=True)),
        "contrast_gamma": scanner["contrast_gamma"] * math.exp(0.03 * gamma),
        "gray_contrast": scanner["gray_contrast"] + 0.01 * gray,
        "noise": scanner["noise"] * math.exp(0.1 * noise),
        "bias_amplitude": scanner["bias_amplitude"] * math.exp(0.15 * bias),
        "resolution_mm": scanner["resolution_mm"] + 0.15 * resolution,
        "intensity_scale": scanner["intensity_scale"] * math.exp(0.08 * scale),
    }


def _draw_cortex(settings: PhantomSettings, index: int, thinning: float) -> dict[str, float]:
    own = stream(settings, GROWN, index, 0).standard_normal(4)
    shared = stream(settings, FAMILY_GROWN, family_head(index), 0).standard_normal(4)
    return _cortex_of(thinning, _within_reach(mix_siblings(own, shared)))


def _cortex_of(thinning: float, away: np.ndarray) -> dict[str, float]:
    thickness, width, depth, spacing = away
    return {
        "cortical_thickness_mm": 3.3 - 0.8 * thinning + 0.12 * thickness,
        "sulcal_width_mm": (1.5 + 2.7 * thinning) * math.exp(0.1 * width),
        "sulcal_depth_mm": 22.0 + 1.5 * depth,
        "fold_spacing_mm": 25.0 + 1.2 * spacing,
    }


def _draw_design(settings: PhantomSettings, index: int) -> tuple[str, int, float]:
    """Returns (sex, site number, age in years) of one subject.

    Blocks of 2 x num_sites subjects hold one man and one woman of each site, of about the same age; four blocks
    in a row hold the four quarters of the age range at each site. Nothing is confounded, even in a small cohort,
    and no subject needs to know how many come after it.
    """
    block, position = divmod(index, 2 * settings.num_sites)
    cell = int(stream(settings, DESIGN, block).permutation(2 * settings.num_sites)[position])
    site, is_male = divmod(cell, 2)
    quarter = int(stream(settings, AGES, 0, block // 4, site).permutation(4)[block % 4])
    pair = stream(settings, AGES, 1, block, site)
    youngest, oldest = AGE_RANGE_YEARS
    age = youngest + 2 + (oldest - youngest - 4) * (quarter + pair.random()) / 4
    age += pair.uniform(-2, 2, size=2)[is_male]
    return "FM"[is_male], site, float(age)


def _draw_site(settings: PhantomSettings, site: int) -> dict[str, float]:
    """Returns what one scanner does. Neighbouring sites always lie on opposite sides of the average scanner."""
    sides = stream(settings, SITES, 0).choice([-1.0, 1.0], size=len(SCANNER)) * (-1.0) ** site
    sizes = stream(settings, SITES, 1, site).uniform(0.6, 1.0, size=len(SCANNER))
    away = dict(zip(SCANNER, settings.site_effect_strength * sides * sizes, strict=True))
    return {
        "contrast_gamma": math.exp(0.18 * away["contrast_gamma"]),
        "gray_contrast": 0.04 * away["gray_contrast"],
        "noise": 0.02 * math.exp(0.4 * away["noise"]),
        "bias_amplitude": 0.10 * math.exp(0.4 * away["bias_amplitude"]),
        "resolution_mm": 2.0 + 0.7 * away["resolution_mm"],
        "intensity_scale": 1000.0 * math.exp(0.6 * away["intensity_scale"]),
    }


def _within_reach(standard_normal: np.ndarray) -> np.ndarray:
    # The field of view and the smoothness of the deformations are laid out for this range.
    return np.clip(standard_normal, -EXTREME_SDS, EXTREME_SDS)
