"""What is opened or dropped becomes the right layers, in millimetres; what cannot be read is said and changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_chexanatomy import readers
from napari_chexanatomy.layers import core_of
from napari_chexanatomy.readers import NOTHING, get_reader, read_layers
from tests.training.images.makers import ct_series, dicom
from training.errors import ChexanatomyError
from training.images import read_ct, write_ct_nifti, write_labels_nifti, write_mask_png, write_radiograph_png
from training.images.types import CT, LabelMap, Radiograph

Files = dict[str, Path]


@pytest.fixture(autouse=True)
def nothing_opened_before() -> None:
    readers._just_opened.clear()


@pytest.fixture
def plugin() -> None:
    """Have npe2 know this plugin, also where a test of napari's own has cleared it."""
    from npe2 import PluginManager, PluginManifest

    manager = PluginManager.instance()
    if "napari-chexanatomy" not in manager:
        manager.register(PluginManifest.from_file(Path(readers.__file__).with_name("napari.yaml")))


@pytest.fixture
def files(tmp_path: Path, body: tuple[CT, LabelMap], radiograph: Radiograph, masks: dict[str, np.ndarray]) -> Files:
    ct, labels = body
    write_ct_nifti(ct, tmp_path / "case" / "ct.nii.gz")
    write_labels_nifti(labels, tmp_path / "case" / "labels.nii.gz")
    write_radiograph_png(radiograph, tmp_path / "pa.png")
    write_mask_png(masks["heart"], tmp_path / "heart.png")
    ct_series(tmp_path / "dicom" / "series")
    dicom(
        tmp_path / "dx" / "1.dcm",
        np.arange(400, dtype=np.uint16).reshape(20, 20),
        Modality="DX",
        WindowCenter=200,
        WindowWidth=400,
    )
    return {
        "ct": tmp_path / "case" / "ct.nii.gz",
        "labels": tmp_path / "case" / "labels.nii.gz",
        "radiograph": tmp_path / "pa.png",
        "mask": tmp_path / "heart.png",
        "series": tmp_path / "dicom",
        "case": tmp_path / "case",
        "dx": tmp_path / "dx" / "1.dcm",
        "dx folder": tmp_path / "dx",
    }


def opened(path: Path | list[Path]) -> list[Layer]:
    asked = [str(p) for p in path] if isinstance(path, list) else str(path)
    reader = get_reader(asked)
    assert reader is not None
    return [Layer.create(*data) for data in reader(asked)]


def test_content_decides_what_becomes_of_a_file(files: Files) -> None:
    kinds = {"ct": ["ct"], "labels": ["labels"], "radiograph": ["radiograph"], "mask": [""]}
    kinds |= {"series": ["ct"], "case": ["ct", "labels"], "dx": ["radiograph"], "dx folder": ["radiograph"]}
    for name, expected in kinds.items():
        found = []
        for layer in opened(files[name]):
            core = core_of(layer)
            found.append(next((kind for kind in ("ct", "labels", "radiograph") if getattr(core, kind) is not None), ""))
        assert found == expected, name


def test_layers_lie_in_millimetres_where_the_patient_is(files: Files) -> None:
    viewer = ViewerModel()
    ct_layer, labels_layer = (viewer.add_layer(layer) for layer in opened(files["case"]))
    ct = read_ct(files["ct"])
    assert tuple(ct_layer.scale) == ct.spacing[::-1] == tuple(labels_layer.scale)
    assert tuple(ct_layer.translate) == pytest.approx(ct.origin[::-1])
    assert [str(unit) for unit in viewer.layers.extent.units] == ["millimeter"] * 3
    assert ct_layer.axis_labels == ("z", "y", "x")
    assert [str(unit) for unit in opened(files["radiograph"])[0].units] == ["pixel"] * 2


def test_a_drawn_mask_becomes_a_labels_layer(files: Files, masks: dict[str, np.ndarray]) -> None:
    layer = opened(files["mask"])[0]
    assert type(layer).__name__ == "Labels"
    assert layer.name == "heart"
    assert np.array_equal(layer.data > 0, masks["heart"])


def test_exchanged_masks_become_one_layer_with_all_of_them(tmp_path: Path, files: Files, masks: dict[str, np.ndarray]) -> None:
    from training.images import MaskSet, read_radiograph, write_coco, write_masks_dicom, write_radiograph_dicom

    size = masks["heart"].shape
    write_coco([MaskSet("pa.png", (size[0], size[1]), masks)], tmp_path / "coco.json")
    image = write_radiograph_dicom(read_radiograph(files["radiograph"]), tmp_path / "radiograph.dcm")
    write_masks_dicom(masks, tmp_path / "masks.dcm", image)
    for name, title in (("coco.json", "pa"), ("masks.dcm", "masks")):
        (layer,) = opened(tmp_path / name)
        assert (type(layer).__name__, layer.name) == ("Labels", title)
        assert {s for held in core_of(layer).members.values() for s in held} == set(masks)
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert get_reader(str(tmp_path / "other.json")) is None


