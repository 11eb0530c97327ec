"""The predictions of a round: files scored with the champion, each content once by each version."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.data_file import fingerprint
from ml_assets.errors import (
    DatasetError,
    DeclarationError,
    ModelRefused,
    NotMaterialized,
    counted,
    shortened,
)
from ml_assets.gates import Verdict
from ml_assets.landing import DATA_FILES, Arrival, fetch, look_for, marked
from ml_assets.later import later
from ml_assets.problem import Problem
from ml_assets.resources.ledger import MAKES_CHAMPION
from ml_assets.resources.stores import Stores
from ml_assets.round import Made, Round
from ml_assets.rows import as_frame
from ml_assets.scoring import Said, Scorer, Share, fitted_in, score_file
from ml_assets.share import Sharing, names_of, shared
from ml_assets.verification import golden_of, golden_rows, load_verified, says_the_same

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
else:
    np = later("numpy")
    pd = later("pandas")
    pa = later("pyarrow")

MOST_WAITED = 5.0  # seconds for files that may still be written


def scoring_entry(problem: str, stores: Stores, version: int | None = None) -> dict[str, Any]:
    """It returns the ledger's entry of the version that is to score: the champion, or a former one.

    Args:
        problem: the problem's name.
        stores: where the ledger is.
        version: one that is or was champion; None for the champion.

    Raises:
        NotMaterialized: there is no champion.
        DeclarationError: the version never was champion.
        PromotionRefused: the ledger was rewritten.
    """
    made = [e for e in stores.ledger.entries(problem) if e["event"] in MAKES_CHAMPION]
    if not made:
        raise NotMaterialized(
            f"{problem} has no champion yet, so nothing can score. Bring one to production: "
            f"`ml-assets run {problem}`."
        )
    known = [e for e in made if version in (None, e["version"])]
    if not known:
        was = shortened(dict.fromkeys(f"version {e['version']}" for e in made))
        raise DeclarationError(
            f"Version {version} of {problem} was never champion: its gates did not let it into "
            f"production. Champions so far: {was}."
        )
    return known[-1]


def load_scorer(
    problem: Problem, stores: Stores, entry: dict[str, Any], one_row: bool = False
) -> Scorer:
    """It returns a version ready to score, when it is what the ledger recorded and still says so.

    Args:
        problem: the problem.
        stores: where registry and ledger are.
        entry: the ledger's entry of the version.
        one_row: it will be asked about single rows, and may take a shortcut for them.

    Raises:
        ModelRefused: a file was changed, it holds untrusted types, or it predicts otherwise.
    """
    from ml_assets.shortcut import shortcut_of

    version = stores.registry.version(problem.name, entry["version"])
    model = load_verified(version.folder, entry["digest"], tuple(problem.trust))
    says_the_same(model, version.folder)
    columns, classes = golden_of(version.folder)
    shortcut = shortcut_of(model, columns, golden_rows(version.folder), one_row)
    return Scorer(
        problem.name,
        entry["version"],
        entry["digest"],
        model,
        columns,
        classes,
        problem.dataset,
        shortcut,
    )


def load_sharing(problem: Problem, stores: Stores) -> Sharing | None:
    """It returns the canary under way, verified and ready to answer; None where there is none.

    Raises:
        ModelRefused: it is not what the ledger recorded.
        PromotionRefused: the ledger was rewritten.
    """
    entry = canary_entry(problem, stores)
    if entry is None:
        return None
    return Sharing(load_scorer(problem, stores, entry), entry["terms"]["share"])


def canary_entry(problem: Problem, stores: Stores) -> dict[str, Any] | None:
    """It returns the ledger's entry of the canary under way, where the problem declares canaries."""
    if problem.promotion.mode != "canary":
        return None
    canary = stores.ledger.canary(problem.name)
    return canary[0] if canary else None


def share_of(champion: Scorer, canary: Sharing) -> Share:
    """It returns what lets a canary answer its rows of a file."""

    def share(rows: pa.Table, features: pd.DataFrame, said: Said) -> np.ndarray | None:
        key = champion.declared.key
        there = key is not None and key in rows.column_names
        names = names_of(rows.column(key).to_pylist() if there else None, features)

        def asked() -> tuple[pd.DataFrame, dict[int, str]]:
            scorer = canary.scorer
            lacks = scorer.lacking(rows.column_names)
            if lacks:  # the champion answers
                return pd.DataFrame(index=range(len(names))), dict.fromkeys(
                    range(len(names)), lacks
                )
            return fitted_in(scorer, as_frame(rows.select(list(scorer.columns))))

        return shared(champion, said, canary, names, asked).versions

    return share


