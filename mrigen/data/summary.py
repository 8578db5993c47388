"""A cohort in a few lines: how many people and images, and what is known of them."""

import pandas as pd

from mrigen.system.wording import counted, limited


def summarise(table: pd.DataFrame) -> list[str]:
    """Returns lines `name: what is there` about the people of a cohort's table."""
    people = table.sort_values("visit", kind="stable").drop_duplicates("participant_id")
    number = len(people)
    lines = [f"people: {number} with {counted(len(table), 'image', 'images')}"]
    if table["cohort"].nunique() > 1:
        lines.append(f"cohorts: {_counts(people['cohort'])}")
    women, men = (int((people["sex"] == sex).sum()) for sex in ("F", "M"))
    lines.append(f"sex: {women} F, {men} M, {number - women - men} neither or not known")
    ages = people["age"].dropna()
    if ages.empty:
        lines.append("age: nobody's is known")
    else:
        known = "everybody's" if len(ages) == number else f"known of {len(ages)}"
        lines.append(
            f"age: {known}, {_years(ages.min())} to {_years(ages.max())} years (median {_years(ages.median())})"
        )
    sites = people["site"].nunique()
    lines.append(f"site: {counted(sites, 'site', 'sites')}, {_counts(people['site'])}")
    masks = int(table["mask_path"].notna().sum())
    lines.append(f"mask: {f'{masks} of {len(table)} images' if masks else 'none'}")
    sessions = table[table["session_id"].notna()]
    if len(sessions):
        several = int((sessions.groupby("participant_id")["session_id"].nunique() > 1).sum())
        also = f"; several of {counted(several, 'person', 'people')}" if several else ""
        lines.append(f"sessions: {_counts(sessions['session_id'])}{also}")
    else:
        lines.append("sessions: none named")
    families = people["family"].dropna()
    members = families.value_counts()
    if families.empty:
        lines.append("family: nobody's is known")
    else:
        shared = members[members > 1]
        relatives = f"{counted(len(shared), 'family', 'families')} with {int(shared.sum())} people"
        lines.append(f"family: known of {len(families)}; {relatives} who stay together")
    return lines


def _counts(values: pd.Series) -> str:
    counts = values.value_counts()
    return ", ".join(limited([f"{name} ({number})" for name, number in counts.items()], 6))


def _years(age: float) -> str:
    return f"{age:.0f}" if age >= 10 else f"{age:.2g}"
