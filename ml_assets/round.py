"""A round: one pass from the data to the decision, each asset brought up to date in its turn.

Each method makes one asset, or finds that nothing it depends on has changed and says so.  What
an asset depends on is named by content, so "up to date" is a look-up, and an asset can never be
made from a mixture of old and new.  Only the dataset has a notion of *current*; everything after
it follows from the current dataset and today's declaration.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ml_assets
from ml_assets import candidate as candidates
from ml_assets import dataset as datasets
from ml_assets import evaluation as evaluations
from ml_assets import plots
from ml_assets import split as splits
from ml_assets.candidate import Predictions
from ml_assets.comparison import Comparison, compare
from ml_assets.dataset import Column, Profile, Target
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import CandidateError, DatasetError, MLAssetsError, ModelRefused, NotMaterialized
from ml_assets.evaluation import Contender
from ml_assets.gates import Verdict, failures
from ml_assets.gates import challenger as challenger_gates
from ml_assets.gates import dataset as dataset_gates
from ml_assets.gates import split as split_gates
from ml_assets.gates.challenger import Seen
from ml_assets.problem import CandidateDeclaration, Problem
from ml_assets.promotion import Champion, Hold, Promote, decide
from ml_assets.resources.lake import Entry
from ml_assets.resources.ledger import HOLD, PROMOTION
from ml_assets.resources.registry import CHALLENGER, CHAMPION, DagsterRun, Version
from ml_assets.resources.stores import Stores
from ml_assets.split import PARTS, Part
from ml_assets.user_code import locate, source_digest
from ml_assets.verification import GOLDEN_FILE, MODEL_FILE, golden, in_clean_process, load_verified

ROWS, PROFILE, CARD, PREDICTIONS = "rows.parquet", "profile.json", "card.json", "predictions.parquet"
# A decision is made anew when another promotion came in between; more often than this is a storm.
MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class Made:
    """What all assets say of themselves.

    Attributes:
        entry: the files; None when nothing was made.
        verdicts: the gates' answers.
        reused: nothing had changed, so nothing was done.
    """

    entry: Entry | None
    verdicts: list[Verdict]
    reused: bool


@dataclass(frozen=True)
class DatasetMade(Made):
    """The dataset: its profile, and where it came from."""

    profile: Profile
    source: str


@dataclass(frozen=True)
class SplitMade(Made):
    """The split: its parts, their digests, and how rows are told apart."""

    parts: dict[str, Part]
    digests: dict[str, str]
    how: str


@dataclass(frozen=True)
class CandidateMade(Made):
    """A candidate: its metrics on validation, or its error."""

    name: str
    card: dict[str, Any]
    error: str | None = None


@dataclass(frozen=True)
class EvaluationMade(Made):
    """The leaderboard, and who leads it."""

    board: list[Contender]
    metric: str
    winner: str | None
    baseline: float | None


@dataclass(frozen=True)
class ChallengerMade(Made):
    """The challenger: its version, its metrics on test."""

    name: str
    version: Version
    metrics: dict[str, float]
    seen: Seen
    model_digest: str


@dataclass(frozen=True)
class ProductionMade(Made):
    """The decision; the champion after it."""

    decision: Promote | Hold | None
    champion: dict[str, Any] | None
    challenger: ChallengerMade
    comparison: Comparison | None
    champion_metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """One pass over one problem.

    Attributes:
        problem: the declaration.
        folder: where its model.py is; None when it was declared in Python.
        stores: lake, ledger and registry.
        run: the Dagster run that it happens in.
        actor: who started it.
        clock: seconds since 1970.
    """

    problem: Problem
    folder: Path | None
    stores: Stores
    run: DagsterRun
    actor: str = ""
    clock: Callable[[], float] = time.time

    # ---------------------------------------------------------------- dataset

    def dataset(self) -> DatasetMade:
        """It reads the rows if they are new, and asks the gates on them.

        The current dataset changes only when every enforced gate holds.

        Raises:
            DatasetError: the file or loader gives no rows.
        """
        declared = self.problem.dataset
        rows = None
        if declared.path is not None:
            file = self.stores.root / declared.path
            source, fingerprint = declared.path, datasets.fingerprint(file)
        else:
            assert declared.loader is not None
            rows = datasets.load(locate(declared.loader, self.folder), declared.loader)
            source, fingerprint = declared.loader, _frame_digest(rows)
        reading = declared.model_dump(mode="json", exclude={"contract", "path", "loader"})
        types = {n: c.type for n, c in declared.contract.columns.items()}
        key = digest_of(
            "dataset", datasets.READING, fingerprint, reading, types, self.problem.task,
            ml_assets.__version__,
        )
        entry = self._find("dataset", key)
        reused = entry is not None
        if entry is None:

            def write(folder: Path) -> dict[str, Any]:
                read = rows if rows is not None else datasets.read(file, declared)
                _write_rows(read, folder / ROWS)
                profile = datasets.describe(read, declared, self.problem.task)
                (folder / PROFILE).write_text(json.dumps(asdict(profile)))
                return {"at": self.clock(), "source": source}

            entry = self._put("dataset", key, write)
        profile = _profile(entry)
        verdicts = dataset_gates.ask(profile, self.problem)
        if not failures(verdicts):
            self.stores.lake.make_current(self.problem.name, "dataset", "dataset", entry)
        return DatasetMade(entry, verdicts, reused, profile, source)

    def _current_dataset(self) -> tuple[Entry, Profile]:
        entry = self.stores.lake.current(self.problem.name, "dataset")
        profile = _profile(entry)
        # today's declaration may see the same rows otherwise than the one they were read under
        features = datasets.features(list(profile.columns), self.problem.dataset)
        if profile.features != tuple(features) or profile.target is None:
            raise NotMaterialized(
                f"{self.problem.name}/dataset was read under another declaration. Materialize it "
                "again."
            )
        return entry, profile

    # ------------------------------------------------------------------ split

    def split(self) -> SplitMade:
        """It divides the current dataset, unless the same rows were divided so before.

        Raises:
            DatasetError: the column to split by is absent or incomplete.
            NotMaterialized: there is no dataset.
        """
        dataset, profile = self._current_dataset()
        key = self._split_key(dataset, profile)
        entry = self._find("split", key)
        reused = entry is not None
        if entry is None:
            declared, target = self.problem.dataset, _target(profile)

            def write(folder: Path) -> dict[str, Any]:
                rows = self.stores.lake.rows(dataset, ROWS)
                rows = rows[rows[declared.target].notna()]
                parts = splits.divide(rows, self.problem.split, declared)
                for name, part in parts.items():
                    _write_rows(part, folder / f"{name}.parquet")
                held = {
                    n: splits.describe(p, declared.target, target.classes)
                    for n, p in parts.items()
                }
                record = {
                    "parts": {n: asdict(p) for n, p in held.items()},
                    "shared": splits.shared_rows(parts, self.problem.split, declared),
                    "digests": {n: file_digest(folder / f"{n}.parquet") for n in PARTS},
                }
                (folder / CARD).write_text(json.dumps(record))
                return {"at": self.clock()}

            entry = self._put("split", key, write)
        return self._split_made(entry, profile, reused)

    def _split_key(self, dataset: Entry, profile: Profile) -> str:
        how = splits.identify_by(self.problem.split, self.problem.dataset)
        shares = self.problem.split.model_dump(mode="json", exclude={"by"})
        target = self.problem.dataset.target, asdict(_target(profile))
        return digest_of("split", splits.HASHING, dataset.digest, how, shares, target)

    def _split_made(self, entry: Entry, profile: Profile, reused: bool) -> SplitMade:
        record = entry.json(CARD)
        parts = {n: Part(p["rows"], tuple(p["counts"])) for n, p in record["parts"].items()}
        how, column = splits.identify_by(self.problem.split, self.problem.dataset)
        verdicts = [
            split_gates.parts_are_disjoint(record["shared"], how),
            split_gates.every_class_is_present(parts, _target(profile)),
        ]
        named = f"{how} `{column}`" if column else "the row's content"
        return SplitMade(entry, verdicts, reused, parts, record["digests"], named)

    def _current_split(self) -> tuple[SplitMade, Profile]:
        dataset, profile = self._current_dataset()
        entry = self._find("split", self._split_key(dataset, profile))
        if entry is None:
            raise NotMaterialized(
                f"{self.problem.name}/split is not made for the current dataset. Materialize it."
            )
        return self._split_made(entry, profile, True), profile

    def part_rows(self, split: SplitMade, part: str) -> Any:
        """It returns the rows of one part."""
        assert split.entry
        return self.stores.lake.rows(split.entry, f"{part}.parquet")

    # -------------------------------------------------------------- candidate

    def candidate(self, name: str) -> CandidateMade:
        """It fits one candidate on train, unless the same fit was made before.

        A failure is recorded and returned, never raised: the other candidates go on.

        Raises:
            NotMaterialized: there is no split.
        """
        split, profile = self._current_split()
        target = _target(profile)
        declared = self.problem.contenders()[name]
        key = self._candidate_key(declared, split, profile)
        entry = self._find("candidate", key)
        if entry is not None and self._tracked(entry):
            return self._candidate_made(name, entry, True)
        started = self.clock()
        try:
            if entry is None:
                entry = self._fit(name, declared, key, split, profile)
        except MLAssetsError as error:
            message = str(error)
            self.stores.lake.put(
                self.problem.name, "failure", key, lambda f: _write_error(f, message, started)
            )
            self.stores.registry.log_candidate(
                self.problem.name, self.run, name, (started, self.clock()),
                _params(declared), {}, self._tags(split), error=message,
            )
            verdict = Verdict("is_fitted", False, message)
            return CandidateMade(None, [verdict], False, name, {}, message)
        card = entry.json(CARD)
        run_id = self.stores.registry.log_candidate(
            self.problem.name, self.run, name, (started, self.clock()),
            _params(declared), card["metrics"],
            {**self._tags(split), "model_digest": card["model_digest"]},
        )
        entry = self.stores.lake.amend(self.problem.name, "candidate", entry, mlflow_run=run_id)
        return self._candidate_made(name, entry, False)

    def _candidate_key(
        self, declared: CandidateDeclaration, split: SplitMade, profile: Profile
    ) -> str:
        transform = declared.transform or self.problem.transform
        sources = [source_digest(p, self.folder) for p in (declared.estimator, transform)]
        judged = {n: split.digests[n] for n in ("train", "validation")}
        return digest_of(
            "candidate", candidates.FITTING, judged, declared, transform, sources,
            [profile.features, self.problem.dataset.target, asdict(_target(profile))],
            [self.problem.class_weight, self.problem.threshold, self.problem.seed],
            [self.problem.trust, candidates.environment()],
        )

    def _tracked(self, entry: Entry) -> bool:
        run_id = entry.facts.get("mlflow_run")
        return run_id is not None and self.stores.registry.has_run(run_id)

    def _fit(
        self,
        name: str,
        declared: CandidateDeclaration,
        key: str,
        split: SplitMade,
        profile: Profile,
    ) -> Entry:
        target, features = _target(profile), list(profile.features)
        parts = {}
        for part in ("train", "validation"):
            rows = self.part_rows(split, part)
            parts[part] = (rows[features], rows[self.problem.dataset.target])
        model = candidates.build(declared, self.problem, target.task, parts["train"][0], self.folder)
        fitted = candidates.fit(model, parts["train"], parts["validation"], self.problem, target)
        stored = candidates.dump(fitted.model, tuple(self.problem.trust))
        said = candidates.predict(fitted.model, parts["validation"][0], target)
        truth = parts["validation"][1].to_numpy()
        latency = candidates.latency_ms(fitted.model, parts["validation"][0])
        seconds = fitted.seconds

        def write(folder: Path) -> dict[str, Any]:
            (folder / MODEL_FILE).write_bytes(stored)
            card = {
                "candidate": name,
                "estimator": declared.estimator,
                "params": {k: str(v) for k, v in declared.params.items()},
                "threshold": fitted.threshold,
                "features": features,
                "metrics": evaluations.score(truth, said, target),
                "missing": _incomplete(said),
                "class_shares": _class_shares(said, target),
                "model_digest": file_digest(folder / MODEL_FILE),
                "bytes": len(stored),
                "requirements": candidates.requirements(fitted.model),
            }
            (folder / CARD).write_text(json.dumps(card))
            return {
                "at": self.clock(),
                "seconds": seconds,
                "latency_ms": latency,
                "environment": candidates.environment(),
            }

        return self._put("candidate", key, write)

    def _candidate_made(self, name: str, entry: Entry, reused: bool) -> CandidateMade:
        card = entry.json(CARD)
        seconds = entry.facts["seconds"]
        reason = (
            f"Same data, code and configuration as a fit of {seconds:.1f} s: not fitted again."
            if reused
            else f"Fitted in {seconds:.1f} s."
        )
        return CandidateMade(entry, [Verdict("is_fitted", True, reason)], reused, name, card)

    # ------------------------------------------------------------- evaluation

    def evaluation(self) -> EvaluationMade:
        """It ranks the candidates by their metrics on validation.

        Raises:
            NotMaterialized: there is no split.
        """
        split, profile = self._current_split()
        target = _target(profile)
        metric = evaluations.select_metric(target.task, self.problem.select)
        found: dict[str, Entry] = {}
        errors: dict[str, str] = {}
        baseline_name = "baseline"
        for name, declared in self.problem.contenders().items():
            key = self._candidate_key(declared, split, profile)
            if declared.estimator == "baseline":
                baseline_name = name
            if entry := self._find("candidate", key):
                found[name] = entry
            elif failure := self._find("failure", key):
                errors[name] = failure.json(CARD)["error"]
            else:
                errors[name] = "not fitted for the current split and declaration"
        baseline = found.get(baseline_name)
        bar = baseline.json(CARD)["metrics"].get(metric) if baseline else None
        contenders = [Contender(n, error=e) for n, e in errors.items()]
        for name, entry in found.items():
            card = entry.json(CARD)
            seen = _seen("validation", split.parts, card, entry, card["metrics"], metric, bar)
            failed = failures(challenger_gates.ask(seen, self.problem))
            contenders.append(Contender(name, card["metrics"], tuple(v.reason for v in failed)))
        board = evaluations.ranked(contenders, metric)
        winner = evaluations.pick(contenders, metric, baseline_name)
        key = digest_of(
            "evaluation", metric, {n: e.digest for n, e in found.items()}, errors, winner
        )
        entry = self._find("evaluation", key)
        reused = entry is not None
        if entry is None:

            def write(folder: Path) -> dict[str, Any]:
                (folder / CARD).write_text(
                    json.dumps({"metric": metric, "winner": winner, "board": [asdict(c) for c in board]})
                )
                (folder / "leaderboard.png").write_bytes(plots.leaderboard(board, metric, winner))
                return {"at": self.clock()}

            entry = self._put("evaluation", key, write)
        failed_names = ", ".join(sorted(errors))
        if winner is None:
            reason = f"No candidate has a {metric} on validation. Failed: {failed_names}."
        else:
            reason = f"{winner} leads by {metric} on validation among {len(found)} candidates."
            reason += f" Failed: {failed_names}." if errors else ""
        verdicts = [Verdict("a_candidate_is_eligible", winner is not None, reason)]
        return EvaluationMade(entry, verdicts, reused, board, metric, winner, bar)

    # ------------------------------------------------------------- challenger

    def challenger(self) -> ChallengerMade:
        """It scores the leader on test, asks the gates, and registers it as a version.

        The alias `challenger` moves to it only when every enforced gate holds.

        Raises:
            NotMaterialized: no candidate is eligible.
            ModelRefused: the stored candidate is not what was stored.
        """
        made = self._judged()
        if not failures(made.verdicts):
            self.stores.registry.point(self.problem.name, CHALLENGER, made.version.number)
        fate = "failed" if failures(made.verdicts) else "passed"
        if made.version.tags.get("gates") != fate:
            self.stores.registry.tag(self.problem.name, made.version.number, gates=fate)
        return made

    def _judged(self) -> ChallengerMade:
        """It returns the challenger with its gates asked now, whatever was answered before."""
        split, profile = self._current_split()
        target = _target(profile)
        evaluated = self.evaluation()
        if evaluated.winner is None:
            raise NotMaterialized(evaluated.verdicts[0].reason)
        declared = self.problem.contenders()[evaluated.winner]
        entry = self._find("candidate", self._candidate_key(declared, split, profile))
        assert entry is not None  # the winner was found a moment ago
        card = entry.json(CARD)
        scored, reused = self._scored(card["model_digest"], split, target, lambda: self._model(entry))
        record = scored.json(CARD)
        seen = _seen(
            "test", split.parts, {**record, "metrics": card["metrics"]}, entry,
            record["metrics"], evaluated.metric, evaluated.baseline,
        )
        version = self._registered(evaluated.winner, entry, split, profile)
        return ChallengerMade(
            scored, challenger_gates.ask(seen, self.problem), reused,
            evaluated.winner, version, record["metrics"], seen, card["model_digest"],
        )

    def _model(self, entry: Entry) -> Any:
        return load_verified(entry.path, entry.digest, tuple(self.problem.trust))

    def _scored(
        self, model_digest: str, split: SplitMade, target: Target, model: Callable[[], Any]
    ) -> tuple[Entry, bool]:
        """It returns a model's predictions and metrics on today's test rows, made once."""
        key = digest_of("score", model_digest, split.digests["test"], asdict(target))
        entry = self._find("score", key)
        if entry is not None:
            return entry, True

        def write(folder: Path) -> dict[str, Any]:
            rows = self.part_rows(split, "test")
            truth = rows[self.problem.dataset.target].to_numpy()
            said = candidates.predict(model(), rows, target)
            _write_predictions(said, folder / PREDICTIONS)
            record = {
                "metrics": evaluations.score(truth, said, target),
                "missing": _incomplete(said),
                "class_shares": _class_shares(said, target),
            }
            (folder / CARD).write_text(json.dumps(record))
            if not record["missing"]:
                (folder / "judged.png").write_bytes(plots.judged(truth, said, target))
            return {"at": self.clock()}

        return self._put("score", key, write), False

    def _registered(self, name: str, entry: Entry, split: SplitMade, profile: Profile) -> Version:
        assert split.entry
        tags = {"candidate_digest": entry.digest, "split": split.entry.digest}
        known = self.stores.registry.registered(self.problem.name, **tags)
        if known is not None and known.folder.is_dir():
            return known
        card = entry.json(CARD)
        model = self._model(entry)
        rows = self.part_rows(split, "test")
        kept = golden(model, rows, _target(profile))
        example = self.part_rows(split, "train")[card["features"]].head(1000)
        return self.stores.registry.register(
            self.problem.name,
            entry.facts["mlflow_run"],
            name,
            {
                MODEL_FILE: (entry.path / MODEL_FILE).read_bytes(),
                GOLDEN_FILE: json.dumps(kept).encode(),
            },
            example,
            model.predict(example),
            card["requirements"],
            [*candidates.TRUSTED_TYPES, *self.problem.trust],
            {
                **tags,
                **self._tags(split),
                "candidate": name,
                "model_digest": card["model_digest"],
                "dagster_run_id": self.run.run_id,
            },
        )

    def _tags(self, split: SplitMade) -> dict[str, str]:
        assert split.entry
        return {
            "dataset_version": self.stores.lake.current(self.problem.name, "dataset").digest[:16],
            "split": split.entry.digest,
            "config_digest": digest_of(self.problem),
            "code_version": ml_assets.__version__,
        }

    # ------------------------------------------------------------- production

    def production(self) -> ProductionMade:
        """It asks every gate again and decides: promote the challenger, or hold.

        Whoever starts it and in whatever order: the gates are asked here, of today's data, with
        today's declaration.  The pointer moves only after the version was loaded and checked in
        a clean process, and only if the champion is still the one it was compared with.

        Raises:
            NotMaterialized: something that it needs is not made.
            ModelRefused: the challenger's files are not what was recorded.
        """
        for _ in range(MOST_ATTEMPTS):
            made = self._decided()
            if made is not None:
                return made
        raise ModelRefused(
            f"{self.problem.name}: the champion changed {MOST_ATTEMPTS} times while a challenger "
            "was being compared with it. Run again when it is quiet."
        )

    def _decided(self) -> ProductionMade | None:
        split, profile = self._current_split()
        challenger = self._judged()
        verdicts = [
            *dataset_gates.ask(profile, self.problem),
            *split.verdicts,
            *challenger.verdicts,
        ]
        before = self.stores.ledger.champion(self.problem.name)
        if failures(verdicts):
            return ProductionMade(None, verdicts, False, None, before, challenger, None)
        self._mirror(before)
        champion, comparison, metrics = self._compared(before, challenger, split, _target(profile))
        decision = decide(challenger.model_digest, champion)
        if isinstance(decision, Promote):
            in_clean_process(
                challenger.version.folder, challenger.version.digest, tuple(self.problem.trust)
            )
        after = self._recorded(decision, before, challenger, split, comparison)
        if after is None:
            return None
        verdicts = [*verdicts, _beats_the_champion(decision, comparison)]
        return ProductionMade(
            challenger.entry, verdicts, isinstance(decision, Hold), decision,
            after, challenger, comparison, metrics,
        )

    def _mirror(self, champion: dict[str, Any] | None) -> None:
        """It makes the alias agree with the ledger, after a crash between the two or a stray hand."""
        if champion is None:
            return
        pointed = self.stores.registry.pointed(self.problem.name, CHAMPION)
        if pointed != champion["version"]:
            with self.stores.ledger.deciding(self.problem.name) as decision:
                if self.stores.ledger.champion(self.problem.name) != champion:
                    return
                self.stores.registry.point(self.problem.name, CHAMPION, champion["version"])
                decision.append(
                    {
                        "event": "alias repaired",
                        "at": self.clock(),
                        "version": champion["version"],
                        "found": pointed,
                        "run_id": self.run.run_id,
                        "reason": f"The alias champion pointed at {pointed or 'nothing'}; the "
                        f"ledger says version {champion['version']}.",
                    }
                )

    def _compared(
        self,
        before: dict[str, Any] | None,
        challenger: ChallengerMade,
        split: SplitMade,
        target: Target,
    ) -> tuple[Champion | None, Comparison | None, dict[str, float]]:
        if before is None:
            return None, None, {}
        version, digest = before["version"], before["model_digest"]
        try:
            scored, _ = self._scored(digest, split, target, lambda: self._champion_model(before))
            metrics = scored.json(CARD)["metrics"]
            if digest == challenger.model_digest:
                return Champion(version, digest), None, metrics
            gate = self.problem.champion_gate()
            truth = self.part_rows(split, "test")[self.problem.dataset.target].to_numpy()
            assert challenger.entry
            comparison = compare(
                challenger.seen.select,
                truth,
                _read_predictions(challenger.entry.path / PREDICTIONS),
                _read_predictions(scored.path / PREDICTIONS),
                target,
                gate.confidence,
                gate.by,
                self.problem.seed,
            )
        except (CandidateError, ModelRefused, DatasetError, KeyError) as error:
            return Champion(version, digest, None, str(error)), None, {}
        return Champion(version, digest, comparison), comparison, metrics

    def _champion_model(self, champion: dict[str, Any]) -> Any:
        version = self.stores.registry.version(self.problem.name, champion["version"])
        return load_verified(version.folder, champion["digest"], tuple(self.problem.trust))

    def _recorded(
        self,
        decision: Promote | Hold,
        before: dict[str, Any] | None,
        challenger: ChallengerMade,
        split: SplitMade,
        comparison: Comparison | None,
    ) -> dict[str, Any] | None:
        """It writes the decision and moves the pointer; None when the champion changed meanwhile."""
        assert split.entry
        entry = {
            "event": PROMOTION if isinstance(decision, Promote) else HOLD,
            "at": self.clock(),
            "version": challenger.version.number,
            "candidate": challenger.name,
            "digest": challenger.version.digest,
            "model_digest": challenger.model_digest,
            "previous": before["version"] if before else None,
            "reason": decision.reason,
            "comparison": asdict(comparison) if comparison else None,
            "metrics": challenger.metrics,
            "gates": [{"name": v.name, "passed": v.passed, "reason": v.reason} for v in challenger.verdicts],
            "actor": self.actor,
            "run_id": self.run.run_id,
            "test": split.digests["test"],
            **self._tags(split),
        }
        with self.stores.ledger.deciding(self.problem.name) as deciding:
            if self.stores.ledger.champion(self.problem.name) != before:
                return None
            if isinstance(decision, Hold):
                if not self._held_before(entry):
                    deciding.append(entry)
                return before
            written = deciding.append(entry)
            self.stores.registry.point(self.problem.name, CHAMPION, challenger.version.number)
        return written

    def _held_before(self, entry: dict[str, Any]) -> bool:
        past = self.stores.ledger.entries(self.problem.name)
        same = ("event", "version", "previous", "test", "reason")
        return bool(past) and all(past[-1].get(k) == entry[k] for k in same)

    # ------------------------------------------------------------------ files

    def _find(self, noun: str, key: str) -> Entry | None:
        return self.stores.lake.find(self.problem.name, noun, key)

    def _put(self, noun: str, key: str, write: Callable[[Path], dict[str, Any]]) -> Entry:
        return self.stores.lake.put(self.problem.name, noun, key, write)


def _beats_the_champion(decision: Promote | Hold, comparison: Comparison | None) -> Verdict:
    evidence = asdict(comparison) if comparison else {}
    return Verdict(
        "beats_the_champion", isinstance(decision, Promote), decision.reason, evidence, "warn"
    )


def _seen(
    part: str,
    parts: dict[str, Part],
    card: dict[str, Any],
    entry: Entry,
    metrics: dict[str, float],
    select: str,
    baseline: float | None,
) -> Seen:
    return Seen(
        part=part,
        rows=parts[part].rows,
        metrics=metrics,
        missing=card["missing"],
        latency_ms=entry.facts["latency_ms"],
        select=select,
        own=card["metrics"].get(select),
        baseline=baseline,
        class_shares=card["class_shares"],
    )


def _target(profile: Profile) -> Target:
    if profile.target is None:
        raise DatasetError(profile.trouble or "The dataset has no usable target.")
    return profile.target


def _profile(entry: Entry) -> Profile:
    record = entry.json(PROFILE)
    target = record["target"]
    if target is not None:
        target = Target(
            target["task"], target["why"], tuple(target["classes"]),
            tuple(target["counts"]), target["positive"],
        )
    columns = {n: Column(**c) for n, c in record["columns"].items()}
    return Profile(
        record["rows"], columns, tuple(record["features"]), target, record["trouble"],
        record["duplicates"],
    )


def _params(declared: CandidateDeclaration) -> dict[str, Any]:
    return {"estimator": declared.estimator, **declared.params}


def _incomplete(said: Predictions) -> int:
    import numpy as np
    import pandas as pd

    gone = pd.isna(said.values)
    if said.values.dtype.kind == "f":
        gone |= ~np.isfinite(said.values)
    if said.probabilities is not None:
        gone |= ~np.isfinite(said.probabilities).all(axis=1)
    return int(gone.sum())


def _class_shares(said: Predictions, target: Target) -> dict[str, float]:
    return {str(c): float((said.values == c).mean()) for c in target.classes}


def _write_error(folder: Path, message: str, at: float) -> dict[str, Any]:
    (folder / CARD).write_text(json.dumps({"error": message}))
    return {"at": at}


def _frame_digest(rows: Any) -> str:
    import pandas as pd

    hashed = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return digest_of(list(rows.columns), [str(t) for t in rows.dtypes], hashed.hex())


def _write_rows(rows: Any, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [c for c in rows.columns if rows[c].dtype == object]
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table, file, compression="lz4", use_dictionary=text)


def _write_predictions(said: Predictions, file: Path) -> None:
    import pandas as pd

    columns = {"prediction": said.values}
    if said.probabilities is not None:
        columns |= {f"probability_{i}": p for i, p in enumerate(said.probabilities.T)}
    _write_rows(pd.DataFrame(columns), file)


def _read_predictions(file: Path) -> Predictions:
    import pandas as pd

    table = pd.read_parquet(file)
    probabilities = table.drop(columns="prediction").to_numpy()
    values = table["prediction"].to_numpy()
    return Predictions(values, probabilities if probabilities.shape[1] else None)
