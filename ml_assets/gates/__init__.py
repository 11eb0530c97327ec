"""Gates: questions about data or a candidate that are answered with a Verdict.

A gate is a function of small records; it reads no file and knows no Dagster.  It is named as a
claim that can be false.  How severe a failure is (`enforce`, `warn`, `off`) is the problem's
word, not the gate's.

``CATALOGUE`` lists every gate with what it asks; a test holds the documentation against it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ml_assets.problem import Mode

CATALOGUE: dict[str, str] = {
    "has_enough_rows": "The dataset has at least `contract.min_rows` rows.",
    "target_is_usable": "The target column is there, complete, finite, and fits the task.",
    "columns_are_as_declared": "Every column of `contract.columns` is there, with its type, "
    "range and share of missing values; so is every column that the declaration names.",
    "values_are_usual": "Values lie in their `usual` range and `values` name them, as do all rules "
    "of the contract whose mode is warn.",
    "rows_are_as_declared": "A batch keeps every enforced rule of its contract; else it is put "
    "into quarantine.",
    "every_batch_is_accepted": "No batch was refused now, and none awaits a decision in quarantine.",
    "time_is_in_order": "Every row of train is earlier than validation, and that than test.",
    "shares_are_as_declared": "Cuts in time still give about the declared shares; as rows come, "
    "test grows until the cuts are moved.",
    "no_feature_gives_the_target_away": "No feature tells the target by itself, and no features "
    "sum up to it. Enforced unless `dataset.integrity` says otherwise, as all that follow warn.",
    "rows_are_unique": "No row equals an earlier one.",
    "labels_agree": "No rows with equal features have different targets.",
    "features_vary": "No feature is constant or empty; such columns are left out.",
    "categories_are_distinct": "No two categories differ only in case or blanks.",
    "no_feature_is_an_identifier": "No text has a value for nearly each row; such columns are "
    "left out.",
    "dates_have_one_format": "No text column mixes formats of dates. Enforced by default.",
    "no_column_is_new": "Every column is under contract. Asked where `contract.new_columns` is "
    "`ignore`; new ones are left out.",
    "parts_are_disjoint": "No key, group or row stands in two parts of the split.",
    "every_class_is_present": "Every part of the split has rows, and train and test have rows "
    "of every class; of a rare class among many it is said.",
    "is_fitted": "The candidate was fitted and has metrics on validation.",
    "a_candidate_is_eligible": "At least one candidate beside the baseline was fitted.",
    "predictions_are_complete": "No prediction is missing or infinite.",
    "metric_is_in_bounds": "A metric on test reaches its floor or stays under its ceiling.",
    "answers_in_time": "One row is predicted within `latency_ms`.",
    "every_class_is_predicted": "Each class has at least `class_share` of the predictions.",
    "no_slice_falls_behind": "For no value of a column is a metric on test worse than overall by "
    "more than `max_drop`.",
    "groups_are_treated_alike": "Between groups of a sensitive column a metric differs by no more "
    "than `max_difference`.",
    "does_not_overfit": "A metric is worse on test than on train by no more than `max_gap`.",
    "probabilities_are_calibrated": "The expected calibration error on test is within bounds.",
    "few_answers_turn_wrong": "No more than a share `flips` of test rows does the challenger have "
    "wrong that the champion has right.",
    "predictions_are_spread_alike": "The population stability index between the predictions of "
    "champion and challenger is within bounds.",
    "model_is_small": "The model's file is no larger than `size_mb`.",
    "beats_the_baseline": "The challenger is better on validation than the baseline, by `by`.",
    "every_input_is_scored": "Every file that arrived to be scored could be read, and has the "
    "columns that the champion asks for.",
    "every_row_is_scored": "Every row of the files that were scored has a prediction.",
    "live_performance_holds": "On live rows whose labels have come, the champion is not worse than on "
    "test, beyond noise; of windows, `retrain.on_drift` says how many may be.",
    "estimated_performance_holds": "Nor would it be on rows without labels, as far as calibrated "
    "probabilities, or a model of its error, tell.",
    "features_are_spread_alike": "The features of live rows are spread as those that the champion "
    "was judged on.",
    "answers_are_spread_alike": "So are its predictions.",
    "inputs_are_as_in_training": "In the latest window no feature is missing more often than in "
    "training, and none has values more often that training did not know.",
    "predictions_keep_coming": "Live rows come about as fast as before, and none is awaited for longer "
    "than `silence`.",
    "labels_keep_coming": "Live rows that are older than `label_delay` have their labels.",
    "predecessor_is_not_better": "On the first live rows of a fresh champion, the one before it would "
    "not have done better, beyond noise.",
    "canary_can_be_compared": "Champion and canary can both be asked about the live rows whose labels "
    "have come. Asked where promotions need a canary.",
    "canary_is_not_worse": "Live rows did not show that the canary is worse than the champion, or "
    "no better; else it is withdrawn. It is never an error.",
    "beats_the_champion": "The challenger is better than the champion on today's test rows, "
    "beyond noise. Failing it holds the promotion; it is never an error.",
}


@dataclass(frozen=True)
class Verdict:
    """The answer of a gate.

    Attributes:
        name: the claim.
        passed: whether it holds.
        reason: a finished sentence with the numbers in it.
        evidence: the numbers by name.
        mode: enforce (a failure is red and stops promotion), warn, or off.
    """

    name: str
    passed: bool
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "enforce"

    @property
    def stops(self) -> bool:
        """Whether this answer keeps anything from going on."""
        return not self.passed and self.mode == "enforce"


def named_apart(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """It returns the verdicts with distinct names: the second `x` becomes `x_2`."""
    used: set[str] = set()
    apart = []
    for verdict in verdicts:
        name, n = verdict.name, 1
        while name in used:
            n += 1
            name = f"{verdict.name}_{n}"
        used.add(name)
        apart.append(verdict if n == 1 else replace(verdict, name=name))
    return apart


def failures(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """It returns the verdicts that stop."""
    return [v for v in verdicts if v.stops]
