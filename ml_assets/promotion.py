"""A promotion: the decision whether the challenger becomes champion.

Unfit is refused elsewhere (gates).  Here a fit challenger is either promoted or held; holding is
no failure.
"""

from dataclasses import dataclass

from ml_assets.comparison import Comparison

AWAITING = "waits for approval"


@dataclass(frozen=True)
class Promote:
    """The challenger becomes champion.

    Attributes:
        reason: why, as a sentence.
    """

    reason: str


@dataclass(frozen=True)
class Hold:
    """Production stays as it is.

    Attributes:
        reason: why, as a sentence.
    """

    reason: str


@dataclass(frozen=True)
class Approval:
    """Somebody's word that a version may serve.

    Attributes:
        version: the version in the registry.
        actor: who says so.
        why: the reason.
    """

    version: int
    actor: str
    why: str


@dataclass(frozen=True)
class Champion:
    """The champion as it stands when the decision is made.

    Attributes:
        version: its version in the registry.
        digest: digest of its model.
        comparison: the challenger against it on today's test rows; None when it cannot score them.
        trouble: why it cannot, as a sentence.
    """

    version: int
    digest: str
    comparison: Comparison | None = None
    trouble: str | None = None


def decide(
    challenger_digest: str, champion: Champion | None, withdrawn: str | None = None
) -> Promote | Hold:
    """It returns the decision for a challenger that passed its gates.

    The same model is never promoted over itself, a doubt is no reason to change production, and
    what somebody took out of production does not come back by itself.

    Args:
        challenger_digest: digest of the challenger's model.
        champion: who serves now; None for nobody.
        withdrawn: why this very model was rolled back before; None if it was not.
    """
    if champion is None:
        return Promote("There is no champion yet, and every gate holds.")
    if champion.digest == challenger_digest:
        return Hold(f"The challenger is the champion (version {champion.version}).")
    if withdrawn is not None:
        return Hold(f"This model was rolled back before, and stays withdrawn: {withdrawn}")
    if champion.comparison is None:
        return Hold(
            f"The champion (version {champion.version}) cannot be scored on today's test rows, so "
            f"nobody knows whether the challenger is better: {champion.trouble}"
        )
    sentence = champion.comparison.sentence
    if champion.comparison.verdict == "better":
        return Promote(f"Against champion version {champion.version} it is {sentence}.")
    return Hold(f"Against champion version {champion.version} it is {sentence}.")


def awaiting(decision: Promote | Hold, version: int, approval: Approval | None) -> Promote | Hold:
    """It returns the decision where promotions need approval: held until this version has it."""
    if isinstance(decision, Hold):
        return decision
    if approval is None or approval.version != version:
        return Hold(f"Version {version} {AWAITING}. {decision.reason}")
    return Promote(f"Approved by {approval.actor}: {approval.why.rstrip('.')}. {decision.reason}")


def compared_only(decision: Promote | Hold, otherwise: str) -> Promote | Hold:
    """It returns the decision of a run that only compares: never a promotion.

    Args:
        decision: what it would be.
        otherwise: what the run does otherwise than declared.
    """
    if isinstance(decision, Hold):
        return decision
    return Hold(f"This run only compares, with {otherwise}. {decision.reason}")
