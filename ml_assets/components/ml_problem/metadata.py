"""Metadata: what the UI shows with each asset, derived from what a round returned."""

import base64
import html
import os
import platform
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.evaluation import Contender
from ml_assets.metric import METRICS
from ml_assets.resources.lake import Entry
from ml_assets.resources.registry import Registry
from ml_assets.round.candidate import CandidateMade
from ml_assets.round.card import GLANCE, PAGE
from ml_assets.round.challenger import JUDGED, ChallengerMade
from ml_assets.round.dataset import DatasetMade, QuarantineMade
from ml_assets.round.evaluation import LEADERBOARD, EvaluationMade
from ml_assets.round.production import ProductionMade
from ml_assets.round.split import SplitMade

if TYPE_CHECKING:
    from ml_assets.round.canary import CanaryMade
    from ml_assets.round.predictions import PredictionsMade

MOST_COLUMNS_SHOWN = 60
MOST_CELLS = 40
BEST_TRIALS = 8
MOST_SHOWN_AT_ONCE = 200
# What the leaderboard shows beside the metric that ranks, most telling first.
MOST_METRICS_RANKED = 2
READ_FIRST = (
    "accuracy",
    "f1",
    "f1_macro",
    "log_loss",
    "roc_auc",
    "balanced_accuracy",
    "rmse",
    "mae",
    "r2",
    "mape",
    "max_error",
)


def of_dataset(made: DatasetMade) -> dict[str, Any]:
    """It returns what is shown with the dataset."""
    profile, target = made.profile, made.profile.target
    shown = list(profile.columns.items())[:MOST_COLUMNS_SHOWN]
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                c.type,
                description=f"{c.distinct:,} distinct, {c.missing:,} missing"
                + (f", {c.min:g} to {c.max:g}" if c.min is not None else ""),
                constraints=dg.TableColumnConstraints(nullable=c.missing > 0),
            )
            for name, c in shown
        ]
    )
    found: dict[str, Any] = {
        "dagster/row_count": profile.rows,
        "dagster/column_schema": schema,
        "preview": dg.MetadataValue.md(preview(made.first)),
        "source": made.source,
        "version": made.entry.digest[:16],
        "table_version": made.version,
        "files": len(made.arrived.files),
        **_arrived(made),
        "columns": len(profile.columns),
        "features": len(profile.features),
        "duplicate_rows": profile.duplicates,
        "reused": _reused(made.reused),
        "table": dg.MetadataValue.path(str(made.table)),
    }
    if target is not None:
        found["task"] = f"{target.task} ({target.why})"
    if target is not None and target.classes:
        total = sum(target.counts)
        counted = zip(target.classes, target.counts, strict=True)
        found["classes"] = dg.MetadataValue.md(
            table(
                ("class", "rows", "share", "positive"),
                [
                    (c, f"{n:,}", f"{n / total:.1%}", "yes" if c == target.positive else "")
                    for c, n in counted
                ],
            )
        )
    return found


def _arrived(made: DatasetMade) -> dict[str, Any]:
    """It returns what came now, and what became of it; nothing for what did not happen."""
    came = made.arrived
    told: dict[str, Any] = {"files_read": came.read}
    if came.batches:
        told["new_batches"] = dg.MetadataValue.md(
            table(
                ("batch", "rows"),
                [(b.name, f"{b.stored.rows:,}") for b in came.batches[:MOST_CELLS]],
            )
        )
        told["new_rows"] = sum(b.stored.rows for b in came.batches)
    left = [(b.name, line, n) for b in came.batches for line, n in b.left_out]
    if left:
        told["lines_left_out"] = dg.MetadataValue.md(
            table(("file", "line", "fields"), left[:MOST_CELLS])
        )
    for word, found in (("same_bytes_as", came.same), ("waiting", came.waiting)):
        if found:
            shown = list(found.items())[:MOST_CELLS]
            told[word] = dg.MetadataValue.md(table(("file", word.replace("_", " ")), shown))
    return told


def of_quarantine(made: QuarantineMade) -> dict[str, Any]:
    """It returns what is shown with the quarantine."""
    shown = [
        (
            q.name,
            q.state,
            q.reason,
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(q.at)),
            q.batch[:12],
        )
        for q in made.batches[:MOST_CELLS]
    ]
    counted = {
        s: sum(q.state == s for q in made.batches)
        for s in ("awaits", "released", "replaced", "gone")
    }
    # Dagster draws a Markdown of some length only after a click: the last few are short
    latest = [(q.name, q.state, q.reason[:MOST_SHOWN_AT_ONCE]) for q in made.batches[:3]]
    return {
        **counted,
        "latest": dg.MetadataValue.md(table(("file", "state", "reason"), latest) if latest else ""),
        "batches": dg.MetadataValue.md(
            table(("file", "state", "reason", "refused (UTC)", "batch"), shown)
            if shown
            else "None was refused."
        ),
    }


