"""Label maps: names from every source, overlaps kept, other grids resampled, and label maps of somebody else refused."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import shared_data
from tests.training.images.makers import affine, places_of, write_itk
from training.errors import ChexanatomyError, FrameMismatch, UnreadableFile
from training.images import read_labels, write_labels_nifti
from training.images.grid import Grid
from training.images.label_names import read_names
from training.images.nifti import write_nifti
from training.images.types import CT, LabelMap

SPACING = (2.0, 1.5, 3.0)
ORIGIN = (-20.0, 5.0, -30.0)
SHAPE = (9, 12, 16)


@pytest.fixture
def ct() -> CT:
    return CT(np.full(SHAPE, -1000, np.int16), SPACING, ORIGIN, name="chest")


def ids_at(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Two boxes at known places [mm]: 1 to the patient's right and low, 2 to the left and high."""
    right = (x > -19.1) & (x < -10.9) & (y > 7.2) & (y < 17.8) & (z > -28.6) & (z < -16.6)
    left = (x > -3.1) & (x < 7.1) & (y > 8.8) & (y < 19.3) & (z > -22.6) & (z < -7.6)
    return (right * 1 + left * 2).astype(np.uint8)


def same_grid_file(path: Path, ct: CT, ids: np.ndarray | None = None) -> Path:
    write_nifti(path, ids_at(*places_of(ct)) if ids is None else ids, ct)
    return path


def refusal(path: Path, ct: CT | None, names: object = None, kind: type[ChexanatomyError] = UnreadableFile) -> str:
    with pytest.raises(kind) as caught:
        read_labels(path, ct, names)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_names_come_from_a_table_and_known_ones_become_keys(tmp_path: Path, ct: CT) -> None:
    path = same_grid_file(tmp_path / "seg.nii.gz", ct)
    rows = ("group,original_idx,structure,id", "organs,1,Right Lung,1", "new,2,strange thing,2", "new,3,spleen,3", "")
    (tmp_path / "lidc.csv").write_text("\n".join(rows))
    labels = read_labels(path, ct, tmp_path / "lidc.csv")
    assert dict(labels.members) == {1: ("lung_right",), 2: ("strange thing",)}
    assert np.array_equal(labels.ids, ids_at(*places_of(ct)))
    assert labels.ids.dtype == np.uint8
    assert labels.notes == ()
    (tmp_path / "tabs.tsv").write_text("\ufeffID\tName\n1\theart\n2\taorta\n", encoding="utf-8")
    assert read_labels(path, ct, tmp_path / "tabs.tsv").structures == ("heart", "aorta")
    assert read_labels(path, ct, {1: "heart", 2: "aorta"}).structures == ("heart", "aorta")


def test_a_table_with_an_endless_field_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("id,name\n1," + "x" * 200_000 + "\n")
    with pytest.raises(UnreadableFile, match=r"names\.csv has a field that is longer"):
        read_names(tmp_path / "names.csv")


def test_names_come_from_a_table_beside_the_file_and_are_said(tmp_path: Path, ct: CT) -> None:
    path = same_grid_file(tmp_path / "labels.nii.gz", ct)
    (tmp_path / "label_names.csv").write_text("id,name\n1,liver\n2,spleen\n")
    labels = read_labels(path, ct)
    assert labels.structures == ("liver", "spleen")
    assert "label_names.csv" in labels.notes[0]


