"""The phantom's sizes against published ones, measured by the same function as real CTs are in docs/phantom.md."""

from functools import cache

import numpy as np
import pytest

from training.phantom import thorax
from training.phantom.findings import NONE
from training.phantom.measures import measure
from training.phantom.parameters import draw

SEEDS = (60, 61, 66)
PUBLISHED = {
    # Total lung capacity of adults down to the lower half of a deep breath, Hall et al. 2021, doi:10.1183/13993003.00289-2020.
    "lung volume": (2.2, 8.0),
    # Inner diameter on PA radiographs 297 (27) mm in men, 271 (26) mm in women: mean and two standard deviations, less the 7 % of
    # magnification; heart 131 (12) and 129 (13) mm, ratio 0.466 (0.039) and 0.478 (0.048): Pan Afr Med J 2017, 27:201.
    "chest width": (204.0, 328.0),
    "heart width": (96.0, 146.0),
    "cardiothoracic ratio": (0.38, 0.58),
    # Upper limits 31 + 0.16 mm a year and 21 + 0.16 mm a year: Hannuksela et al. 2006, PMID 16798665.
    "ascending aorta": (22.0, 45.0),
    "descending aorta": (16.0, 35.0),
    # 13 to 25 mm in men, 10 to 21 mm in women: Breatnach et al. 1984, doi:10.2214/ajr.142.5.903.
    "trachea": (10.0, 25.0),
    # End to end 149 (10) mm, men and women together: Bernat et al. 2014, Clin Anat; three standard deviations.
    "clavicle": (118.0, 181.0),
    # Height of the body 18.7 mm (T8) and 22.7 mm (T12), Panjabi et al. 1991, doi:10.1097/00007632-199108000-00006; a quarter off.
    "vertebra T8": (14.0, 23.5),
    "vertebra T12": (17.0, 28.5),
    # The two real CTs of docs/phantom.md have 18 and 31 degrees; ribs turn by about 10 degrees between rest and full breath
    # (Wilson et al. 1987, doi:10.1152/jappl.1987.62.5.1872).
    "rib slope": (12.0, 43.0),
    # The right dome usually stands higher, by up to 3 cm: Lennon and Simon 1965, doi:10.1259/0007-1285-38-456-937.
    "dome difference": (-8.0, 32.0),
}


@cache
def sizes(seed):
    return measure(thorax(seed, 3.0, draw(seed, NONE))[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_sizes_lie_in_published_ranges(seed):
    measured = sizes(seed)
    assert set(PUBLISHED) <= set(measured)
    off = {name: measured[name] for name, (low, high) in PUBLISHED.items() if not low <= measured[name] <= high}
    assert not off


def test_sizes_differ_between_people():
    for name in PUBLISHED:
        values = [sizes(seed)[name] for seed in (*SEEDS, 62, 63, 64, 65)]
        assert np.ptp(values) > 0, name


def test_there_are_twelve_pairs_of_ribs_each_longer_and_lower_than_the_one_above_to_the_seventh():
    _, labels = thorax(66, 3.0, draw(66, NONE))
    for side in ("left", "right"):
        volumes = [labels.mask(f"rib_{side}_{n}").sum() for n in range(1, 13)]
        assert all(v > 0 for v in volumes)
        assert volumes[6] > volumes[2]
        assert min(volumes) == volumes[11]