def of_predictions(made: "PredictionsMade") -> dict[str, Any]:
    """It returns what is shown with the predictions."""
    folder, name = os.path.dirname, os.path.basename  # of what may be a path or an address
    now = [(f.name, f.rows, f.wrong_rows, name(f.output)) for f in made.scored[:MOST_CELLS]]
    columns = ("file", "rows", "wrong rows", "predictions")
    unseen = [(name, count) for name, count in made.unseen.items()]
    return {
        "model_version": made.version,
        "files": len(made.scored),
        "dagster/row_count": sum(f.rows for f in made.scored),
        "wrong_rows": sum(f.wrong_rows for f in made.scored),
        "scored": dg.MetadataValue.md(table(columns, now)),
        **({"folder": dg.MetadataValue.path(folder(made.scored[0].output))} if now else {}),
        "unseen_values": dg.MetadataValue.md(
            table(("column", "values"), unseen) if unseen else "None."
        ),
    }


def of_part(made: SplitMade, part: str) -> dict[str, Any]:
    """It returns what is shown with one part of the split."""
    total = sum(p.rows for p in made.parts.values())
    return {
        "dagster/row_count": made.parts[part].rows,
        "share": round(made.parts[part].rows / max(total, 1), 4),
        "split_by": made.how,
        "class_counts": ", ".join(f"{n:,}" for n in made.parts[part].counts) or "(a number)",
        "preview": dg.MetadataValue.md(preview(made.first[part])),
        "reused": _reused(made.reused),
        "file": dg.MetadataValue.path(str(made.entry.path / f"{part}.parquet")),
    }


def of_candidate(made: CandidateMade, problem: str, registry: Registry) -> dict[str, Any]:
    """It returns what is shown with a candidate."""
    assert made.entry
    facts, card = made.entry.facts, made.card
    return {
        **{k: round(v, 6) for k, v in card["metrics"].items()},
        "fit_seconds": round(facts["seconds"], 3),
        "latency_ms": round(facts["latency_ms"], 3),
        "size_bytes": card["bytes"],
        "estimator": card["estimator"],
        **({"threshold": round(card["threshold"], 6)} if card["threshold"] is not None else {}),
        **({"members": ", ".join(card["members"])} if card["members"] else {}),
        **_search(made),
        "model_digest": card["model_digest"],
        **of_card(made.page),
        "reused": _reused(made.reused),
        **({} if made.reused else {"node": platform.node()}),
        "mlflow": dg.MetadataValue.url(registry.run_link(problem, facts["mlflow_run"])),
        "file": dg.MetadataValue.path(str(made.entry.path)),
    }


def of_card(page: Entry | None) -> dict[str, Any]:
    """It returns what is shown of a card: a picture, a click away, and where the whole page is."""
    if page is None:
        return {}
    shown: dict[str, Any] = {"card": dg.MetadataValue.path(str(page.path / PAGE))}
    if (page.path / GLANCE).exists():
        data = base64.b64encode((page.path / GLANCE).read_bytes()).decode()
        drawn = f"![at a glance](data:image/svg+xml;base64,{data})"
        shown["at_a_glance"] = dg.MetadataValue.md(drawn)
    if "trouble" in page.facts:
        shown["card_trouble"] = page.facts["trouble"]
    return shown


def _search(made: CandidateMade) -> dict[str, Any]:
    """It returns what is shown of a search: the best trials, and a picture; nothing without one."""
    search = made.card["search"]
    if not search or made.entry is None:
        return {}
    from ml_assets.plots import searched

    trials = made.entry.facts["trials"]
    greater = METRICS[search["how"].split(" trials, ")[1].split()[0]][0]
    done = sorted(
        (t for t in trials if t["value"] is not None), key=lambda t: t["value"], reverse=greater
    )
    columns = ("value", *search["best"], "seconds")
    lines = [
        (f"{t['value']:.6g}", *(t["params"][n] for n in search["best"]), f"{t['seconds']:.2f}")
        for t in done[:BEST_TRIALS]
    ]
    return {
        "search": search["how"],
        **{f"best_{k}": str(v) for k, v in search["best"].items()},
        "best_trials": dg.MetadataValue.md(table(columns, lines)),
        "trials": picture(searched(trials, greater), "trials of the search"),
    }


def of_evaluation(made: EvaluationMade) -> dict[str, Any]:
    """It returns what is shown with the evaluation."""
    return {
        "leaderboard": dg.MetadataValue.md(leaderboard(made.board, made.metric)),
        "plot": picture(made.entry.path / LEADERBOARD, "leaderboard"),
        "winner": made.winner or "none",
        "select": made.metric,
        "candidates": len([c for c in made.board if not c.error]),
        "failed_candidates": len([c for c in made.board if c.error]),
        "reused": _reused(made.reused),
    }