def with_extension(plain: Path, xml: bytes, path: Path) -> Path:
    """A .nii file with a header extension as nibabel writes it: code 0, padded to 16 bytes."""
    size = -(-(len(xml) + 8) // 16) * 16
    raw = bytearray(plain.read_bytes())
    raw[108:112] = np.array([352 + size], "<f4").tobytes()
    raw[348:352] = b"\1\0\0\0"
    extension = size.to_bytes(4, "little") + bytes(4) + xml.ljust(size - 8, b"\0")
    path.write_bytes(gzip.compress(bytes(raw[:352]) + extension + bytes(raw[352:])))
    return path


def test_names_come_from_totalsegmentators_header_extension(tmp_path: Path, ct: CT) -> None:
    """Labels with colours, names as CDATA or plain."""
    xml = (
        b'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> <VolumeInformation Index="0"> <LabelTable>'
        b'<Label Key="1" Red="0.5" Green="0.2" Blue="0.1" Alpha="1.0"><![CDATA[lung_upper_lobe_right]]></Label>'
        b'<Label Red="0" Green="0" Blue="0" Alpha="1.0" Key="2"> heart &amp; aorta\n</Label><Label Key="3"/>'
        b"</LabelTable> </VolumeInformation> </CaretExtension>"
    )
    labels = read_labels(with_extension(same_grid_file(tmp_path / "plain.nii", ct), xml, tmp_path / "total.nii.gz"), ct)
    assert dict(labels.members) == {1: ("lung_upper_lobe_right",), 2: ("heart & aorta",)}
    assert np.array_equal(labels.ids, ids_at(*places_of(ct)))


@pytest.mark.parametrize(
    "xml",
    [b'<Label Key="1">' + b" " * 60_000, b'<Label Key="1"><![CDATA[' * 40_000, b"<Label " + b' Key="1"' * 40_000],
    ids=["spaces", "CDATA", "keys"],
)
def test_names_that_never_end_take_no_time(tmp_path: Path, ct: CT, xml: bytes) -> None:
    began = time.perf_counter()
    labels = read_labels(with_extension(same_grid_file(tmp_path / "plain.nii", ct), xml, tmp_path / "l.nii.gz"), ct)
    assert time.perf_counter() - began < 5
    assert labels.structures == ("spleen", "kidney_right")


def test_names_come_from_3d_slicers_header(tmp_path: Path, ct: CT) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(ids_at(*places_of(ct)))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    for number, name in enumerate(("liver", "Heart")):
        image.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        image.SetMetaData(f"Segment{number}_Name", name)
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
    assert read_labels(tmp_path / "s.seg.nrrd", ct).structures == ("liver", "heart")


def test_without_names_totalsegmentators_numbering_is_assumed_and_said(tmp_path: Path, ct: CT) -> None:
    labels = read_labels(same_grid_file(tmp_path / "seg.nii.gz", ct), ct)
    assert labels.structures == ("spleen", "kidney_right")
    assert "TotalSegmentator v2" in labels.notes[0]
    strange = (ids_at(*places_of(ct)) * 100).astype(np.uint8)
    assert "200" in refusal(same_grid_file(tmp_path / "other.nii.gz", ct, strange), ct)


def test_a_single_mask_is_named_by_its_file(tmp_path: Path, ct: CT) -> None:
    mask = (ids_at(*places_of(ct)) > 0).astype(np.uint8)
    assert read_labels(same_grid_file(tmp_path / "Left Lung.nii.gz", ct, mask), ct).structures == ("lung_left",)


def test_ids_the_table_does_not_name_are_kept_and_said(tmp_path: Path, ct: CT) -> None:
    path = same_grid_file(tmp_path / "seg.nii.gz", ct)
    labels = read_labels(path, ct, {2: "heart"})
    assert labels.structures == ("label_1", "heart")
    assert "1" in labels.notes[-1]
    assert "none of which" in refusal(path, ct, {7: "heart"})


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,b\n1,2\n", "columns a, b"), ("id,name\none,heart\n", "'one'"), ("id,name\n", "names no label"), ("", "none")],
)
def test_tables_that_name_nothing_are_refused(tmp_path: Path, ct: CT, text: str, said: str) -> None:
    (tmp_path / "names.csv").write_text(text)
    assert said in refusal(same_grid_file(tmp_path / "seg.nii.gz", ct), ct, tmp_path / "names.csv")


def test_another_orientation_and_grid_is_resampled_by_position_and_said(tmp_path: Path, ct: CT) -> None:
    directions = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    matrix = affine(directions, (0.5, 0.5, 0.5), (14.0, 3.0, -3.0))
    size = (60, 76, 50)
    i, j, k = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    places = np.stack([i, j, k, np.ones_like(i)], -1) @ matrix.T
    fine = ids_at(*np.moveaxis(places[..., :3], -1, 0)).transpose(2, 1, 0)
    labels = read_labels(write_itk(tmp_path / "fine.nii.gz", np.ascontiguousarray(fine), matrix), ct, {1: "liver", 2: "heart"})
    expected = ids_at(*places_of(ct))
    assert labels.shape == ct.shape
    assert labels.origin == ct.origin
    assert (labels.ids != expected).mean() < 0.01
    assert "another grid" in labels.notes[0]


