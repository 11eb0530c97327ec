"""The guard of the aliases: a champion's alias that somebody moved in MLflow is put back."""

import time
from typing import TYPE_CHECKING

import dagster as dg

from ml_assets.errors import MLAssetsError

if TYPE_CHECKING:
    from ml_assets.resources.stores import Stores

EVERY_SECONDS = 30


def build_alias_guard(problems: list[str], stores: "Stores") -> dg.SensorDefinition:
    """It returns what makes each alias `champion` agree with the ledger, and notes that it had to."""

    @dg.sensor(
        name="champion_aliases",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Notices when an alias `champion` was moved outside of ml_assets, puts it back "
        "to what the ledger says, and records it there. To change the champion, use a rollback "
        "or an approval.",
    )
    def champion_aliases(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from ml_assets.round.alias import mend

        told = []
        for problem in problems:
            try:
                entry = mend(stores, problem, time.time())
            except MLAssetsError as error:  # one problem's trouble is not the others'
                context.log.error(f"{problem}: {error}")
                told.append(f"{problem}: {error}")
                continue
            if entry:
                context.log.warning(f"{problem}: {entry['reason']}")
                told.append(f"{problem}: {entry['reason']}")
        return dg.SkipReason(" ".join(told) or "Every alias agrees with its ledger.")

    return champion_aliases
