"""Parts for ml_assets: what another package may provide, and how little it takes."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier


def small_tree(depth: int = 3) -> DecisionTreeClassifier:
    """A tree that a person can read. It splits at most `depth` times."""
    return DecisionTreeClassifier(max_depth=depth)


class Loudest(ClassifierMixin, BaseEstimator):
    """The class that is most frequent, whatever the features say.

    Storing it needs `trust: [ml_assets_example.Loudest]`: the type is not scikit-learn's.
    """

    def fit(self, rows, classes):
        self.classes_, counts = np.unique(classes, return_counts=True)
        self.shares_ = counts / counts.sum()
        return self

    def predict_proba(self, rows):
        return np.tile(self.shares_, (len(rows), 1))

    def predict(self, rows):
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def scaled() -> StandardScaler:
    """Numbers with mean 0 and spread 1."""
    return StandardScaler()


def hardly_ever_sure_and_wrong(rows, truth, predictions, probabilities):
    """Few rows are wrong with a probability above 0.99."""
    share = float(np.mean((predictions != truth) & (probabilities.max(axis=1) > 0.99)))
    return share <= 0.2, f"{share:.1%} of the rows are wrong, and surely so."
