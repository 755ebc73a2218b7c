"""The checks of every mask: how strongly each one speaks against it, and in which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from training.anatomy import vocabulary
from training.dataset import measure as m
from training.dataset.atlas import Clipped, cut_by, lay_cut_ones, narrow, windows
from training.dataset.case import Case
from training.dataset.measuring import Measures
from training.dataset.usual import (
    BOUND,
    FEW,
    Fit,
    centre_and_spread,
    deviations,
    given_the_others,
    lay_on_each_other,
    surprise,
)

TINY = 4e-5
"""Share of the picture below which a mask is hardly visible: ten pixels at 512 x 512."""
UNUSUAL = 8.0
"""Surprise from which on something is reported: expected once in 3,000 masks [nats]."""
UNUSUAL_CASE = 4.0
"""The same for what is said about a case as a whole, as there are some fifty times fewer cases than masks [nats]."""
NATS = 4.0
"""Surprise beyond that for each unit of score [nats]."""
MOST = 8.0
"""The most that one deviation from what is usual adds to a score."""
MUCH = 0.6
"""Masks of which the border leaves less than this share are compared among themselves, and are not missed for certain."""
CUT_TRUST, FEW_TRUST = 0.4, 0.6
"""What place, size and form of a mask count at least, however much the border cuts off, and where few masks are whole."""
SLACK = 0.15
"""Share of a structure's usual size added before sizes of cut masks are compared: of slivers the ratio says nothing."""
KNOWN_BY_MODEL = 0.5
"""Dice from which on a model is taken to know a structure in a view, in the middle of the data set."""
LEFT_OF = 0.02
"""A left structure this far (share of the width) on the image-left of its right twin in a frontal view lies on the wrong side."""
FRONTAL = ("PA", "AP")
STRAYED = 0.03
"""Share of a mask outside its composite that pixel edges do not explain."""
ALIKE = 0.05
"""Visible shares that differ by less than this are taken to be the same."""
MISSED = 2.7
"""A structure is missed where fewer than this many nats (a fifteenth) of comparable cases are without it, too."""
LIKE_AIR = ("lung_left", "lung_right", "lung_field_left", "lung_field_right")
"""Darker than what surrounds them in every view."""
_FLAWS = {
    m.DAMAGED: (6.0, "Its run-length code is damaged."),
    m.OTHER_SIZE: (6.0, "It has another size than the picture."),
    m.MISSING: (4.0, "It is listed as present but has no mask."),
    m.UNLISTED: (4.0, "It has a mask although the case lists it as absent."),
}


@dataclass
class Check:
    """One check: strength float32 by mask (0: nothing found) and the sentence for a mask, asked for only where something is."""

    strength: np.ndarray
    sentence: Callable[[int], str]


@dataclass
class Group:
    """The masks of one view as a table [case, structure]: `mask` holds record numbers, -1 where a case has no such mask."""

    view: str
    cases: np.ndarray
    mask: np.ndarray
    records: np.ndarray
    affine: np.ndarray = field(init=False)
    home: np.ndarray = field(init=False)
    there: np.ndarray = field(init=False)
    cut: np.ndarray = field(init=False)
    usual: Clipped = field(init=False)

    def __post_init__(self) -> None:
        self.there = (self.mask >= 0) & (self.of("area") > 0)
        places = np.where(self.there[..., None], self.of("place"), np.nan)
        window = windows(self.of("extent"), self.there)
        self.cut = self.there & cut_by(self.of("extent"), window)
        affine, self.home = lay_on_each_other(places, self.there & ~self.cut)
        self.affine, self.usual = lay_cut_ones(self.of("coarse"), places, self.there, self.cut, affine, self.home, window)

    def of(self, name: str) -> np.ndarray:
        """A measure as table [case, structure, ...]; what stands where there is no mask means nothing."""
        return self.records[name][np.maximum(self.mask, 0)]

    def spread_out(self, values: np.ndarray, into: np.ndarray) -> None:
        """Write a table [case, structure] to the masks it is about."""
        known = self.mask >= 0
        into[self.mask[known]] = np.nan_to_num(values[known])

    def standardised(self, values: np.ndarray, floor: float) -> np.ndarray:
        """Deviations of a table [case, structure, k] from what is usual; NaN where there is no mask.

        Cut masks are judged among themselves, and those of which little should be left among those.
        """
        z = np.full(values.shape, np.nan)
        for part in self._parts():
            known = np.where(part[..., None], values, np.nan).reshape(len(values), -1)
            z = np.where(part[..., None], deviations(known, floor).reshape(z.shape), z)
        return z

    def surprise(self, z: np.ndarray) -> np.ndarray:
        """How rare the deviations [case, structure, k] are, in nats, the rarest of the k: [case, structure]."""
        rare = np.zeros(z.shape)
        for part in self._parts():
            known = np.where(part[..., None], np.abs(z), np.nan).reshape(len(z), -1)
            rare = np.maximum(rare, surprise(known).reshape(z.shape))
        return rare.max(axis=2)

    def _parts(self) -> tuple[np.ndarray, ...]:
        much = self.usual.share >= MUCH
        return self.there & ~self.cut, self.cut & much, self.cut & ~much


