"""A report: what a run came to, and how a problem stands, in words for people."""

import textwrap
from collections.abc import Iterable
from typing import Any

import click

from ml_assets.errors import counted
from ml_assets.metric import METRICS

MOST_WRONG_SHOWN = 10
MOST_NAME = 32  # of a candidate, in a table


def run_text(document: dict[str, Any]) -> str:
    """It returns what a run came to: leaderboard, gates, decision, and where to look."""
    lines: list[str] = []
    if document["otherwise"]:
        lines += [f"With {document['otherwise']}", ""]
    board = document["candidates"]
    if board:
        ranked = _board(board, document["select"], document["winner"])
        lines += ["Leaderboard (on validation)", *ranked, ""]
        fitted = sum(c["fitted"] for c in board.values())
        reused = sum(c["reused"] for c in board.values())
        if reused:
            lines += [
                f"Fitted {fitted} of {len(board)} candidates; {reused} reused: nothing that they "
                "depend on has changed.",
                "",
            ]
    for q in document["dataset"]["quarantined"]:
        lines.append(f"{click.style('quarantined', fg='red')} {q['file']}: {q['reason']}")
    if document["dataset"]["quarantined"]:
        names = [q["file"] for q in document["dataset"]["quarantined"]]
        lines += [_what_to_do(document["problem"], names), ""]
    if document["challenger"]:
        shown = _metrics(document["challenger"]["metrics"], document["select"])
        lines.append(f"Challenger {document['challenger']['candidate']} on test: {shown}")
        before = document["challenger"]["judged_before"]
        if before:
            lines.append(
                f"{before} other challenger{'s were' if before > 1 else ' was'} judged on these "
                "test rows before: each is another chance for luck to look like skill."
            )
        lines.append("")
    if document["gates"]:
        lines += ["Gates", *_gates(document["gates"]), ""]
    for step, message in document["errors"].items():
        lines += [f"{click.style('failed', fg='red')} {step}: {message}", ""]
    lines += _after_deployment(document["live"])
    decided = "promoted" if document["decision"]["promoted"] else "held"
    if not document["success"]:
        decided = "refused"
    if document["challenger"] or not document["live"]:
        lines.append(f"Decision: {decided}. {document['decision']['reason']}")
    now = document["champion"]
    lines.append(
        f"Champion: version {now['version']} ({now['candidate']}), since {now['since']}."
        if now
        else "Champion: none."
    )
    for run in document["follows"]:
        by_itself = "" if run["by_hand"] else "  (while `ml-assets ui` works, it starts by itself)"
        lines.append(f"Next: {run['command']}{by_itself}")
    lines += ["", "Where to look: `ml-assets ui`, then", *(f"  {x}" for x in document["links"])]
    return "\n".join(lines)


def _board(board: dict[str, Any], metric: str, winner: str | None) -> list[str]:
    direction = -1 if METRICS[metric][0] else 1
    ordered = sorted(
        board.items(),
        key=lambda item: (
            metric not in item[1]["metrics"],
            direction * item[1]["metrics"].get(metric, 0),
        ),
    )
    also = [
        m for m in list(METRICS) if m != metric and any(m in c["metrics"] for c in board.values())
    ]
    also = [m for m in also if m in ("accuracy", "f1_macro", "log_loss", "mae", "r2")][:3]
    # Names and columns are as wide as they must be, so that the table fits a terminal.
    wide = min(max(len(n) for n in (*board, "candidate")), MOST_NAME)
    widths = [max(len(m), 8) + 2 for m in (metric, *also)]

    def line(mark: str, name: str, cells: Iterable[str]) -> str:
        told = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"  {mark:2}{name[:MOST_NAME]:<{wide}}{told}"

    lines = [line("", "candidate", (metric, *also))]
    for name, c in ordered:
        mark = "*" if name == winner else " "
        if c["error"]:
            lines.append(f"  {mark:2}{name[:MOST_NAME]:<{wide}}  failed: {c['error'][:100]}")
            continue
        cells = [f"{c['metrics'].get(m, float('nan')):.5g}" for m in (metric, *also)]
        lines.append(line(mark, name, cells))
    return lines


