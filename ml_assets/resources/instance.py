"""What a Dagster instance of ours is set to, where nobody has set it: turns, lost runs, retries."""

from pathlib import Path

SETTINGS = """\
# Written by ml-assets, once; it is yours to change. See docs/operations.md of ml_assets.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 4     # of all problems together; others wait in the queue
  pools:
    granularity: run           # each problem's assets are a pool of their own:
    default_limit: 1           # one run of a problem at a time, others wait in the queue
run_queue:
  dequeue_interval_seconds: 1  # who presses the button waits for this; Dagster's own is 5
run_monitoring:
  enabled: true
  start_timeout_seconds: 300   # a run that was launched and does not start is failed
  cancel_timeout_seconds: 180
  poll_interval_seconds: 30
run_retries:
  enabled: true
  max_retries: 3               # a run whose process died goes on in a new run, from where it was
  retry_on_asset_or_op_failure: false   # a failed gate is not tried again
"""


def set_up(folder: Path) -> None:
    """It makes DAGSTER_HOME, with settings unless there are some."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "dagster.yaml"
    if not file.exists():
        file.write_text(SETTINGS)