def run_checks(
    measures: Measures, cases: Sequence[Case], opinions: Mapping[tuple[str, str], float] = MappingProxyType({})
) -> tuple[list[Check], list[tuple[int, int, float, str]]]:
    """All checks of all masks, and (case, structure, strength, sentence) of structures that should have a mask and have none.

    opinions: Dice of each mask with a model's, by (case id, structure).
    """
    checks = [*_on_their_own(measures), *_against_each_other(measures, cases)]
    groups = list(_groups(measures, cases))
    checks += _against_the_usual(measures, groups)
    checks += [_against_a_model(measures, cases, groups, opinions)] if opinions else []
    return checks, _missed(measures, cases, groups)


def _strong(nats: np.ndarray, unusual: float = UNUSUAL) -> np.ndarray:
    """Strength of a surprise."""
    return np.clip((nats - unusual) / NATS, 0.0, MOST)


def _on_their_own(measures: Measures) -> list[Check]:
    records = measures.records
    flaw, area = records["flaw"], records["area"]
    sound = (flaw == 0) | (flaw == m.UNLISTED)
    weights = np.zeros(len(records))
    for kind, (weight, _) in _FLAWS.items():
        weights[flaw == kind] = weight
    tiny = sound & (area > 0) & (area < TINY)
    names = measures.structures
    strayed = np.where(records["outside"] > STRAYED, 1 + 3 * records["outside"], 0.0)
    return [
        Check(weights, lambda i: _FLAWS[int(flaw[i])][1]),
        Check(np.where(sound & (area == 0), 4.0, 0.0), lambda i: "It is empty."),
        Check(np.where(tiny, 1.0, 0.0), lambda i: f"It covers only {area[i] * 1e6:.0f} millionths of the picture."),
        Check(
            strayed,
            lambda i: (
                f"{records['outside'][i]:.0%} of it lies outside {_named(names, records['outside_of'][i])}, which it is part of."
            ),
        ),
        Check(
            np.where(records["strayed"] > STRAYED, 1 + 2 * records["strayed"], 0.0),
            lambda i: f"{records['strayed'][i]:.0%} of one of its parts lies outside of it.",
        ),
        Check(
            np.where(records["same_as"] >= 0, 3.0, 0.0),
            lambda i: f"It is the very same mask as {_named(names, records['same_as'][i])}.",
        ),
    ]