def _gates(gates: list[dict[str, Any]]) -> list[str]:
    """It returns the gates, a line each; those on data that hold share one, for they are many."""
    lines: list[str] = []
    quiet: dict[str, list[str]] = {"the data": [], "live rows": []}
    for g in gates:
        if g["name"] == "beats_the_champion":  # that is the decision
            continue
        if g["passed"] and g["asset"] not in ("challenger", "production_model"):
            after = g["asset"] in ("monitoring", "predictions", "rollback_decision", "canary")
            about = quiet["live rows" if after else "the data"]
            about += [g["name"]] if g["name"] != "is_fitted" else []
            continue
        mark = "ok  " if g["passed"] else ("FAIL" if g["severity"] == "ERROR" else "warn")
        colour = "green" if g["passed"] else ("red" if g["severity"] == "ERROR" else "yellow")
        lines.append(f"  {click.style(mark, fg=colour)} {g['name']}: {g['reason']}")
    told = [f"{len(names)} on {what}: {', '.join(names)}" for what, names in quiet.items() if names]
    return [*(f"  {click.style('ok  ', fg='green')} {t}" for t in told), *lines]


def _after_deployment(live: dict[str, dict[str, Any]]) -> list[str]:
    """It returns what was scored and seen after deployment, and what follows from it."""
    lines = []
    if scored := live.get("predictions"):
        lines.append(
            f"Scored: {counted(scored['row_count'], 'row')} of {counted(scored['files'], 'file')} "
            f"by version {scored['model_version']}."
        )
    if seen := live.get("monitoring"):
        lines.append(
            f"Live rows: {seen['live_rows']:,} of version {seen['model_version']}, in "
            f"{counted(seen['windows'], 'window')}. {seen['labels']}"
        )
    for asset, what in (
        ("rollback_decision", "Fresh champion"),
        ("retrain_decision", "Retraining"),
    ):
        if decided := live.get(asset):
            lines.append(f"{what}: {decided['decision']}. {decided['reason']}")
    return lines


def _metrics(metrics: dict[str, float], first: str | None, most: int = 5) -> str:
    """It returns a few metrics, the one that ranks first."""
    ordered = sorted(metrics.items(), key=lambda m: m[0] != first)
    return ", ".join(f"{name} {value:.4g}" for name, value in ordered[:most])


def _what_to_do(problem: str, names: list[str]) -> str:
    name = names[0] if len(names) == 1 else "FILE"
    return (
        "Put a corrected file in its place, and run again. If it is right as it is: "
        f"`ml-assets release {problem} {name} --why TEXT`."
    )


# ---------------------------------------------------------------- status, check


def status_text(shown: dict[str, Any]) -> str:
    """It returns a status for people."""
    lines = [shown["problem"]]
    now, dataset, last = shown["champion"], shown["dataset"], shown["last_decision"]
    if now:
        metrics = _metrics(now["metrics"], shown["select"])
        lines.append(
            f"  champion  version {now['version']} ({now['candidate']}) since {now['since']}"
        )
        lines.append(f"            on test: {metrics}")
    else:
        lines.append("  champion  none")
    if tried := shown["canary"]:
        part = f"{tried['share']:.0%} of the rows" if tried["share"] else "as a shadow"
        looks = f"{tried['looks']} looks" if tried["looks"] != 1 else "1 look"
        lines.append(
            f"  canary    version {tried['version']} ({tried['candidate']}), {part}, since "
            f"{tried['since']} until {tried['until']} at the latest; {looks} so far"
        )
    lines.append(
        f"  dataset   {dataset['version']}, read {dataset['read_at']} from {dataset['source']}"
        if dataset
        else "  dataset   none"
    )
    if last:
        lines.append(f"  decided   {last['decision']} at {last['at']}: {last['reason']}")
    return "\n".join(lines)


def history_text(shown: dict[str, Any]) -> str:
    """It returns a problem's history for people: one decision a line, its reason below."""
    if not shown["entries"]:
        return f"{shown['problem']}: nothing was decided" + (
            f" until {shown['at']}." if shown["at"] else " yet."
        )
    lines = []
    for e in shown["entries"]:
        who = f"version {e['version']}" if e["version"] else str(e["file"])
        who += f" ({e['candidate']})" if e["candidate"] else ""
        lines.append(
            f"{e['at']}  {e['event']:<14}  {who}" + (f", by {e['actor']}" if e["actor"] else "")
        )
        gate = f"{e['gate']} until {e['until']}: " if e["gate"] else ""
        lines.append(f"    {gate}{e['reason']}")
    live = f"version {shown['champion']}" if shown["champion"] else "none"
    when = f"at {shown['at']}" if shown["at"] else "now"
    return "\n".join([*lines, f"Champion {when}: {live}"])


