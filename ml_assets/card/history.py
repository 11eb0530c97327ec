"""The page of a replay: what each policy made of a history, in a picture, tables and sentences."""

import html
import math
from collections.abc import Sequence

from ml_assets.card import Card, Section, Table
from ml_assets.card.drawing import number
from ml_assets.metric import METRICS
from ml_assets.replay import NEVER, NEWEST, ORACLE, Course, Replayed

WIDTH, HEIGHT = 920, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 40, 92
# Colours of the page by policy; the declared one is drawn last, on top of the others.
_COLOURS = {NEWEST: 1, NEVER: 6, ORACLE: 3}
_OWN = (0, 2)  # the declared policy, and another
_MOST_TICKS = 9
_LETTER = 6.2  # of a legend, in width


def picture(played: Replayed) -> str:
    """It draws the live score of each policy in each window, with its promotions and alarms."""
    courses = list(played.courses)
    scores = [s.score for c in courses for s in c.live if s.score is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    low, high = (low, high) if low < high else (low - 0.5, high + 0.5)
    axes = _Axes(len(played.windows) - 1, low, high)
    body = [axes.drawn(played)]
    own = [c for c in courses if c.name not in _COLOURS]
    above = [c for c in courses if c.name in _COLOURS][::-1] + own[::-1]
    body += [_line(axes, c, _colour(c, own), c in own) for c in above]
    body += [_events(axes, course, i, _colour(course, own)) for i, course in enumerate(own)]
    body.append(_legend([(c.name, _colour(c, own)) for c in courses]))
    better = "greater" if METRICS[played.metric][0] else "smaller"
    title = f"{played.problem}: live {played.metric} in each window ({better} is better)"
    return (
        f'<svg class="whole" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}"><text class="t" x="{_LEFT}" y="15">'
        f"{html.escape(title)}</text>{''.join(body)}</svg>"
    )


class _Axes:
    """Where windows and scores stand on the paper."""

    def __init__(self, last: int, low: float, high: float) -> None:
        self.last, self.low, self.high = last, low, high

    def across(self, window: float) -> float:
        return _LEFT + (window - 0.5) / self.last * (WIDTH - _LEFT - _RIGHT)

    def up(self, score: float) -> float:
        share = (score - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def drawn(self, played: Replayed) -> str:
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        lines = [f'<path class="g" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>']
        for i in range(5):
            at = self.low + (self.high - self.low) * i / 4
            y = self.up(at)
            lines.append(
                f'<path class="g" d="M{_LEFT} {y:.1f}H{right}"/>'
                f'<text class="m" x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">'
                f"{number(at)}</text>"
            )
        step = math.ceil(self.last / _MOST_TICKS)
        for window in played.windows[1::step]:
            said = str(window.last)[:10] if isinstance(window.last, str) else str(window.number)
            lines.append(
                f'<text class="m" x="{self.across(window.number):.1f}" y="{bottom + 14}" '
                f'text-anchor="middle">{html.escape(said)}</text>'
            )
        what = "a window ends" if isinstance(played.windows[0].last, str) else "window"
        middle = (_LEFT + right) / 2
        lines.append(f'<text x="{middle:.1f}" y="{bottom + 29}" text-anchor="middle">{what}</text>')
        return "".join(lines)


def _colour(course: Course, own: Sequence[Course]) -> int:
    return _COLOURS.get(course.name, _OWN[own.index(course)] if course in own else 0)


def _line(axes: _Axes, course: Course, colour: int, own: bool) -> str:
    """It draws a policy's scores; a window without one is a gap."""
    pieces: list[list[str]] = [[]]
    for step in course.live:
        if step.score is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{axes.across(step.window):.1f},{axes.up(step.score):.1f}")
    dashed = ' stroke-dasharray="2 3"' if course.name == ORACLE else ""
    wide = 2.6 if own else 1.5
    lines = [
        f'<polyline class="c{colour}" style="stroke-width:{wide}"{dashed} points="{" ".join(p)}"/>'
        for p in pieces
        if p
    ]
    return "".join(lines)


def _events(axes: _Axes, course: Course, place: int, colour: int) -> str:
    """It marks promotions on a policy's line, and holds and alarms below the picture."""
    below = HEIGHT - 40 + 22 * place
    said = f'<text class="m" x="{_LEFT - 5}" y="{below + 2}" text-anchor="end">{course.name}</text>'
    marks = [said]
    half = (axes.across(2) - axes.across(1)) / 2
    for before, step in zip(course.steps, course.live, strict=False):
        if before.fate == "promoted" and before.window and step.score is not None:
            # decided at the end of the window before: between the two
            x, y = axes.across(step.window), axes.up(step.score)
            marks.append(
                f'<circle class="f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>promoted after '
                f"window {before.window}: {html.escape(before.reason)}</title></circle>"
            )
    for step in course.live:
        x = axes.across(step.window)
        if step.alarms:
            told = html.escape(" ".join(step.alarms))
            marks.append(
                f'<path class="f1" d="M{x:.1f} {below - 9}l5 9h-10z"><title>alarm in window '
                f"{step.window}: {told}</title></path>"
            )
        if step.retrained:
            marks.append(
                f'<path class="c{colour}" style="stroke-width:2" d="M{x + half:.1f} {below - 8}v11"/>'
            )
    return "".join(marks)


def _legend(names: Sequence[tuple[str, int]]) -> str:
    x, found = float(_LEFT), []
    for name, colour in names:
        dashed = ' stroke-dasharray="2 3"' if name == ORACLE else ""
        found.append(
            f'<path class="c{colour}" style="stroke-width:2.6"{dashed} d="M{x:.0f} 28h18"/>'
            f'<text x="{x + 23:.0f}" y="32">{html.escape(name)}</text>'
        )
        x += 23 + _LETTER * len(name) + 22
    found.append(f'<text class="m" x="{x:.0f}" y="32">● promoted   | retrained   ▲ alarm</text>')
    return "".join(found)


def card(played: Replayed) -> Card:
    """It returns the page of a replay."""
    declared = played.courses[0]
    counted = declared.summary()
    tiles = [
        (f"mean live {played.metric}, {c.name}", f"{c.mean:.4g}" if c.mean is not None else "–")
        for c in played.courses
    ]
    tiles += [("promotions", str(counted["promotions"])), ("holds", str(counted["holds"]))]
    sections = [
        Section(
            "Live scores",
            "Each window's rows are scored by the champion of that time before anybody knows their "
            "labels. A dot is a promotion: from that window on another model serves. Below: "
            "when it retrained (bars) and when monitoring gave an alarm (triangles).",
            pictures=(picture(played),),
        ),
        Section("Policies", _explained(played), tables=(_summary(played), _pairs(played))),
        Section("Windows", tables=(_scores(played),)),
    ]
    own = [c for c in played.courses if c.name not in _COLOURS]
    sections += [
        Section(f"Decisions: {c.name}", c.told + ".", tables=(_decisions(c),)) for c in own
    ]
    if played.told:
        sections.append(Section("Played otherwise than declared", " ".join(played.told)))
    told = (
        f"{played.rows:,} rows by {played.by}",
        f"{len(played.windows) - 1} windows after a start of {played.windows[0].rows:,} rows",
        f"dataset {played.dataset_version}",
        f"{played.fitted} candidates fitted",
    )
    return Card(f"{played.problem}: its history, replayed", told, tuple(tiles), tuple(sections))


def _summary(played: Replayed) -> Table:
    counted = ("windows", "retrainings", "promotions", "holds", "refusals", "alarms", "fit seconds")
    columns = ("policy", f"mean {played.metric}", *counted)
    lines = tuple((c.name, *c.summary().values()) for c in played.courses)
    return Table(columns, lines, "Counted after the start.")


def _pairs(played: Replayed) -> Table:
    columns = ("policy", "against", "verdict", "gain per window", "at least", "at most", "windows")
    lines = tuple(
        (p.one, p.other, p.verdict, p.gain, p.low, p.high, p.windows) for p in played.pairs
    )
    note = (
        "The mean of the differences between windows, with the interval in which it lies at 95 % "
        "(Student's t over windows). alike: the interval holds 0."
    )
    return Table(columns, lines, note)


def _explained(played: Replayed) -> str:
    return " ".join(f"{c.name}: {c.told}." for c in played.courses)


def _scores(played: Replayed) -> Table:
    columns = ("window", "until", "rows", *(c.name for c in played.courses), "oracle's choice")
    lines = [
        (
            window.number,
            window.last,
            window.rows,
            *(c.steps[window.number].score for c in played.courses),
            played.courses[-1].steps[window.number].champion,
        )
        for window in played.windows[1:]
    ]
    return Table(columns, tuple(lines))


def _decisions(course: Course) -> Table:
    columns = ("after window", "champion in it", "alarms", "retrained", "challenger", "reason")
    lines = [
        (
            s.window,
            s.champion,
            " ".join(s.alarms),
            s.why if s.retrained else f"no: {s.why}",
            s.fate,
            s.reason,
        )
        for s in course.steps
    ]
    return Table(columns, tuple(lines))