def _against_each_other(measures: Measures, cases: Sequence[Case]) -> list[Check]:
    """Left and right by the convention of frontal radiographs, and lungs that hold no air."""
    records, numbers = measures.records, {name: n for n, name in enumerate(measures.structures)}
    frontal = np.array([case.view in FRONTAL for case in cases], bool)
    row = np.full((len(cases), len(numbers)), -1)
    row[records["case"], records["structure"]] = np.arange(len(records))
    swapped = np.zeros(len(records))
    for name, number in numbers.items():
        twin = numbers.get(name.replace("left", "right"))
        if "left" not in name or twin is None:
            continue
        both = frontal & (row[:, number] >= 0) & (row[:, twin] >= 0)
        mine, theirs = row[both, number], row[both, twin]
        wrong = (records["place"][mine, 1] - records["place"][theirs, 1] < -LEFT_OF) & (
            np.minimum(records["area"][mine], records["area"][theirs]) > 0
        )
        swapped[mine[wrong]] = swapped[theirs[wrong]] = 4.0
    air = np.isin(records["structure"], [numbers[s] for s in LIKE_AIR if s in numbers])
    beside = np.nan_to_num(records["seen"][:, 3:5].mean(axis=1))  # left and right: above and below is lung again, or bone
    solid = np.where(air & (beside < -0.02) & (records["area"] > 0.01), 1.5, 0.0)
    return [
        Check(swapped, lambda i: "Left and right look swapped."),
        Check(solid, lambda i: "The picture is brighter under it than beside it, but a lung holds air."),
    ]


def _groups(measures: Measures, cases: Sequence[Case]) -> list[Group]:
    """One table of masks by view."""
    records = measures.records
    row = np.full((len(cases), len(measures.structures)), -1)
    usable = (records["flaw"] == 0) | (records["flaw"] == m.UNLISTED)
    row[records["case"][usable], records["structure"][usable]] = np.flatnonzero(usable)
    views = np.array([case.view for case in cases])
    return [Group(view, np.flatnonzero(views == view), row[views == view], records) for view in np.unique(views)]


def _against_the_usual(measures: Measures, groups: list[Group]) -> list[Check]:
    records, n = measures.records, len(measures.records)
    known = [vocabulary().get(s) for s in measures.structures]
    expected = np.array([s.pieces if s else n for s in known], np.int64)
    place, size, shape, picture, case_fit, mirrored, border, broken, uncovered, ratio = (np.zeros(n) for _ in range(10))
    for g in groups:
        z, times_usual = _place_and_size(g)
        nats = [g.surprise(z[..., columns]) * _trust(g) for columns in (slice(0, 2), slice(2, 3), slice(3, 5))]
        worst = np.max(nats, axis=0)
        for values, into in zip(nats, (place, size, shape), strict=True):
            g.spread_out(np.where(values == worst, values, 0), into)  # they come together: the clearest speaks for all
        g.spread_out(times_usual, ratio)
        here, whole, turned = _picture_under(g)
        g.spread_out(here, picture)
        g.spread_out(np.broadcast_to(whole[:, None], g.mask.shape), case_fit)
        g.spread_out(np.broadcast_to(turned[:, None], g.mask.shape), mirrored)
        g.spread_out(_rare(g, g.of("border") > 0), border)
        more = np.clip(g.of("pieces") - expected, 0, 4)
        g.spread_out(_rare(g, more > 0) * more * np.where(g.of("border") > 0, CUT_TRUST, 1), broken)
        g.spread_out(g.surprise(g.standardised(g.of("uncovered")[..., None], 0.02)), uncovered)
    pieces = records["pieces"]
    return [
        Check(_strong(place), lambda i: "It lies far from its usual place among the other structures in this view."),
        Check(_strong(size), lambda i: f"Its area is {ratio[i]:.2g} times the usual one in this view."),
        Check(_strong(shape), lambda i: "Its form is not the usual one in this view."),
        Check(_strong(picture), lambda i: "The picture under it does not look as it usually does under this structure."),
        Check(
            _strong(case_fit, UNUSUAL_CASE), lambda i: "The masks of this case fit its picture worse than those of other cases."
        ),
        Check(mirrored, lambda i: "The masks of this case would fit the mirrored picture better."),
        Check(0.5 * border, lambda i: "It is cut by the border of the picture, which is rare for it."),
        Check(
            0.5 * broken, lambda i: f"It falls into {pieces[i]} pieces instead of {_count(expected[records['structure'][i]])}."
        ),
        Check(_strong(uncovered), lambda i: "An unusual share of it belongs to none of its parts."),
    ]


