"""Layers are saved as masks, label maps, radiographs and CTs, through napari's own way of saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer

from napari_chexanatomy import layers
from napari_chexanatomy.writers import write_coco_masks, write_dicom, write_image, write_labels, write_mask
from training.errors import ChexanatomyError
from training.images import read_ct, read_labels, read_mask_png, read_radiograph
from training.images.types import CT, LabelMap, Radiograph


def attributes(layer: Layer) -> dict[str, Any]:
    return dict(layer.as_layer_data_tuple()[1])


def test_a_drawing_is_saved_as_a_picture_of_0_and_255(tmp_path: Path) -> None:
    drawing = np.zeros((30, 40), np.int32)
    drawing[5:9, 6:20] = 3
    layer = Labels(drawing)
    assert write_mask(str(tmp_path / "a.png"), layer.data, attributes(layer)) == [str(tmp_path / "a.png")]
    assert np.array_equal(read_mask_png(tmp_path / "a.png"), drawing > 0)


def test_several_drawn_labels_give_a_picture_each(tmp_path: Path) -> None:
    drawing = np.zeros((30, 40), np.int32)
    drawing[5:9], drawing[20:22] = 1, 4
    layer = Labels(drawing)
    written = write_mask(str(tmp_path / "a.png"), layer.data, attributes(layer))
    assert [Path(p).name for p in written] == ["a_1.png", "a_4.png"]
    assert np.array_equal(read_mask_png(written[1]), drawing == 4)


def test_opened_masks_give_a_picture_for_each_structure(tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    absent = {"trachea": np.zeros((128, 128), bool)}
    layer = Layer.create(*layers.from_masks({**masks, **absent}, "pa"))
    assert len(np.unique(layer.data)) > len(masks) + 1, "some of the masks overlap"
    written = write_mask(str(tmp_path / "pa.png"), layer.data, attributes(layer))
    assert {Path(p).name for p in written} == {f"pa_{name}.png" for name in {**masks, **absent}}
    assert all(np.array_equal(read_mask_png(tmp_path / f"pa_{name}.png"), mask) for name, mask in {**masks, **absent}.items())
    alone = Layer.create(*layers.from_masks({"heart": masks["heart"]}, "pa"))
    assert write_mask(str(tmp_path / "b.png"), alone.data, attributes(alone)) == [str(tmp_path / "b.png")]
    assert np.array_equal(read_mask_png(tmp_path / "b.png"), masks["heart"])


def test_a_label_map_keeps_its_names_and_place(tmp_path: Path, body: tuple[CT, LabelMap]) -> None:
    layer = Layer.create(*layers.from_labels(body[1]))
    written = write_labels(str(tmp_path / "l.nii.gz"), layer.data, attributes(layer))
    assert [Path(p).name for p in written] == ["l.nii.gz", "l_names.csv"]
    back = read_labels(tmp_path / "l.nii.gz", body[0])
    assert np.array_equal(back.ids, body[1].ids)
    assert set(back.structures) == {name for i in np.unique(body[1].ids) if i for name in body[1].members[int(i)]}
    assert back.notes == ()


def test_a_label_map_drawn_in_napari_is_saved_with_plain_names(tmp_path: Path) -> None:
    layer = Labels(np.eye(6, dtype=np.int64)[None].repeat(6, 0) * 7, scale=(3, 2, 2), translate=(-5, 0, 1))
    write_labels(str(tmp_path / "l.nii"), layer.data, attributes(layer))
    back = read_labels(tmp_path / "l.nii", None)
    assert back.structures == ("label_7",)
    assert (back.spacing, back.origin) == ((2.0, 2.0, 3.0), (1.0, 0.0, -5.0))


def test_radiographs_and_cts_are_saved_exactly(tmp_path: Path, body: tuple[CT, LabelMap], radiograph: Radiograph) -> None:
    picture = Layer.create(*layers.from_radiograph(radiograph))
    write_image(str(tmp_path / "r.png"), picture.data, attributes(picture))
    assert np.abs(read_radiograph(tmp_path / "r.png").pixels - radiograph.pixels).max() < 1 / 65535
    volume = Layer.create(*layers.from_ct(body[0]))
    write_image(str(tmp_path / "ct.nii.gz"), volume.data, attributes(volume))
    back = read_ct(tmp_path / "ct.nii.gz")
    assert np.array_equal(back.hu, body[0].hu)
    assert back.origin == pytest.approx(body[0].origin)


def test_layers_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    flat, deep, photograph = (
        Labels(np.ones((9, 9), int)),
        Labels(np.ones((9, 9, 9), int)),
        Image(np.ones((9, 9, 3), np.uint8), rgb=True),
    )
    bright, plain = Image(np.full((9, 9), 300.0)), Image(np.ones((9, 9, 9), np.int16))
    for write, layer, name in [
        (write_mask, deep, "a.png"),
        (write_labels, flat, "a.nii.gz"),
        (write_labels, Labels(np.full((3, 3, 3), 70_000)), "a.nii.gz"),
        (write_image, photograph, "a.png"),
        (write_image, bright, "a.png"),
        (write_image, plain, "a.nii.gz"),
    ]:
        with pytest.raises(ChexanatomyError):
            write(str(tmp_path / name), layer.data, attributes(layer))
    assert list(tmp_path.iterdir()) == []


def test_napari_saves_through_these_writers(tmp_path: Path, body: tuple[CT, LabelMap]) -> None:
    from npe2 import PluginManager, PluginManifest

    if "napari-chexanatomy" not in PluginManager.instance():
        PluginManager.instance().register(PluginManifest.from_file(Path(layers.__file__).with_name("napari.yaml")))
    viewer = ViewerModel()
    layer = viewer.add_layer(Layer.create(*layers.from_labels(body[1])))
    written = layer.save(str(tmp_path / "l.nii.gz"), plugin="napari-chexanatomy")
    assert {Path(p).name for p in written} == {"l.nii.gz", "l_names.csv"}
    drawing = viewer.add_labels(np.eye(20, dtype=np.uint8))
    drawing.save(str(tmp_path / "m.png"), plugin="napari-chexanatomy")
    assert np.array_equal(read_mask_png(tmp_path / "m.png"), np.eye(20) > 0)


def test_masks_and_radiograph_go_out_together_and_come_back(
    tmp_path: Path, radiograph: Radiograph, pose: Any, masks: dict[str, np.ndarray]
) -> None:
    from training.images import read_masks

    picture, drawn = Layer.create(*layers.from_radiograph(radiograph, pose)), Layer.create(*layers.from_masks(masks, "pa"))
    selected = [layer.as_layer_data_tuple() for layer in (picture, drawn)]
    for write, name in ((write_coco_masks, "m.json"), (write_dicom, "m.dcm")):
        written = write(str(tmp_path / name), selected)
        (back,) = read_masks(written[0])
        assert back.masks.keys() == masks.keys()
        assert all(np.array_equal(back.masks[structure], mask) for structure, mask in masks.items())
    beside = read_radiograph(tmp_path / "m_radiograph.dcm")
    assert (beside.spacing, beside.view) == (radiograph.spacing, "PA")
    with pytest.raises(ChexanatomyError, match="one radiograph"):
        write_dicom(str(tmp_path / "x.dcm"), selected[1:])
    with pytest.raises(ChexanatomyError, match="no mask"):
        write_coco_masks(str(tmp_path / "x.json"), selected[:1])


def test_overlapping_masks_are_one_layer_that_names_what_is_under_the_pointer(masks: dict[str, np.ndarray]) -> None:
    absent = {"trachea": np.zeros((128, 128), bool)}
    layer = Layer.create(*layers.from_masks({**masks, **absent}, "pa"))
    assert isinstance(layer, Labels)
    again = layers.masks_in(np.asarray(layer.data), layers.core_of(layer), "pa")
    assert again.keys() == {**masks, **absent}.keys()
    assert all(np.array_equal(again[structure], mask) for structure, mask in {**masks, **absent}.items())
    both = np.argwhere(masks["heart"] & masks["lung_left"] & (sum(mask.astype(int) for mask in masks.values()) == 2))
    assert len(both)
    assert set(layer.features["structure"][layer.data[tuple(both[0])]].split(", ")) == {"heart", "left lung"}
    painted = np.asarray(layer.data).copy()
    painted[:3, :3] = 99
    assert layers.masks_in(painted, layers.core_of(layer), "my own line")["my own line"].sum() == 9
