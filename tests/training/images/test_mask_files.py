"""Masks as COCO and as folders of PNG, and radiographs with their sidecar."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from training.drr import Geometry
from training.errors import ChexanatomyError
from training.images import (
    MaskSet,
    Radiograph,
    read_coco,
    read_masks,
    read_radiograph,
    write_coco,
    write_mask_folder,
    write_radiograph,
)


def some(seed: int = 0) -> MaskSet:
    rng = np.random.default_rng(seed)
    masks = {name: rng.random((30, 44)) < 0.3 for name in ("heart", "lung_left", 'the "new" line: α/β')}
    masks["trachea"] = np.zeros((30, 44), bool)
    return MaskSet(f"chest-{seed}.png", (30, 44), masks, {"heart": 0.93})


def same(one: MaskSet, other: MaskSet) -> bool:
    return one.masks.keys() == other.masks.keys() and all(np.array_equal(m, other.masks[s]) for s, m in one.masks.items())


def test_coco_gives_every_mask_back(tmp_path: Path) -> None:
    sets = [some(0), some(1)]
    assert write_coco(sets, tmp_path / "c.json") == 6
    back = read_coco(tmp_path / "c.json")
    assert [one.image for one in back] == ["chest-0.png", "chest-1.png"]
    assert all(same(a, b) for a, b in zip(sets, back, strict=True))
    assert back[0].scores == {"heart": 0.93}


def test_pycocotools_reads_the_file(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write_coco([some(0)], tmp_path / "c.json")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "c.json"))
    names = {category["id"]: category["name"] for category in coco.loadCats(coco.getCatIds())}
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        mask = some(0).masks[names[annotation["category_id"]]]
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()


def drawn(path: Path, segmentation: object, **more: object) -> Path:
    """A COCO file of one annotation on an image of 30 x 44 pixels; more: entries of the annotation."""
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 44, "height": 30}],
        "categories": [{"id": 3, "name": "heart"}],
        "annotations": [{"image_id": 7, "category_id": 3, "segmentation": segmentation, **more}],
    }
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("far", [1e9, -1e9, 90.0, float("nan"), float("inf"), 10**400])
def test_polygons_far_beyond_their_image_are_refused(tmp_path: Path, far: float) -> None:
    for corner in ([far, 3], [3, far]):
        with pytest.raises(ChexanatomyError):
            read_coco(drawn(tmp_path / "c.json", [[0, 0, *corner, 20, 20]]))
    (one,) = read_coco(drawn(tmp_path / "c.json", [[-40, -30, 80, -30, 80, 55, -40, 55]]))
    assert one.masks["heart"].all()


def test_polygons_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChexanatomyError, match=r"^Annotation 12 on a\.png: the polygon leads far beyond the image"):
        read_coco(drawn(tmp_path / "c.json", [[0, 0, 43, 29] * 1000], id=12))


def test_a_score_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    (one,) = read_coco(drawn(tmp_path / "c.json", [[1, 1, 20, 1, 20, 20]], score=float("nan")))
    assert one.scores == {}
    write_coco([MaskSet("a.png", one.size, one.masks, {"heart": float("nan")})], tmp_path / "d.json")
    assert "score" not in (tmp_path / "d.json").read_text()


def test_masks_that_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=10**9))
    image = {"file_name": "a.png", "width": 10_000, "height": 10_000, "absent": ["heart", "lung_left"]}
    content = {"images": [{"id": i, **image} for i in range(3)], "categories": [], "annotations": []}
    finding = {"structure": "heart", "rle": None, "confidence": 1.0}
    predictions = [{"image": "a.png", "size": [10_000, 10_000], "findings": [finding] * 6}]
    for text in (content, predictions):
        (tmp_path / "c.json").write_text(json.dumps(text))
        with pytest.raises(ChexanatomyError, match="more than half of this machine's memory"):
            read_coco(tmp_path / "c.json")


def test_polygons_and_several_parts_of_other_programs_are_read(tmp_path: Path) -> None:
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    other = [[30, 2, 40, 2, 40, 8, 30, 8]]
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 44, "height": 30}],
        "categories": [{"id": 3, "name": "Cardiac silhouette"}],
        "annotations": [{"image_id": 7, "category_id": 3, "segmentation": s} for s in (square, other)],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    (one,) = read_masks(tmp_path / "c.json")
    assert one.masks["heart"].sum() == 160
    assert one.masks["heart"][15, 15]
    assert one.masks["heart"][5, 35]


def test_a_folder_of_pictures_gives_every_mask_and_name_back(tmp_path: Path) -> None:
    write_mask_folder(some().masks, tmp_path / "masks")
    (back,) = read_masks(tmp_path)
    assert same(some(), back)
    clash = {"a:b": np.ones((20, 20), bool), "a?b": np.ones((20, 20), bool)}
    with pytest.raises(ChexanatomyError, match="same file name"):
        write_mask_folder(clash, tmp_path / "clash")


@pytest.mark.parametrize(
    "content",
    ["", "[]x", "[1]", '{"images": 3}', '{"images": [], "categories": [], "annotations": [{}]}', "[" * 10_000],
)
def test_other_json_is_refused_in_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(ChexanatomyError):
        read_masks(tmp_path / "c.json")


def test_sizes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_coco([some()], tmp_path / "c.json")
    good = json.loads((tmp_path / "c.json").read_text())
    for change in ({"width": 10**9}, {"width": 45}):
        bad = json.loads(json.dumps(good))
        bad["images"][0].update(change)
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        with pytest.raises(ChexanatomyError):
            read_coco(tmp_path / "bad.json")


def test_a_picture_keeps_pitch_and_view_in_the_file_beside_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((30, 44)).astype(np.float32)
    pose = Geometry(rows=30, columns=44)
    write_radiograph(Radiograph(pixels, (1 / 3, 0.7), "LATERAL"), tmp_path / "a.png", pose)
    back = read_radiograph(tmp_path / "a.png")
    assert (back.spacing, back.view) == ((1 / 3, 0.7), "LATERAL")
    np.testing.assert_array_equal(np.rint(back.pixels * 65535), np.rint(pixels * 65535))
    assert Geometry.from_dict(json.loads((tmp_path / "a.json").read_text())["geometry"]) == pose
    for other in ("{", "[]", '{"spacing": [1, 1]}', '{"form": "napari-chexanatomy radiograph", "spacing": [-1, "x"]}'):
        (tmp_path / "a.json").write_text(other)
        assert read_radiograph(tmp_path / "a.png").spacing is None
