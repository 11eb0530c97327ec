"""Replays the history of open datasets in the order of time, and of the same rows shuffled.

    python benchmarks/replay.py FOLDER PICTURES [NAME ...] [--shuffled]

FOLDER holds the csv files. Each problem is declared by `ml-assets new`, with candidates that are
fitted in seconds, and played: 20 windows after a start of 30 %, labels at the end of each window. A
picture of each goes to PICTURES.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# file, target, and what the catalogue says beside that
PROBLEMS = {
    "bike_sharing_hour": ("bike_sharing_hour.csv", "cnt", ["--time", "dteday"]),
    "electricity_elec2": ("electricity_elec2.csv", "class", ["--in-order"]),
}
QUICK = "  candidates: {linear: {}, hist_gradient_boosting: {}, lightgbm: {}}\n"


def main(folder: Path, pictures: Path, names: list[str], shuffled: bool) -> int:
    for name in names or list(PROBLEMS):
        file, target, told = PROBLEMS[name]
        with tempfile.TemporaryDirectory() as root:
            (Path(root) / "workspace.yaml").touch()
            data = str((folder / file).resolve())
            ml_assets(root, "new", name, "--data", data, "--target", target, *told)
            with open(Path(root) / "problems" / name / "defs.yaml", "a") as declared:
                declared.write(QUICK)
            also = ["--shuffled"] if shuffled else []
            page = Path(root) / "page.html"
            played = ml_assets(root, "replay", name, "--json", "--output", str(page), *also)
            show(json.loads(played))
            pictures.mkdir(parents=True, exist_ok=True)
            ending = "_shuffled" if shuffled else ""
            (pictures / f"replay_{name}{ending}.svg").write_bytes(picture(page))
    return 0


def ml_assets(root: str, *words: str) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith("ML_ASSETS_")}
    env |= {"ML_ASSETS_HOME": f"{root}/home", "ML_ASSETS_DEFS": f"{root}/problems"}
    command = [sys.executable, "-m", "ml_assets.command", *words]
    done = subprocess.run(
        command, cwd=root, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: status {done.returncode}")
    return done.stdout


def picture(page: Path) -> bytes:
    from ml_assets.card.drawing import alone

    text = page.read_text()
    begin = text.index('<svg class="whole"')
    return alone(text[begin : text.index("</svg>", begin) + len("</svg>")])


def show(played: dict) -> None:
    print(f"\n{played['problem']}, {played['metric']}, {played['by']}, {played['seconds']:.0f} s\n")
    print("| policy | mean | retrainings | promotions | holds | refusals | alarms | fit seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for p in played["policies"]:
        counted = ("retrainings", "promotions", "holds", "refusals", "alarms", "fit_seconds")
        cells = [f"{p['mean']:.4g}", *(str(p[k]) for k in counted)]
        if p["name"] == "oracle":
            cells = [cells[0], *[""] * 6]
        print(f"| {p['name']} | {' | '.join(cells)} |")
    print()
    for pair in played["comparisons"]:
        print(f"- {pair['sentence']}")
    sys.stdout.flush()


if __name__ == "__main__":
    words = [w for w in sys.argv[1:] if w != "--shuffled"]
    raise SystemExit(main(Path(words[0]), Path(words[1]), words[2:], "--shuffled" in sys.argv))
