"""The vocabulary: one name, one structure."""

import colorsys
import csv
import itertools
import re
from collections import Counter
from importlib.resources import files

import pytest

from training.anatomy import DERIVED, TOTALSEGMENTATOR_V2, find, resolve, suggest, trainable, vocabulary
from training.errors import UnknownStructure

REFERENCE_PAPER_STRUCTURES = (
    ["lung_left", "lung_right", "lung_vessels", "trachea", "lung_trachea_bronchia", "esophagus", "heart", "aorta"]
    + ["lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"]
    + [f"heart_{chamber}_{side}" for chamber in ("atrium", "ventricle") for side in ("left", "right")]
    + ["superior_vena_cava", "inferior_vena_cava", "brachiocephalic_vein_left", "brachiocephalic_vein_right", "pulmonary_vein"]
    + ["liver", "spleen", "stomach", "colon", "sternum", "costal_cartilages", "spine", "bones", "body"]
    + [f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)]
    + [f"{bone}_{side}" for bone in ("clavicula", "scapula", "humerus") for side in ("left", "right")]
    + [f"vertebrae_{level}" for level in ("C5", "C6", "C7", "L1", *(f"T{number}" for number in range(1, 13)))]
)


def test_all_117_classes_have_their_official_numbers():
    assert sorted(TOTALSEGMENTATOR_V2) == list(range(1, 118))
    official = {1: "spleen", 5: "liver", 10: "lung_upper_lobe_left", 14: "lung_lower_lobe_right", 20: "colon", 26: "vertebrae_S1"}
    official |= {32: "vertebrae_T12", 50: "vertebrae_C1", 51: "heart", 62: "superior_vena_cava", 73: "clavicula_left"}
    official |= {79: "spinal_cord", 91: "skull", 92: "rib_left_1", 104: "rib_right_1", 116: "sternum", 117: "costal_cartilages"}
    assert {number: TOTALSEGMENTATOR_V2[number] for number in official} == official


def test_every_structure_of_the_reference_is_there_and_trained():
    assert set(REFERENCE_PAPER_STRUCTURES) <= set(trainable())
    assert set(trainable()) >= DERIVED
    assert 80 <= len(trainable()) <= 90


def test_no_two_structures_share_a_name():
    folded = [{re.sub("[ _-]+", " ", n).lower() for n in (s.key, s.name, *s.synonyms)} for s in vocabulary().values()]
    names = [name for names in folded for name in names]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    assert not repeated


def test_every_name_leads_back_to_its_structure():
    for structure in vocabulary().values():
        for name in (structure.key, structure.name, *structure.synonyms):
            assert find(name) is structure
            assert find(f" {name.upper().replace(' ', '-')} ") is structure


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Left  Collarbone", "clavicula_left"),
        ("5th right rib", "rib_right_5"),
        ("right rib 5", "rib_right_5"),
        ("rib 5 right", "rib_right_5"),
        ("oesophagus", "esophagus"),
        ("esophagus", "esophagus"),
        ("T5", "vertebrae_T5"),
        ("heart atrium left", "heart_atrium_left"),
        ("pulmonary_artery", "pulmonary_artery"),
        ("vertebral column", "spine"),
        ("SVC", "superior_vena_cava"),
    ],
)
def test_radiologists_words_are_understood(text, key):
    assert find(text).key == key


def test_unknown_name_gets_the_nearest_names():
    assert suggest("hart")[0] == "heart"
    assert suggest("clavicle lef")[0] == "left clavicle"
    assert len(suggest("rib")) <= 3
    with pytest.raises(UnknownStructure, match=r"'clavicle lef'; did you mean left clavicle"):
        find("clavicle lef")
    with pytest.raises(UnknownStructure, match="chexanatomy info --structures"):
        find("qqqqqqqq")


def test_file_holds_only_allowed_values():
    with files("training").joinpath("structures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == len(rows) == len(vocabulary())
    assert {row["side"] for row in rows} == {"left", "right", "both", "midline"}
    assert {row["trainable"] for row in rows} == {"yes", ""}
    for structure in vocabulary().values():
        assert set(structure.parents) <= set(vocabulary())
        assert structure.group
        assert structure.pieces >= 1


def test_sides_agree_with_names():
    for structure in vocabulary().values():
        for side in ("left", "right"):
            if f"_{side}" in structure.key and not structure.key.startswith("heart_"):
                assert structure.side == side
                assert side in structure.name


def test_composites_are_made_of_their_parts():
    assert vocabulary()["lung_left"].labels == ("lung_upper_lobe_left", "lung_lower_lobe_left")
    assert vocabulary()["heart"].labels[0] == "heart"
    assert "heart_ventricle_left" in vocabulary()["heart"].labels
    assert len(vocabulary()["ribs"].labels) == 24
    assert set(vocabulary()["spine"].labels) < set(vocabulary()["bones"].labels)
    assert vocabulary()["trachea"].labels == ("trachea",)
    assert all(vocabulary()[key].labels == () for key in DERIVED)


def test_label_map_names_resolve_to_leaves_and_composites():
    made = resolve(["lung_upper_lobe_left", "Rib right 5", "heart_ventricle_left", "pacemaker"])
    assert made["lung_left"] == made["lungs"] == frozenset({"lung_upper_lobe_left"})
    assert made["rib_right_5"] == made["ribs_right"] == made["bones"] == frozenset({"Rib right 5"})
    assert made["heart"] == frozenset({"heart_ventricle_left"})
    assert made["pacemaker"] == frozenset({"pacemaker"})
    assert "lung_right" not in made
    assert "lung_lower_lobe_left" not in made
    assert not DERIVED & set(made)


def test_heart_is_whole_where_some_voxels_are_only_called_heart():
    assert resolve(["heart", "heart_atrium_left"])["heart"] == frozenset({"heart", "heart_atrium_left"})


def test_neighbouring_ribs_and_vertebrae_are_told_apart_by_colour():
    def lightness(key):
        return colorsys.rgb_to_hls(*(part / 255 for part in vocabulary()[key].colour))[1]

    columns = [[f"rib_{side}_{n}" for n in range(1, 13)] for side in ("left", "right")] + [
        [f"vertebrae_T{n}" for n in range(1, 13)]
    ]
    for column in columns:
        assert all(abs(lightness(a) - lightness(b)) > 0.05 for a, b in itertools.pairwise(column))
    colours = Counter(vocabulary()[key].colour for key in trainable())
    assert max(colours.values()) <= 2
