"""How far two reviewers agree: Cohen's kappa over what both decided, and where they do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from training.dataset.reviews import WHOLE_CASE, Decision


@dataclass(frozen=True)
class Agreement:
    """Two reviewers on the masks (and whole cases) that both decided on.

    kappa: Cohen's kappa (Educ Psychol Meas 20:37, 1960): 1 full agreement, 0 what chance gives; None where nothing can be said,
    because they share too little or both always said the same one thing. disagreements: pairs of their decisions, oldest first.
    """

    one: str
    two: str
    shared: int
    agreed: int
    kappa: float | None
    disagreements: tuple[tuple[Decision, Decision], ...]


def agreements(decisions: Iterable[Decision]) -> list[Agreement]:
    """Every pair of reviewers who share something, the pair that shares most first. decisions: as Reviews.all() gives them."""
    by_reviewer: dict[str, dict[tuple[str, str], Decision]] = {}
    for decision in decisions:
        by_reviewer.setdefault(decision.reviewer, {})[decision.case_id, decision.structure] = decision
    found = [_agreement(by_reviewer[a], by_reviewer[b], a, b) for a, b in combinations(sorted(by_reviewer), 2)]
    return sorted((a for a in found if a.shared), key=lambda a: -a.shared)


def _agreement(
    one: dict[tuple[str, str], Decision], two: dict[tuple[str, str], Decision], name_one: str, name_two: str
) -> Agreement:
    pairs = []
    for key in sorted(one.keys() | two.keys()):
        whole = key[0], WHOLE_CASE
        mine, theirs = one.get(key, one.get(whole)), two.get(key, two.get(whole))  # a decision on the case holds for its masks
        if mine is not None and theirs is not None:
            pairs.append((mine, theirs))
    shared, agreed = len(pairs), sum(a.verdict == b.verdict for a, b in pairs)
    first, second = Counter(a.verdict for a, _ in pairs), Counter(b.verdict for _, b in pairs)
    chance = sum(first[v] * second[v] for v in first) / shared**2 if shared else 1.0
    kappa = (agreed / shared - chance) / (1 - chance) if chance < 1 else None
    apart = sorted(((a, b) for a, b in pairs if a.verdict != b.verdict), key=lambda pair: max(pair[0].at, pair[1].at))
    return Agreement(name_one, name_two, shared, agreed, kappa, tuple(apart))