def _place_and_size(g: Group) -> tuple[np.ndarray, np.ndarray]:
    """Deviations float [case, structure, 5] of row, column, log area, log height and log width from what the case's other
    structures let expect, and how many times the usual area each has [case, structure]."""
    linear = g.affine[:, :, :2]
    laid = np.einsum("ckj,csj->csk", linear, g.of("place")) + g.affine[:, None, :, 2]
    laid -= np.where(g.cut[..., None], g.usual.home, g.home)
    determinant = np.maximum(np.abs(np.linalg.det(linear)), 1e-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = g.of("area") * determinant[:, None]
        rows, columns, both = np.moveaxis(g.of("spread"), -1, 0)
        variance = np.array([[rows, both], [both, columns]]).transpose(2, 3, 0, 1)
        extent = np.einsum("cki,csij,ckj->csk", linear, variance, linear)
        usual = g.usual
        some, much = SLACK * usual.whole_area, SLACK * usual.whole_extent
        size = np.where(g.cut, np.log(area + some) - np.log(usual.area + some), np.log(area))
        form = np.where(g.cut[..., None], np.log(extent + much) - np.log(usual.extent + much), np.log(extent))
        whole = np.exp(centre_and_spread(np.where(g.there & ~g.cut, np.log(area), np.nan), 0.0)[0])
        times_usual = area / np.where(g.cut, usual.area, whole)
    floors = np.array([0.006, 0.006, 0.06, 0.1, 0.1])
    values = np.concatenate([laid, size[..., None], form], axis=2) / floors
    return g.standardised(given_the_others(g.standardised(values, 1.0)), 0.3), times_usual


def _trust(g: Group) -> np.ndarray:
    """How much place, size and form of a mask say, 0..1 [case, structure].

    The less, the less the border leaves of it, and of the other masks that say how the case lies; nothing where the parts of a
    composite speak for it.
    """
    cut = np.where(g.cut, np.clip(g.usual.share, CUT_TRUST, 1), 1.0)
    return cut * np.where(narrow(g.there, g.cut), FEW_TRUST, 1.0)[:, None] * np.isnan(g.of("uncovered"))


def _picture_under(g: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surprise of the picture under each mask [case, structure] and under all of a case [case]; strength of "mirrored" [case]."""
    cases = len(g.mask)
    if cases < FEW:
        return np.zeros(g.mask.shape), np.zeros(cases), np.zeros(cases)
    seen, mirrored, wrong = (np.where(g.there[..., None], g.of(name), np.nan) for name in ("seen", "mirrored", "displaced"))
    middle, spread = centre_and_spread(seen, 0.01)
    seen, mirrored, wrong = (np.clip((v - middle) / spread, -BOUND, BOUND) for v in (seen, mirrored, wrong))
    flat = [v.reshape(cases, -1) for v in (seen, mirrored, wrong)]
    fit = Fit(*flat)
    whole = surprise(-fit.right[:, None].clip(None, 0))[:, 0] * fit.telling
    gain = np.where(whole > UNUSUAL_CASE, fit.mirrored - fit.right, 0.0)
    single = np.zeros(g.mask.shape)
    for s in np.flatnonzero(g.there.sum(axis=0) >= 4 * seen.shape[2]):
        one = Fit(seen[:, s], mirrored[:, s], wrong[:, s])
        single[:, s] = -one.right * one.telling
    under = g.surprise(np.where(g.there, single.clip(0), np.nan)[..., None])
    return under, whole, np.where(gain > 1, np.minimum(1 + gain, 4.0), 0.0)


def _against_a_model(
    measures: Measures, cases: Sequence[Case], groups: list[Group], opinions: Mapping[tuple[str, str], float]
) -> Check:
    """A model that usually finds the structure finds it elsewhere or not at all."""
    nats, dice, usual = (np.zeros(len(measures.records)) for _ in range(3))
    for g in groups:
        asked = [[opinions.get((cases[c].id, s), np.nan) for s in measures.structures] for c in g.cases]
        table = np.where(g.there, np.array(asked, float), np.nan)
        middle, _ = centre_and_spread(table, 0.0)
        below = np.where(middle >= KNOWN_BY_MODEL, (-deviations(table, 0.05)).clip(0), 0.0)
        g.spread_out(surprise(np.where(np.isnan(table), np.nan, below)), nats)
        g.spread_out(table, dice)
        g.spread_out(np.broadcast_to(middle, table.shape), usual)
    return Check(
        _strong(nats), lambda i: f"The model sees it elsewhere or not at all (Dice {dice[i]:.2f}, usually {usual[i]:.2f})."
    )


def _rare(g: Group, found: np.ndarray) -> np.ndarray:
    """1 for what is found nowhere else in the group, 0 for what a tenth of the cases or more have; [case, structure]."""
    found = found & g.there
    share = (found.sum(axis=0) - 1) / np.maximum(g.there.sum(axis=0) - 1, 1)
    judged = g.there.sum(axis=0) >= FEW
    return np.where(found, np.where(judged, np.clip(1 - 10 * share, 0, 1), 0.5), 0.0)


def _missed(measures: Measures, cases: Sequence[Case], groups: list[Group]) -> list[tuple[int, int, float, str]]:
    """Structures without a mask, though comparable cases have one there."""
    found = []
    wholes = {n for n, name in enumerate(measures.structures) if set(m.composites().get(name, ())) & set(measures.structures)}
    subject_has = _share_in_subject(cases, groups)
    for g in groups:
        if len(g.cases) < FEW:
            continue
        share = _share_at(g.mask >= 0, g.usual.share, subject_has[g.cases] > 0.5)
        trust = np.clip(g.usual.share / MUCH, 0, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            nats = -np.log(1 - share) * trust
        for row, structure in np.argwhere((g.mask < 0) & (nats > MISSED)):
            case, name = cases[g.cases[row]], measures.structures[structure]
            if structure in wholes or name in case.present:
                continue
            strength = min(MOST, (nats[row, structure] - MISSED) * (1 if name in case.absent else 2))
            words = f"It has no mask here, though {share[row, structure]:.1%} of comparable cases have one."
            found.append((int(g.cases[row]), int(structure), float(strength), words))
    return found


def _share_in_subject(cases: Sequence[Case], groups: list[Group]) -> np.ndarray:
    """Share of the subject's other cases, of whatever view, that have a structure, [case, structure]; 1 where there are few."""
    if not groups:
        return np.ones((len(cases), 0))
    has = np.zeros((len(cases), groups[0].mask.shape[1]), bool)
    for g in groups:
        has[g.cases] = g.mask >= 0
    _, person = np.unique([case.subject for case in cases], return_inverse=True)
    total = np.zeros((person.max() + 1, has.shape[1]))
    np.add.at(total, person, has)
    others = np.bincount(person)[person][:, None] - 1
    return np.where(others >= 3, (total[person] - has) / np.maximum(others, 1), 1.0)


def _share_at(has: np.ndarray, visible: np.ndarray, comparable: np.ndarray) -> np.ndarray:
    """Share of the other cases with a mask of a structure of which their borders leave no less, [case, structure].

    visible: what the borders leave, as a share; comparable: cases whose subject has the structure elsewhere. Where fewer than
    FEW - 1 others show as much, the next count, too. Never quite 1; NaN where there are no more cases than that.
    """
    share = np.full(has.shape, np.nan)
    for structure in range(has.shape[1]):
        rows = np.flatnonzero(comparable[:, structure])
        if len(rows) < FEW:
            continue
        seen, there = visible[rows, structure], has[rows, structure]
        order = np.argsort(-seen, kind="stable")
        enough = np.searchsorted(-seen[order], -(seen - ALIKE), side="right")
        last = np.clip(enough, FEW, len(rows)) - 1
        share[rows, structure] = (np.cumsum(there[order])[last] - there + 0.5) / (last + 1)
    return share


def _count(pieces: int) -> str:
    return "one" if pieces == 1 else f"at most {pieces}"


def _named(names: Sequence[str], number: int) -> str:
    known = vocabulary().get(names[int(number)])
    return f"the {known.name}" if known else names[int(number)]