def rollback_text(name: str, entry: dict[str, Any]) -> str:
    """It returns what a rollback did, for people."""
    return (
        f"{name}: version {entry['version']} ({entry['candidate']}) was verified and serves again, "
        f"in place of version {entry['previous']}.\nReason: {entry['reason']}"
    )


def withdrawal_text(name: str, entry: dict[str, Any]) -> str:
    """It returns what withdrawing a canary did, for people."""
    return (
        f"{name}: version {entry['version']} ({entry['candidate']}) is no canary any more; the champion "
        f"answers all rows.\nReason: {entry['reason']}"
    )


def quarantine_text(shown: dict[str, Any]) -> str:
    """It returns the refused batches for people: one a line, its reason below."""
    if not shown["batches"]:
        return f"{shown['problem']}: nothing is in quarantine."
    lines = []
    for q in shown["batches"]:
        lines.append(f"{q['at']}  {q['state']:<9} {q['file']}  (batch {q['batch'][:12]})")
        lines.append(f"    {q['reason']}")
    if waits := [q["file"] for q in shown["batches"] if q["state"] == "awaits"]:
        lines += ["", _what_to_do(shown["problem"], waits)]
    return "\n".join(lines)


def release_text(name: str, entry: dict[str, Any]) -> str:
    """It returns what a release did, for people."""
    return (
        f"{name}: {entry['file']} comes in at the next run: `ml-assets run {name}`.\n"
        f"Reason: {entry['reason']}"
    )


def approval_text(name: str, entry: dict[str, Any]) -> str:
    """It returns what an approval did, for people."""
    before = f", in place of version {entry['previous']}" if entry["previous"] else ""
    return (
        f"{name}: version {entry['version']} ({entry['candidate']}) was verified and serves now"
        f"{before}.\nReason: {entry['reason']}"
    )


def override_text(name: str, entry: dict[str, Any]) -> str:
    """It returns what an override did, for people."""
    return (
        f"{name}: version {entry['version']} may pass `{entry['gate']}` until {entry['until']}, if "
        f"every other gate holds and it is better: `ml-assets run {name}`.\n"
        f"Reason: {entry['reason']}"
    )


def card_text(shown: dict[str, Any]) -> str:
    """It returns where a card is, for people."""
    return f"{shown['problem']}/{shown['asset']}, on {shown['part']}: {shown['card']}"


def reproduction_text(shown: dict[str, Any]) -> str:
    """It returns what making a version again came to, for people."""
    what = f"{shown['problem']}: version {shown['version']} ({shown['candidate']})"
    told = [
        f"  {d['what']}: recorded {d['recorded']}, found {d['found']}" for d in shown["differences"]
    ]
    if shown["same"]:
        same = f"{what} was made again: dataset, split, model ({shown['model_digest'][:16]}) and "
        return "\n".join([f"{same}metrics are identical.", *told])
    return "\n".join([f"{what} came out otherwise:", *told])


def import_text(document: dict[str, Any]) -> str:
    """It returns what became of a recipe, key by key."""
    lines = [f"Wrote {file}" for file in document["files"]]
    for fate in ("carried over", "done otherwise", "no equivalent"):
        told = [line for line in document["lines"] if line["fate"] == fate]
        if told:
            lines += ["", f"{fate.capitalize()} ({len(told)})"]
            lines += [f"  {line['key']}: {line['told']}" for line in told]
    name = document["problem"]
    return "\n".join([*lines, "", f"Next: ml-assets check {name}, then ml-assets run {name}"])


def clean_text(document: dict[str, Any]) -> str:
    """It returns what a clean-up removed, or would remove."""
    done = "Would remove" if document["dry_run"] else "Removed"
    lines = [
        f"  {noun}: {counted(n['files'], 'file')}, {_size(n['bytes'])}"
        for noun, n in document["removed"].items()
    ]
    lines += [f"  kept {what}: {why}" for what, why in document["kept"].items()]
    what, name = counted(document["files"], "file"), document["problem"]
    head = f"{done} {what}, {_size(document['bytes'])}, of {name}."
    if not document["files"]:
        head = f"There is nothing to remove of {name}."
    return "\n".join([head, *lines])


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        size /= 1000
    return f"{size:.3g} GB"