def test_oblique_label_map_is_resampled_by_position(tmp_path: Path, ct: CT) -> None:
    angle = np.radians(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    matrix = affine(turn, (0.5, 0.5, 0.5), (-20.0, 0.0, -32.0))
    i, j, k = np.meshgrid(*(np.arange(n) for n in (70, 50, 60)), indexing="ij")
    places = np.stack([i, j, k, np.ones_like(i)], -1) @ matrix.T
    fine = np.ascontiguousarray(ids_at(*np.moveaxis(places[..., :3], -1, 0)).transpose(2, 1, 0))
    path = write_itk(tmp_path / "oblique.nii.gz", fine, matrix)
    labels = read_labels(path, ct, {1: "liver", 2: "heart"})
    assert (labels.ids != ids_at(*places_of(ct))).mean() < 0.01
    assert "oblique" in labels.notes[0]
    alone = read_labels(path, None, {1: "liver", 2: "heart"})
    assert (alone.ids != ids_at(*places_of(alone))).mean() < 0.01


def test_without_a_ct_the_label_map_keeps_its_grid_upright(tmp_path: Path) -> None:
    matrix = affine(np.diag([-1.0, -1.0, 1.0]), SPACING, (12.0, 30.0, -30.0))
    ids = np.zeros((9, 12, 16), np.uint8)
    ids[8, 0, 0] = 5
    labels = read_labels(write_itk(tmp_path / "heart.nii.gz", ids, matrix), None)
    assert labels.spacing == SPACING
    assert labels.origin == (12 - 15 * 2.0, 30 - 11 * 1.5, -30.0)
    assert labels.ids[8, 11, 15] == 5
    assert labels.structures == ("heart",)


def test_a_label_map_of_another_ct_is_refused_naming_both_frames(tmp_path: Path, ct: CT) -> None:
    path = same_grid_file(tmp_path / "seg.nii.gz", ct)
    elsewhere = CT(ct.hu, ct.spacing, (100.0, 5.0, -30.0), name="other")
    text = refusal(path, elsewhere, {1: "heart", 2: "liver"}, FrameMismatch)
    assert "only 0 %" in text
    assert "x -21 to 11" in text
    assert "x 99 to 131" in text
    half_off = CT(ct.hu, ct.spacing, (-20.0, 5.0, -22.0), name="half off")
    assert read_labels(path, half_off, {1: "heart", 2: "liver"}).shape == ct.shape


def test_empty_fractional_negative_and_4d_label_maps_are_refused(tmp_path: Path, ct: CT) -> None:
    import SimpleITK as sitk

    assert "empty" in refusal(same_grid_file(tmp_path / "empty.nii.gz", ct, np.zeros(SHAPE, np.uint8)), ct)
    parts = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    assert "fractional" in refusal(same_grid_file(tmp_path / "soft.nii.gz", ct, parts), ct)
    scan = np.full(SHAPE, -1000, np.int16)
    assert "image" in refusal(same_grid_file(tmp_path / "scan.nii.gz", ct, scan), ct)
    volume = sitk.GetImageFromArray(np.ones(SHAPE, np.uint8))
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(tmp_path / "time.nii.gz"))
    assert "4 dimensions" in refusal(tmp_path / "time.nii.gz", ct)
    assert "no file" in refusal(tmp_path / "absent.nii.gz", ct)


def test_whole_numbers_stored_as_floats_are_ids(tmp_path: Path, ct: CT) -> None:
    ids = ids_at(*places_of(ct)).astype(np.float32) * 300
    labels = read_labels(same_grid_file(tmp_path / "f.nii.gz", ct, ids), ct, {300: "liver", 600: "heart"})
    assert labels.ids.dtype == np.uint16
    assert set(np.unique(labels.ids)) == {0, 300, 600}


def test_mirrored_labels_are_refused(tmp_path: Path, ct: CT) -> None:
    path = same_grid_file(tmp_path / "seg.nii.gz", ct)
    assert read_labels(path, ct, {1: "lung_right", 2: "lung_left"}).structures == ("lung_right", "lung_left")
    text = refusal(path, ct, {1: "lung_left", 2: "lung_right"}, FrameMismatch)
    assert "swapped" in text
    assert "lung_left" in text


