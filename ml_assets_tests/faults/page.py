"""It writes the table of docs/faults.md: `python -m ml_assets_tests.faults.page`."""

from pathlib import Path

from ml_assets_tests.faults.injections import table

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
MARK = "<!-- the faults -->"

if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(MARK)
    after = rest.partition(MARK)[2]
    PAGE.write_text(f"{before}{MARK}\n\n{table()}\n\n{MARK}{after}")
