"""Metrics of a server, written as Prometheus reads them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_assets.serving.champion import ServedChampion

BOUNDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass
class Metrics:
    """What was counted since the server began; only its event loop counts.

    Attributes:
        requests: by path and status.
        rows: rows that were answered, by version.
        unseen: values that the contract's `values` do not name, by column.
        seconds: requests by the bound that their duration stays under, and those above all.
        total: the sum of all durations.
        under_way: requests that are being answered.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    rows: Counter[int] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    seconds: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0
    under_way: int = 0

    def answered(self, path: str, status: int, seconds: float) -> None:
        """It counts an answer."""
        self.requests[path, status] += 1
        self.seconds[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def text(self, served: ServedChampion) -> str:
        """It returns all metrics in the text format of Prometheus."""
        problem = f'problem="{served.problem.name}"'
        lines: list[str] = []

        def tell(name: str, kind: str, about: str, values: Mapping[str, float]) -> None:
            lines.append(f"# HELP ml_assets_{name} {about}")
            lines.append(f"# TYPE ml_assets_{name} {kind}")
            lines.extend(f"ml_assets_{name}{{{labels}}} {v:g}" for labels, v in values.items())

        by_path = {
            f'{problem},path="{p}",status="{s}"': n for (p, s), n in sorted(self.requests.items())
        }
        tell("requests_total", "counter", "Requests that were answered.", by_path)
        by_version = {f'{problem},version="{v}"': n for v, n in sorted(self.rows.items())}
        tell("rows_total", "counter", "Rows that were scored and logged.", by_version)
        columns = {f'{problem},column="{_quoted(c)}"': n for c, n in sorted(self.unseen.items())}
        tell("unseen_values_total", "counter", "Values outside of `values`.", columns)
        tell("requests_under_way", "gauge", "Requests under way.", {problem: self.under_way})
        tell("model_version", "gauge", "Version that answers.", {problem: served.scorer.version})
        tell(
            "champion_version",
            "gauge",
            "Version that the ledger names.",
            {problem: served.champion},
        )
        canary = served.canary.scorer.version if served.canary else 0
        tell(
            "canary_version",
            "gauge",
            "Version that answers a share; 0 for none.",
            {problem: canary},
        )
        stale = {problem: int(bool(served.trouble))}
        tell("stale", "gauge", "1 while the ledger's champion cannot take over.", stale)
        tell("exchanges_total", "counter", "Champions that took over.", {problem: served.exchanged})
        tell("refusals_total", "counter", "Champions that could not.", {problem: served.refused})
        return "\n".join([*lines, *self._histogram(problem), ""])

    def _histogram(self, problem: str) -> list[str]:
        name, seen = "ml_assets_request_seconds", 0
        lines = [f"# HELP {name} Duration of requests.", f"# TYPE {name} histogram"]
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self.seconds, strict=True):
            seen += count
            lines.append(f'{name}_bucket{{{problem},le="{bound}"}} {seen}')
        return [
            *lines,
            f"{name}_sum{{{problem}}} {self.total:g}",
            f"{name}_count{{{problem}}} {seen}",
        ]


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