def of_challenger(made: ChallengerMade, problem: str, registry: Registry) -> dict[str, Any]:
    """It returns what is shown with the challenger."""
    drawn = made.score.path / JUDGED
    return {
        "candidate": made.name,
        "version": made.version.number,
        "gates": dg.MetadataValue.md(gates_table(made.verdicts)),
        "judged_before": made.judged_before,
        **({"plot": picture(drawn, "predictions against truth on test")} if drawn.exists() else {}),
        **of_card(made.page),
        **{k: round(v, 6) for k, v in made.metrics.items()},
        "model_digest": made.model_digest,
        "reused": _reused(made.reused),
        "mlflow": dg.MetadataValue.url(registry.version_link(problem, made.version.number)),
    }


def of_canary(made: "CanaryMade") -> dict[str, Any]:
    """It returns what is shown with the canary."""
    assert made.written and made.canary and made.standing and made.decision
    found, terms = made.found, made.canary["terms"]
    compared: dict[str, Any] = {}
    if found is not None:
        lines = [("canary", found.one), ("champion", found.other)]
        compared = {
            "compared": dg.MetadataValue.md(table(("", found.metric), lines)),
            "gain": found.gain,
            "gain_low": found.low,
            "gain_high": found.high,
            "verdict": found.verdict,
        }
    return {
        "version": made.canary["version"],
        "champion": made.canary["previous"] or 0,
        "event": made.written["event"],
        "reason": made.decision.reason,
        "share": terms["share"],
        "labelled_rows": made.standing.rows,
        "looks": len(made.standing.looked_at) + (made.written["comparison"] is not None),
        **compared,
        "days_so_far": round(made.standing.seconds / 86_400, 3),
        "days_at_most": round(terms["longest"] / 86_400, 3),
        "ledger_entry": made.written["number"],
    }


def of_production(made: ProductionMade, problem: str, registry: Registry) -> dict[str, Any]:
    """It returns what is shown with the production model."""
    assert made.champion
    return {
        "version": made.champion["version"],
        "previous_version": made.champion["previous"] or "none",
        "candidate": made.champion["candidate"],
        "reason": made.champion["reason"],
        "gates": dg.MetadataValue.md(gates_table(made.verdicts)),
        **{k: round(v, 6) for k, v in made.challenger.metrics.items()},
        "model_digest": made.champion["model_digest"],
        "dataset_version": made.champion["dataset_version"],
        "ledger_entry": made.champion["number"],
        "mlflow": dg.MetadataValue.url(registry.version_link(problem, made.champion["version"])),
    }


def leaderboard(board: list[Contender], metric: str) -> str:
    """It returns the leaderboard as a Markdown table: the ranking metric first, then a few others.

    The UI draws Markdown in place only while it is short; each candidate shows all its metrics.
    """
    present = {m for c in board for m in c.metrics} - {metric}
    known = [m for m in READ_FIRST if m in present][:MOST_METRICS_RANKED]
    columns = ("", "candidate", metric, *known, "remark")
    lines = []
    for place, c in enumerate(board, 1):
        cells = [f"{c.metrics[m]:.4g}" if m in c.metrics else "" for m in (metric, *known)]
        lines.append((place if not c.error else "", c.name, *cells, _remark(c)))
    return table(columns, lines)


def _remark(contender: Contender) -> str:
    if contender.error:
        return contender.error
    first, *more = contender.failed_gates or ("",)
    return f"{first} And {len(more)} more." if more else first


def gates_table(verdicts: Iterable[Any]) -> str:
    """It returns verdicts as a Markdown table."""
    said = [
        (
            "✓" if v.passed else "FAILED" if v.mode == "enforce" else "warns",
            v.name,
            v.reason,
        )
        for v in verdicts
    ]
    return table(("", "gate", "reason"), said)


def preview(first: Mapping[str, Any]) -> str:
    """It returns the first rows as a Markdown table, bounded in width and length."""
    left = first["of"] - len(first["columns"])
    return table(tuple(first["columns"]), map(tuple, first["cells"])) + (
        f"\n\nand {left:,} more columns" if left > 0 else ""
    )


def table(columns: tuple[str, ...], lines: Iterable[tuple[Any, ...]]) -> str:
    """It returns a Markdown table; cells are cut, and cannot break out of it."""
    head = "| " + " | ".join(map(_cell, columns)) + " |"
    rule = "|" + "---|" * len(columns)
    return "\n".join([head, rule, *("| " + " | ".join(map(_cell, line)) + " |" for line in lines)])


def _cell(value: Any) -> str:
    text = (
        ""
        if value is None or value != value
        else f"{value:.6g}"
        if isinstance(value, float)
        else str(value)
    )
    if len(text) > MOST_CELLS * 4:
        text = text[: MOST_CELLS * 4 - 3] + "..."
    text = " ".join(text.split())
    return html.escape(text).replace("|", "\\|").replace("`", "&#96;")


def picture(file: Any, what: str) -> dg.MetadataValue:
    """It returns a PNG file, or its bytes, as metadata that the UI draws in place."""
    png = file if isinstance(file, bytes) else file.read_bytes()
    data = base64.b64encode(png).decode()
    return dg.MetadataValue.md(f"![{what}](data:image/png;base64,{data})")


def _reused(reused: bool) -> str:
    return "yes: nothing that it depends on has changed" if reused else "no"
