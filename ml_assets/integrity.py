"""Integrity: what is odd about rows that can be read, and what would make a score a lie.

Odd things (duplicates, constants, categories that differ in case) are said.  A feature that gives
the target away is another matter: whoever learns from it learns nothing that serves tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ml_assets.dataset import Findings, Profile, Rows, Target, column_type, hash_rows
from ml_assets.later import later

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

SAMPLE_ROWS = 5000
MOST_CATEGORIES = 1000
MOST_FEATURES = 500
# A single feature that ranks, or explains, this well was made from the target.
LEAK_AUC = 0.999
LEAK_R2 = 0.9999
LEAK_ROWS = 100  # with fewer, a strong feature separates by luck
ID_SHARE = 0.95
_LEAVES = 64


def inspect(
    frame: Rows,
    features: list[str],
    name: str,
    target: Target | None,
    seed: int = 0,
    distinct: Mapping[str, int] | None = None,
) -> Findings:
    """It returns what is odd about the rows, looking at one column at a time.

    Args:
        frame: all rows.
        features: the columns that candidates may use.
        name: the target's column.
        target: what is predicted; None leaves out what asks about the target.
        seed: of the sample that leaks are looked for in.
        distinct: number of distinct values of each feature, where that was counted already.
    """
    truth = frame[name] if target is not None else pd.Series(dtype="float64")
    usable = truth.notna().to_numpy()
    if target is not None and target.task == "regression":
        usable &= np.isfinite(truth.to_numpy(dtype="float64"))
    places = np.random.default_rng(seed).permutation(np.flatnonzero(usable))[:SAMPLE_ROWS]
    sample = {name: truth.iloc[places].reset_index(drop=True)}
    constant, alike, identifiers, dates, written = [], [], [], [], []
    for feature in features:
        values = frame[feature]
        different = values.nunique() if distinct is None else distinct[feature]
        if different <= 1:
            constant.append(feature)
            continue
        sample[feature] = values.iloc[places].reset_index(drop=True)
        if column_type(values) == "text":
            alike += [(feature, pair) for pair in [_alike(values)] if pair]
            identifiers += [feature] if _identifies(values, different) else []
            forms = _forms_of_dates(values)
            if len(forms) > 1:
                dates.append((feature, _told(values, forms)))
            written += [(feature, form) for form in forms if len(forms) == 1]
    found = Findings(
        constant=tuple(constant),
        alike=tuple(alike),
        identifiers=tuple(identifiers),
        dates=tuple(dates),
        written=tuple(written),
    )
    if target is None or not features:
        return found
    asked = [f for f in features if f in sample][:MOST_FEATURES]
    told = [(f, _gives_away(sample[f], sample[name], target)) for f in asked]
    leaks = [(f, said) for f, said in told if said]
    alone = {f for f, _ in leaks}
    rest = [f for f in asked if f not in alone]
    return replace(
        found,
        conflicts=_conflicts(frame, features, truth, usable),
        leaks=tuple(leaks),
        together=_sums_to_target(pd.DataFrame(sample), rest, name, target),
    )


def _alike(values: pd.Series) -> str:
    distinct = values.dropna().unique()
    if len(distinct) > MOST_CATEGORIES:
        return ""
    seen: dict[str, str] = {}
    for value in distinct:
        plain = " ".join(str(value).split()).casefold()
        if plain in seen:
            return f"{seen[plain]!r} and {value!r}"
        seen[plain] = str(value)
    return ""


_DATES = {
    "Y-m-d": re.compile(r"\d{4}-\d{1,2}-\d{1,2}\b.*"),
    "Y/m/d": re.compile(r"\d{4}/\d{1,2}/\d{1,2}\b.*"),
    "d.m.Y": re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}\b.*"),
    "d-m-Y or m-d-Y": re.compile(r"\d{1,2}-\d{1,2}-\d{4}\b.*"),
    "d/m/Y or m/d/Y": re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}\b.*"),
    "month in letters": re.compile(r"(\d{1,2}[ -])?[A-Za-z]{3,9}\.?[ -]\d{1,2},? ?\d{2,4}.*"),
    "Ymd": re.compile(r"(19|20)\d{6}(T\d{4,6})?"),
}


def _forms_of_dates(values: pd.Series) -> dict[str, str]:
    """It returns the formats of a column of dates, each with an example; none for no dates."""
    seen: dict[str, str] = {}
    matched = 0
    distinct = [str(v).strip() for v in values.dropna().unique()[:MOST_CATEGORIES]]
    for value in distinct:
        kind = next((k for k, form in _DATES.items() if form.fullmatch(value)), None)
        if kind:
            matched += 1
            seen.setdefault(kind, value)
    return seen if matched >= 0.9 * len(distinct) else {}


def _told(values: pd.Series, forms: Mapping[str, str]) -> str:
    lines = {k: int((values == v).idxmax()) + 2 for k, v in forms.items()}
    return ", ".join(f"{k} ({v!r}, line {lines[k]})" for k, v in forms.items())


def _identifies(values: pd.Series, distinct: int) -> bool:
    there = int(values.notna().sum())
    return there > 20 and distinct > ID_SHARE * there


def _conflicts(frame: Rows, features: list[str], truth: pd.Series, usable: np.ndarray) -> int:
    """It counts rows whose features equal those of a row with another target."""
    codes = pd.Series(pd.factorize(truth)[0][usable])
    groups = codes.groupby(hash_rows(frame, features)[usable])
    return int((groups.transform("max") != groups.transform("min")).sum())


def _gives_away(feature: pd.Series, truth: pd.Series, target: Target) -> str:
    """It says how well a small tree does with one feature, on rows that it did not see."""
    codes = _as_numbers(feature)
    if codes is None or len(codes) < LEAK_ROWS:
        return ""
    values = codes.reshape(-1, 1)
    half = len(values) // 2
    if target.task == "regression":
        from sklearn.metrics import r2_score
        from sklearn.tree import DecisionTreeRegressor

        numbers = truth.to_numpy(dtype="float64")
        if column_type(feature) != "text":
            known = ~np.isnan(codes) & np.isfinite(numbers)
            if known.sum() > 20 and codes[known].std() > 0 and numbers[known].std() > 0:
                straight = float(np.corrcoef(codes[known], numbers[known])[0, 1] ** 2)
                if straight >= LEAK_R2:
                    return f"R² {straight:.4f} alone"
        tree = DecisionTreeRegressor(max_leaf_nodes=4 * _LEAVES, random_state=0)
        reached = float(
            r2_score(numbers[half:], tree.fit(values[:half], numbers[:half]).predict(values[half:]))
        )
        return f"R² {reached:.4f} alone" if reached >= LEAK_R2 else ""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    labels = truth.to_numpy()
    if (
        len(np.unique(labels[:half].astype(str))) < 2
        or len(np.unique(labels[half:].astype(str))) < 2
    ):
        return ""
    tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, random_state=0)
    tree.fit(values[:half], labels[:half])
    if target.task == "binary":
        positive = labels[half:] == target.positive
        share = tree.predict_proba(values[half:])[:, list(tree.classes_).index(target.positive)]
        reached = float(roc_auc_score(positive, share))
        return f"single feature AUC {reached:.2f}" if reached >= LEAK_AUC else ""
    said = tree.predict(values[half:])
    reached = float(balanced_accuracy_score(labels[half:], said))
    return f"balanced accuracy {reached:.3f} alone" if reached >= LEAK_AUC else ""


def _as_numbers(feature: pd.Series) -> np.ndarray | None:
    kind = column_type(feature)
    if kind == "text":
        if feature.nunique() > MOST_CATEGORIES:
            return None
        return pd.factorize(feature)[0].astype("float64")
    if kind == "date":
        return feature.astype("int64").to_numpy(dtype="float64")
    return feature.to_numpy(dtype="float64")


def _sums_to_target(
    sample: pd.DataFrame, features: list[str], name: str, target: Target
) -> tuple[str, ...]:
    """It returns the numeric features that make up the target exactly, as `a + b = target` does."""
    if target.task != "regression":
        return ()
    numeric = [f for f in features if column_type(sample[f]) in ("integer", "number")]
    rows = sample[[*numeric, name]].dropna().to_numpy(dtype="float64")
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(numeric) < 2 or len(rows) < 4 * (len(numeric) + 1):
        return ()
    x, y = rows[:, :-1], rows[:, -1]
    scale = x.std(axis=0)
    z = np.column_stack([(x - x.mean(axis=0)) / np.where(scale > 0, scale, 1), np.ones(len(x))])
    weights, *_ = np.linalg.lstsq(z, y, rcond=None)
    if y.std() == 0 or np.var(y - z @ weights) / np.var(y) > 1 - LEAK_R2:
        return ()
    strong = np.abs(weights[:-1]) > 0.01 * y.std()
    return tuple(f for f, s in zip(numeric, strong, strict=True) if s)


def inspected(frame: Rows, profile: Profile, name: str, target: Target | None = None) -> Profile:
    """It returns the profile with what was found; identifiers and constants are no features.

    Args:
        frame: the rows.
        profile: what they hold.
        name: the target's column.
        target: what is predicted; by default what the profile says.
    """
    counted = {f: profile.columns[f].distinct for f in profile.features}
    features = list(profile.features)
    found = inspect(frame, features, name, target or profile.target, distinct=counted)
    useless = {*found.constant, *found.identifiers}
    kept = tuple(f for f in profile.features if f not in useless)
    return replace(profile, features=kept, findings=found)
