"""Telling: what happened to a problem is sent on demand, and so is a message that tries it out."""

import time
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.components.alerts import tell, where
from ml_assets.errors import AlertFailed, DeclarationError
from ml_assets.resources.home import find_home
from ml_assets.resources.stores import open_stores

if TYPE_CHECKING:
    from ml_assets.components import MLProblem
    from ml_assets.problem import Problem


def alert(component: "MLProblem", instance: dg.DagsterInstance) -> dict[str, Any]:
    """It tells what happened to a problem, as the sensor `alerts` does, and returns what was sent.

    Raises:
        DeclarationError: nobody is to be told.
    """
    problem = _with_alerts(component)
    home = find_home(component.root)
    told, troubles = tell(instance, {problem.name: problem}, open_stores(home), home)
    return {"problem": problem.name, "sent": told, "troubles": troubles}


def try_alerts(component: "MLProblem") -> dict[str, Any]:
    """It sends a test message to every channel of a problem, and returns what came of it.

    Raises:
        DeclarationError: nobody is to be told.
    """
    from ml_assets.alert import trial
    from ml_assets.resources import channel
    from ml_assets.round.alert import messages

    problem, home = _with_alerts(component), find_home(component.root)
    assert problem.alerts is not None
    sent, troubles = [], []
    for message in messages(
        trial(problem.name, time.time(), where(open_stores(home))), problem.alerts
    ):
        try:
            channel.send(message)
        except AlertFailed as error:
            troubles.append(str(error))
            continue
        target = message.target if message.channel == "email" else f"${message.target}"
        sent.append(f"a test message, by {message.channel} to {target}.")
    return {"problem": problem.name, "sent": sent, "troubles": troubles}


def _with_alerts(component: "MLProblem") -> "Problem":
    if component.problem.alerts is None:
        raise DeclarationError(
            f"{component.problem.name} declares no `alerts`, so there is nobody to be told. Add for "
            "example `alerts: {email: [team@example.com]}` to its defs.yaml."
        )
    return component.problem