def predict_file(
    round_: Round, path: Path, output: Path, version: int | None = None
) -> dict[str, Any]:
    """It scores one file and returns what came of it, for `ml-assets predict`.

    Raises:
        DeclarationError: the output has no ending that can be written, or no folder, or is the
            input; or the version never was champion.
        DatasetError: the input cannot be read, or lacks features.
        NotMaterialized: there is no champion.
        ModelRefused: the version is not what was recorded.
    """
    began = time.perf_counter()
    _can_be_written(path, output)
    scorer = load_scorer(
        round_.problem, round_.stores, scoring_entry(round_.problem.name, round_.stores, version)
    )
    at = stamp(round_.clock())
    scored = score_file(scorer, path, output, at)
    return {
        "problem": round_.problem.name,
        "version": scorer.version,
        "rows": scored.rows,
        "wrong_rows": scored.wrong_rows,
        "wrong": [{"line": line, "reason": reason} for line, reason in scored.wrong],
        "unseen": dict(scored.unseen),
        "answered_by": str(scorer.shortcut),
        "input": str(path),
        "input_digest": scored.digest,
        "output": str(output),
        "scored_at": at,
        "seconds": round(time.perf_counter() - began, 3),
    }


@dataclass(frozen=True)
class ScoredFile:
    """One file that was scored.

    Attributes:
        name: its name where files arrive.
        mark: what a listing said of it.
        digest: SHA-256 of its bytes.
        model: the digest of the version that scored it.
        version: that version's number; a canary's rows say in their column who answered them.
        output: where its predictions are.
        rows: its rows.
        wrong_rows: those without a prediction.
        at: when it was scored, in UTC, as ISO 8601.
        same_as: another file with the same bytes, whose predictions are its own too.
    """

    name: str
    mark: str
    digest: str
    model: str
    version: int
    output: str
    rows: int
    wrong_rows: int
    at: str
    same_as: str = ""


@dataclass(frozen=True)
class PredictionsMade(Made):
    """What became of the files that are there.

    Attributes:
        version: the version that scored them.
        scored: the files that were scored now.
        failed: the files that could not be, with the reason.
        unseen: values that the contract's `values` do not name, by column.
        mark: the name of all that is there, with the version.
    """

    version: int
    scored: list[ScoredFile]
    failed: dict[str, str]
    unseen: Counter[str]
    mark: str


def make_predictions(round_: Round) -> PredictionsMade:
    """It scores the files that have arrived, each content once by each version.

    A file that cannot be read stops no other.  Predictions are published before that is noted: a
    crash in between scores the file again, into the same name.

    Raises:
        NotMaterialized: there is no champion.
        ModelRefused: it is not what the ledger recorded; nothing was written.
        DatasetError: the place where files arrive cannot be listed.
        DeclarationError: the folder of the predictions leads out of the project.
    """
    name, stores = round_.problem.name, round_.stores
    declared = round_.problem.predictions
    assert declared is not None
    with stores.lake.lock(name, "predictions"):
        entry = scoring_entry(name, stores)
        found = look_for(round_.problem, stores.root, round_.clock())
        if found.waiting:  # give those that are being written the time that they need
            time.sleep(min(round_.problem.dataset.settle, MOST_WAITED))
            found = look_for(round_.problem, stores.root, round_.clock())
        folder = _folder(stores.root, declared.output)
        work = _Work(round_, entry, folder)
        for arrival in found.arrived:
            work.take(arrival)
        work.failed.update(found.refused)
        mark = marked(found, entry["digest"])
        stores.lake.note(name, "inputs", {"mark": mark})
    verdicts = _verdicts(work, len(found.arrived) + len(found.refused), entry["version"])
    unseen, version = work.unseen, entry["version"]
    return PredictionsMade(
        verdicts, not work.scored, version, work.scored, work.failed, unseen, mark
    )


def scored_files(round_: Round) -> list[ScoredFile]:
    """It returns every file of predictions that was made, by whichever version, oldest first."""
    noted = round_.stores.lake.noted(round_.problem.name, "scored") or {"files": {}}
    # notes of before know the newest of each name only
    return [ScoredFile(**f) for f in noted.get("outputs", noted["files"].values())]


