"""A step: what every asset's step has in common when it goes wrong, or takes too long.

A fault that may pass (a lock, a connection, a killed process) is tried again; a failed gate, a
wrong input or a team's own exception never is.
"""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from ml_assets.components.ml_problem.engine import share_a_process, works_elsewhere
from ml_assets.errors import is_transient
from ml_assets.problem import Problem
from ml_assets.time_limit import TimeLimit

MOST_RETRIES = 3
OVER_LIMIT = "ml_assets/over_limit"  # the step whose process its time limit ended
# 2, 6 and 14 seconds, more or less: two that failed over one lock do not meet again
_POLICY = dg.RetryPolicy(
    max_retries=MOST_RETRIES,
    delay=2,
    backoff=dg.Backoff.EXPONENTIAL,
    jitter=dg.Jitter.PLUS_MINUS,
)


def stepping(problem: Problem) -> dict[str, Any]:
    """It returns what the steps of a round are declared with: their turn, and how they are retried.

    The pool is the problem's own: Dagster lets one run in at a time (docs/operations.md).  The
    policy is what Dagster follows when a step's process was killed; everything that is raised
    goes through `careful` first.
    """
    return {"pool": problem.name, **retried()}


def retried() -> dict[str, Any]:
    """It returns what the steps of after deployment are declared with: they wait for no turn."""
    return {"retry_policy": _POLICY}


def careful(problem: Problem, noun: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """It returns what makes a step's function keep its time limit and be retried only with reason.

    Args:
        problem: the problem.
        noun: what the step makes.
    """
    seconds = problem.limits.of(noun)

    def decorate(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(function)
        def step(context: Any, *given: Any, **named: Any) -> Iterator[Any]:
            _not_over_limit(context)
            limit = None
            if seconds is not None:
                end = functools.partial(_end, context)
                limit = TimeLimit(seconds, f"{problem.name}/{noun}", f"limits.{noun}", end)
            events = function(context, *given, **named)
            asked = not works_elsewhere(context.job_def)
            while True:
                try:
                    event = _next(context, events, limit)
                finally:
                    if not asked:
                        _leave_if_given_up(context)
                        asked = True
                if event is None:
                    return
                yield event

        return step

    return decorate


def _next(context: Any, events: Iterator[Any], limit: TimeLimit | None) -> Any:
    """It returns the next thing that a step tells, or None; the limit counts only meanwhile.

    Raises:
        Failure: something went wrong that another try would find the same.
        RetryRequested: it may pass.
    """
    try:
        if limit is None:
            return next(events, None)
        with limit.counting():
            return next(events, None)
    except (dg.Failure, dg.RetryRequested, dg.DagsterError):
        raise
    except Exception as error:
        if is_transient(error):
            context.log.warning(f"{type(error).__name__}: {error}. This may pass.")
            wait = _POLICY.calculate_delay(context.retry_number + 1)
            raise dg.RetryRequested(MOST_RETRIES, wait) from error
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error


def _leave_if_given_up(context: Any) -> None:
    """It ends the process of a step that somebody else does by now, without a word.

    A machine whose network was cut comes back with a step that was tried again elsewhere, or whose
    run has ended.  Dagster would take what it says for the word of the one in its place, and fails
    a run in which a step ends that is not at work.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    key = getattr(context, "op_execution_context", context).get_step_execution_context().step.key
    kind = dg.DagsterEventType.STEP_UP_FOR_RETRY
    tried = [
        entry
        for entry in context.instance.all_logs(context.run.run_id, of_type=kind)
        if entry.step_key == key
    ]
    if len(tried) > context.retry_number or (run is not None and run.is_finished):
        os.write(2, f"{key} was given up, and is done elsewhere: it says nothing more.\n".encode())
        os._exit(0)


def _not_over_limit(context: Any) -> None:
    """It fails a step that is tried again because its time limit had ended its process."""
    if not context.retry_number:
        return
    run = context.instance.get_run_by_id(context.run.run_id)
    said = run.tags.get(f"{OVER_LIMIT}/{_name(context)}") if run else None
    if said:
        raise dg.Failure(said, allow_retries=False)


def _end(context: Any, sentence: str) -> None:
    """It ends the process of a step that did not stop when it was interrupted."""
    said = f"{sentence} It did not stop by itself, so its process was ended."
    context.log.error(said)
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and share_a_process(context.job_def):
        context.instance.report_run_failed(run, said)
        os.write(2, f"error: {said}\n".encode())
        os._exit(1)
    context.instance.add_run_tags(context.run.run_id, {f"{OVER_LIMIT}/{_name(context)}": said})
    os.kill(os.getpid(), signal.SIGKILL)


def _name(context: Any) -> str:
    """It returns the name of the step's op, of an asset as of a graph."""
    return str(getattr(context, "op_execution_context", context).op.name)