def parts_text(parts: list[dict[str, Any]]) -> str:
    """It returns what a declaration can name, a line each; what another package provides says so."""
    width = max((len(p["name"]) for p in parts), default=0)
    lines = []
    for p in parts:
        by = f" [{p['package']} {p['version']}]" if p["version"] else ""
        lines.append(f"{p['name']:{width}}  {p['about']}{by}")
        if p["remark"]:
            lines.append(f"{'':{width}}  {click.style('note', fg='yellow')} {p['remark']}")
    return "\n".join(lines)


def prediction_text(shown: dict[str, Any]) -> str:
    """It returns what scoring a file came to, for people: the first wrong rows, and the output."""
    lines = [f"  line {w['line']:,}: {w['reason']}" for w in shown["wrong"][:MOST_WRONG_SHOWN]]
    if shown["wrong_rows"] > len(lines):
        lines.append(f"  and {shown['wrong_rows'] - len(lines):,} more")
    if lines:
        lines.insert(0, f"{shown['wrong_rows']:,} rows have no prediction:")
    lines += [
        f"`{name}`: {count:,} values that the contract does not name"
        for name, count in shown["unseen"].items()
    ]
    return "\n".join(
        [
            *lines,
            f"{shown['problem']}: {shown['rows']:,} rows scored by version {shown['version']} in "
            f"{shown['seconds']:.1f} s: {shown['output']}",
        ]
    )


def alert_text(document: dict[str, Any]) -> str:
    """It returns what was told to whom, and what was not."""
    lines = [f"sent: {said}" for said in document["sent"]]
    lines += [f"not sent: {said}" for said in document["troubles"]]
    return "\n".join(lines) or "Nothing happened since they were told last."


def replay_text(document: dict[str, Any]) -> str:
    """It returns what each policy made of a history: window by window, and counted."""
    policies, metric = document["policies"], document["metric"]
    better = "greater" if document["greater_is_better"] else "smaller"
    ends = ["the start", *(str(w["last"])[:16] for w in document["windows"][1:])]
    wide = max(map(len, ends))
    heads = "".join(f"{p['name']:>9} " for p in policies)
    lines = [
        f"{document['problem']}: live {metric} in each window ({better} is better)",
        "",
        f"{'':>3} {'until':<{wide}} {'rows':>7} {heads}".rstrip(),
    ]
    for window, end in zip(document["windows"], ends, strict=True):
        cells = "".join(_replay_cell(p["steps"][window["number"]]) for p in policies)
        line = f"{window['number']:>3} {end:<{wide}} {window['rows']:>7,} {cells}"
        lines.append(line.rstrip())
    lines += [
        "",
        "  + promoted after the window, = held, x refused, ! alarm in the window",
        "",
        f"{'':<11}{'mean':>9}{'retrained':>11}{'promoted':>10}{'held':>6}{'refused':>9}"
        f"{'alarms':>8}{'fit s':>8}",
    ]
    for p in policies:
        mean = f"{p['mean']:.4g}" if p["mean"] is not None else "–"
        counts = f"{p['retrainings']:>11}{p['promotions']:>10}{p['holds']:>6}{p['refusals']:>9}"
        counts += f"{p['alarms']:>8}{p['fit_seconds']:>8.1f}"
        lines.append(f"{p['name']:<11}{mean:>9}{'' if p['name'] == 'oracle' else counts}")
    lines += [""] + [f"{p['name']}: {p['told']}." for p in policies] + [""]
    lines += [c["sentence"] for c in document["comparisons"]]
    lines += ["", *document["told"]] if document["told"] else []
    wrapped = [textwrap.fill(line, 80) if len(line) > 80 else line for line in lines]
    return "\n".join(wrapped)


def _replay_cell(step: dict[str, Any]) -> str:
    value = f"{step['score']:.4g}" if step["score"] is not None else "–"
    fate = {"promoted": "+", "held": "=", "refused": "x", "": " "}[step["fate"]]
    return f"{value:>8}{fate}{'!' if step['alarms'] else ' '}"