class _Work:
    """The files of one round, taken one after the other."""

    def __init__(self, round_: Round, entry: dict[str, Any], folder: Path) -> None:
        self.round, self.entry, self.folder = round_, entry, folder
        self.declared = round_.problem.predictions
        self.scored: list[ScoredFile] = []
        self.failed: dict[str, str] = {}
        self.unseen: Counter[str] = Counter()
        noted = round_.stores.lake.noted(round_.problem.name, "scored") or {"files": {}}
        self.known = {n: ScoredFile(**f) for n, f in noted["files"].items()}
        self.outputs = {f.output: f for f in scored_files(round_)}
        self._scorer: Scorer | None = None
        self._share: Share | None = None
        self.canary = canary_entry(round_.problem, round_.stores)
        self.trouble = ""

    def take(self, arrival: Arrival) -> None:
        """It scores a file, unless that was done."""
        known = self.known.get(arrival.name)
        if known is not None and known.mark == arrival.mark and self._is_done(known):
            return
        fetched = self.round.stores.lake.root / self.round.problem.name / ".fetched"
        path = None
        try:
            path = fetch(arrival, fetched)
            file = self._scored(arrival, path)
        except DatasetError as error:
            self.failed[arrival.name] = str(error)
            return
        finally:
            if arrival.remote and path is not None:
                path.unlink(missing_ok=True)
        self.known[arrival.name] = file
        self.outputs.setdefault(file.output, file)
        files = {n: asdict(f) for n, f in self.known.items()}
        outputs = [asdict(f) for f in self.outputs.values()]
        note = {"files": files, "outputs": outputs}
        self.round.stores.lake.note(self.round.problem.name, "scored", note)

    def _is_done(self, file: ScoredFile) -> bool:
        assert self.declared is not None
        return file.model == self.entry["digest"] or not self.declared.rescore

    def _scored(self, arrival: Arrival, path: Path) -> ScoredFile:
        digest = fingerprint(path)
        same = [f for f in self.known.values() if f.digest == digest and self._is_done(f)]
        if same:
            first = "" if same[0].name == arrival.name else same[0].same_as or same[0].name
            return replace(same[0], name=arrival.name, mark=arrival.mark, same_as=first)
        scorer, at = self._who(), stamp(self.round.clock())
        output = self._output(arrival.name, digest, scorer.version)
        output.parent.mkdir(parents=True, exist_ok=True)
        scored = score_file(scorer, path, output, at, digest, self._share)
        self.unseen.update(scored.unseen)
        file = ScoredFile(
            arrival.name,
            arrival.mark,
            digest,
            scorer.digest,
            scorer.version,
            str(output),
            scored.rows,
            scored.wrong_rows,
            at,
        )
        self.scored.append(file)
        return file

    def _who(self) -> Scorer:
        if self._scorer is None:
            self._scorer = load_scorer(self.round.problem, self.round.stores, self.entry)
            self._share = self._shares(self._scorer)
        return self._scorer

    def _shares(self, champion: Scorer) -> Share | None:
        """It returns what lets the canary answer; one that cannot be verified answers nothing."""
        try:
            canary = load_sharing(self.round.problem, self.round.stores)
        except ModelRefused as error:
            self.trouble = str(error)
            return None
        # a shadow is heard of where it is logged; a file has one answer for each row
        return share_of(champion, canary) if canary and canary.share > 0 else None

    def _output(self, name: str, digest: str, version: int) -> Path:
        assert self.declared is not None
        ending = next((e for e in DATA_FILES if name.endswith(e)), "")
        stem = name.removesuffix(ending)
        return self.folder / f"{stem}.{digest[:8]}.v{version}.{self.declared.format}"


def _folder(root: Path, output: str) -> Path:
    folder = (root / output).resolve()
    if not Path(output).is_absolute() and not folder.is_relative_to(root.resolve()):
        raise DeclarationError(
            f"{output} (predictions.output) leads out of the project's folder. If that is meant, "
            "declare the absolute path."
        )
    return folder


def _verdicts(work: _Work, files: int, version: int) -> list[Verdict]:
    told = [f"{name}: {why}" for name, why in sorted(work.failed.items())]
    there = f"{counted(files, 'file')} {'is' if files == 1 else 'are'}"
    read = f"{files:,} of {there} scored, {len(work.scored):,} now, by version {version}."
    if work.canary is not None:
        read += f" Version {work.canary['version']} is the canary."
    if work.trouble:
        read += f" It answered nothing: {work.trouble}"
    wrong = [f for f in work.scored if f.wrong_rows]
    rows, without = (sum(getattr(f, n) for f in work.scored) for n in ("rows", "wrong_rows"))
    more = f" In: {shortened(f.name for f in wrong)}; their column `wrong` says why."
    return [
        Verdict(
            "every_input_is_scored",
            not told,
            f"{len(told)} of {there} not scored. {' '.join(told[:5])}" if told else read,
            {"files": files, "not_scored": len(told)},
            "warn",
        ),
        Verdict(
            "every_row_is_scored",
            not without,
            f"{without:,} of {rows:,} rows have no prediction.{more if wrong else ''}",
            {"rows": rows, "wrong_rows": without},
            "warn",
        ),
    ]


def stamp(seconds: float) -> str:
    """It returns a time in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _can_be_written(path: Path, output: Path) -> None:
    if not output.name.endswith(DATA_FILES):
        raise DeclarationError(
            f"{output}: predictions are written as {', '.join(DATA_FILES)}. End the name so."
        )
    if not output.parent.is_dir():
        raise DeclarationError(f"{output.parent} is no folder. Make it, or name another output.")
    if output.is_dir():
        raise DeclarationError(f"{output} is a folder. Name a file.")
    if output.exists() and path.exists() and output.samefile(path):
        raise DeclarationError(f"{output} is the input itself. Name another output.")
