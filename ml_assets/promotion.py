"""A promotion: the decision whether the challenger becomes champion.

Unfit is refused elsewhere (gates).  Here a fit challenger is either promoted or held; holding is
no failure.
"""

from dataclasses import dataclass

from ml_assets.comparison import Comparison


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


def decide(challenger_digest: str, champion: Champion | None) -> Promote | Hold:
    """It returns the decision for a challenger that passed its gates.

    The same model is never promoted over itself, and a doubt is no reason to change production.
    """
    if champion is None:
        return Promote("There is no champion yet, and every gate holds.")
    if champion.digest == challenger_digest:
        return Hold(f"The challenger is the champion (version {champion.version}).")
    if champion.comparison is None:
        return Hold(
            f"The champion (version {champion.version}) cannot be scored on today's test rows, so "
            f"nobody knows whether the challenger is better: {champion.trouble}"
        )
    sentence = champion.comparison.sentence
    if champion.comparison.verdict == "better":
        return Promote(f"Than champion version {champion.version} it is {sentence}.")
    return Hold(f"Than champion version {champion.version} it is {sentence}.")