def test_one_slice_or_all_files_of_a_series_open_it_once(files: Files) -> None:
    slices = sorted((files["series"] / "series").iterdir())
    layers = opened(slices)
    assert [layer.data.shape for layer in layers] == [(8, 10, 12)]
    for path in slices[1:4]:
        assert read_layers(str(path)) == NOTHING
    readers._just_opened.clear()
    assert len(opened(slices[2])) == 1


def test_what_is_not_ours_is_left_to_others(tmp_path: Path, files: Files) -> None:
    (tmp_path / "plain").mkdir()
    shutil.copy(files["radiograph"], tmp_path / "plain" / "a.png")
    (tmp_path / "notes.txt").write_text("well")
    assert get_reader(str(tmp_path / "plain")) is None
    assert get_reader(str(tmp_path / "notes.txt")) is None
    assert get_reader([]) is None
    assert get_reader(str(files["series"])) is not None
    assert get_reader([str(files["radiograph"]), str(files["mask"])]) is not None


def test_without_a_window_an_error_is_raised(tmp_path: Path) -> None:
    (tmp_path / "half.nii.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ChexanatomyError, match="half"):
        read_layers(str(tmp_path / "half.nii.gz"))


def test_opening_through_napari_uses_this_reader(files: Files, plugin: None) -> None:
    viewer = ViewerModel()
    viewer.open(files["ct"], plugin="napari-chexanatomy")
    viewer.open(files["series"], plugin="napari-chexanatomy")
    assert [layer.name for layer in viewer.layers] == ["ct", "dicom"]


@pytest.fixture
def said() -> Any:
    """Messages that napari's notifications got."""
    from napari.utils.notifications import notification_manager

    messages: list[tuple[str, str]] = []

    def listen(notification: Any) -> None:
        messages.append((str(notification.severity), notification.message))

    notification_manager.notification_ready.connect(listen)
    yield messages
    notification_manager.notification_ready.disconnect(listen)


def test_in_a_window_errors_are_said_and_nothing_changes(
    tmp_path: Path,
    files: Files,
    said: list[tuple[str, str]],
    make_napari_viewer: Callable[..., Any],
    request: pytest.FixtureRequest,
) -> None:
    viewer = make_napari_viewer()
    request.getfixturevalue("plugin")
    (tmp_path / "half.nii.gz").write_bytes(files["ct"].read_bytes()[:5000])
    viewer.open(tmp_path / "half.nii.gz", plugin="napari-chexanatomy")
    assert len(viewer.layers) == 0
    assert said == [("error", "half.nii.gz is damaged or incomplete and cannot be read as NIfTI; fetch or export it again.")]


def test_a_label_map_goes_onto_the_open_ct_or_is_refused(
    tmp_path: Path,
    files: Files,
    body: tuple[CT, LabelMap],
    said: list[tuple[str, str]],
    make_napari_viewer: Callable[..., Any],
    request: pytest.FixtureRequest,
) -> None:
    viewer = make_napari_viewer()
    request.getfixturevalue("plugin")
    viewer.open(files["ct"], plugin="napari-chexanatomy")
    ct = core_of(viewer.layers[0]).ct
    assert ct is not None
    coarse = LabelMap(body[1].ids[::2, ::2, ::2].copy(), body[1].members, tuple(2 * s for s in ct.spacing), ct.origin)  # type: ignore[arg-type]
    write_labels_nifti(coarse, tmp_path / "coarse.nii.gz")
    viewer.open(tmp_path / "coarse.nii.gz", plugin="napari-chexanatomy")
    assert viewer.layers[1].data.shape == ct.shape
    assert any("another grid" in message for _, message in said)
    write_labels_nifti(LabelMap(coarse.ids, coarse.members, coarse.spacing, (900.0, 0.0, 0.0)), tmp_path / "stranger.nii.gz")
    said.clear()
    viewer.open(tmp_path / "stranger.nii.gz", plugin="napari-chexanatomy")
    assert len(viewer.layers) == 2
    assert "does not belong to the CT" in said[0][1]


def test_a_stranger_beside_a_ct_is_refused(tmp_path: Path, files: Files, body: tuple[CT, LabelMap]) -> None:
    stranger = LabelMap(body[1].ids, body[1].members, body[1].spacing, (900.0, 0.0, 0.0))
    write_labels_nifti(stranger, files["case"] / "labels.nii.gz")
    with pytest.raises(ChexanatomyError, match="does not belong"):
        read_layers(str(files["case"]))