def write_masks(folder: Path, ct: CT, **masks: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        write_nifti(folder / f"{name}.nii.gz", mask.astype(np.uint8), ct)
    return folder


def test_a_folder_of_masks_keeps_overlaps(tmp_path: Path, ct: CT) -> None:
    rng = np.random.default_rng(1)
    masks = {name: rng.random(SHAPE) < 0.3 for name in ("heart", "aorta", "strange_thing")}
    folder = write_masks(tmp_path / "masks", ct, **masks, liver=np.zeros(SHAPE))
    labels = read_labels(folder, ct)
    assert set(labels.structures) == set(masks)
    for name, mask in masks.items():
        assert np.array_equal(labels.mask(name), mask)
    assert labels.ids.dtype == np.uint8
    assert set(np.unique(labels.ids)) == {0, *labels.members}
    assert "1 of 4 masks are empty: liver." in labels.notes


def test_many_overlaps_fit_sixteen_bits(tmp_path: Path, ct: CT) -> None:
    rng = np.random.default_rng(2)
    masks = {f"part_{n}": rng.random(SHAPE) < 0.5 for n in range(10)}
    labels = read_labels(write_masks(tmp_path / "masks", ct, **masks), ct)
    assert labels.ids.dtype == np.uint16
    for name, mask in masks.items():
        assert np.array_equal(labels.mask(name), mask)


def test_a_folder_on_another_grid_is_resampled(tmp_path: Path, ct: CT) -> None:
    fine = Grid((30, 40, 70), (0.5, 0.5, 1.0), (-20.0, 4.0, -32.0))
    folder = tmp_path / "masks"
    folder.mkdir()
    ids = ids_at(*places_of(fine))
    write_nifti(folder / "liver.nii", (ids == 1).astype(np.uint8), fine)
    write_nifti(folder / "heart.nii", (ids == 2).astype(np.uint8) * 255, fine)
    labels = read_labels(folder, ct)
    inside = labels.mask("liver") | labels.mask("heart")
    x, y, z = places_of(ct)
    covered = (x < 15) & (y < 24) & (z < -2.5)
    assert np.array_equal(inside & covered, (ids_at(x, y, z) > 0) & covered)
    assert "another grid" in labels.notes[0]


def test_folders_that_hold_no_masks_of_this_ct_are_refused(tmp_path: Path, ct: CT) -> None:
    mask = ids_at(*places_of(ct)) == 1
    (tmp_path / "nothing").mkdir()
    assert "no mask files" in refusal(tmp_path / "nothing", ct)
    assert "empty" in refusal(write_masks(tmp_path / "empty", ct, heart=mask * 0), ct)
    assert "several labels" in refusal(write_masks(tmp_path / "ids", ct, heart=ids_at(*places_of(ct))), ct)
    elsewhere = CT(ct.hu, ct.spacing, (100.0, 5.0, -30.0), name="other")
    folder = write_masks(tmp_path / "fine", ct, heart=mask)
    assert "x 99 to 131" in refusal(folder, elsewhere, kind=FrameMismatch)
    write_nifti(folder / "liver.nii.gz", mask.astype(np.uint8), elsewhere)
    assert "another grid" in refusal(folder, None, kind=FrameMismatch)
    swapped = write_masks(tmp_path / "swapped", ct, lung_left=mask, lung_right=ids_at(*places_of(ct)) == 2)
    assert "swapped" in refusal(swapped, ct, kind=FrameMismatch)


def test_the_ct_beside_masks_and_the_folder_above_them_are_understood(tmp_path: Path, ct: CT) -> None:
    mask = ids_at(*places_of(ct)) == 1
    write_masks(tmp_path / "case" / "segmentations", ct, heart=mask)
    write_nifti(tmp_path / "case" / "ct.nii.gz", ct.hu, ct)
    assert read_labels(tmp_path / "case", ct).structures == ("heart",)
    write_nifti(tmp_path / "case" / "segmentations" / "ct.nii.gz", ct.hu, ct)
    labels = read_labels(tmp_path / "case", ct)
    assert labels.structures == ("heart",)
    assert "ct.nii.gz" in labels.notes[0]


def test_written_labels_are_read_back_with_overlaps_and_names(tmp_path: Path, ct: CT) -> None:
    ids = ids_at(*places_of(ct))
    labels = LabelMap(ids, {1: ("heart",), 2: ("heart", "aorta")}, ct.spacing, ct.origin)
    table = write_labels_nifti(labels, tmp_path / "out.nii.gz")
    assert table == tmp_path / "out_names.csv"
    assert table.read_text().splitlines() == ["id,name", "1,heart", "2,heart", "2,aorta"]
    for names in (None, table):
        back = read_labels(tmp_path / "out.nii.gz", ct, names)
        assert np.array_equal(back.ids, ids)
        assert dict(back.members) == dict(labels.members)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.nii.gz", "out_names.csv"]
    with pytest.raises(UnreadableFile, match="NIfTI"):
        write_labels_nifti(labels, tmp_path / "out.mha")


def test_real_masks_of_another_grid_lie_where_they_belong() -> None:
    """The lungs of a real CT, twice: by its own label map and by thresholding what the label map covers."""
    folder = shared_data("ct_cip_tiny64")
    from training.images import read_ct

    ct = read_ct(folder / "ct-64.nrrd")
    labels = read_labels(folder / "wholeLung-64.nrrd", ct)
    lung = ct.hu[labels.mask(*labels.structures)]
    assert np.median(lung) < -700
    assert (labels.spacing, labels.origin, labels.shape) == (ct.spacing, ct.origin, ct.shape)


def test_the_real_sample_is_named_and_right_is_right(sample_ct: Path) -> None:
    from training.anatomy import vocabulary

    labels = read_labels(sample_ct / "labels.nii.gz", None, sample_ct / "label_names.csv")
    assert len(labels.structures) >= 80
    assert set(labels.structures) <= set(vocabulary())
    liver, spleen, heart = (
        np.array([places.mean() for places in np.nonzero(labels.mask(s))]) for s in ("liver", "spleen", "heart")
    )
    assert liver[2] < spleen[2]
    assert heart[0] > liver[0]
