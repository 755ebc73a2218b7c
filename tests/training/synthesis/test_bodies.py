import json
from dataclasses import replace

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.images import CT, LabelMap, write_ct_nifti, write_labels_nifti
from training.phantom import thorax
from training.phantom.findings import NONE
from training.phantom.parameters import draw
from training.synthesis import Range, Subject, SynthesisConfig, Variation, deform, paint
from training.synthesis.bodies import body as make_body


@pytest.fixture
def body():
    """Two lungs, a heart, a vertebra and a rib in soft tissue, 4 mm voxels."""
    ids = np.zeros((60, 50, 70), np.uint8)
    ids[20:55, 10:40, 5:30], ids[20:55, 10:40, 40:65] = 1, 2
    ids[20:35, 12:28, 30:48], ids[5:55, 40:48, 31:39], ids[30:33, 6:9, 5:30] = 3, 4, 5
    names = ("lung_upper_lobe_right", "lung_upper_lobe_left", "heart", "vertebrae_T5", "rib_right_5")
    labels = LabelMap(ids, {i + 1: (n,) for i, n in enumerate(names)}, (4.0, 4.0, 4.0), (10.0, -20.0, 30.0))
    hu = np.where(ids == 0, 0, np.where(ids < 3, -850, np.where(ids == 3, 40, 700))).astype(np.int16)
    return CT(hu, labels.spacing, labels.origin), labels


def test_ct_and_labels_move_together(body):
    ct, labels = deform(*body, np.random.default_rng(4), grid=4.0)
    for id_, value in ((1, -850), (3, 40), (4, 700)):
        inside = labels.ids == id_
        assert inside.sum() > 100
        assert abs(np.median(ct.hu[inside]) - value) < 30


def test_the_same_seed_gives_the_same_body_and_another_seed_another(body):
    one, again, other = (deform(*body, np.random.default_rng(s), grid=4.0)[0].hu for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.shape != other.shape or (one != other).any()


def test_no_variation_leaves_the_body_where_it_is(body):
    ct, labels = deform(*body, np.random.default_rng(0), held(0.0, 0.0), grid=4.0)
    assert (labels.ids == body[1].ids).mean() > 0.999
    np.testing.assert_allclose(ct.origin, body[0].origin, atol=1e-9)


def test_an_untouched_body_is_that_body_and_uses_up_the_same_random_numbers(body):
    touched, untouched = np.random.default_rng(3), np.random.default_rng(3)
    deform(*body, touched, Variation(untouched=0.0), grid=4.0)
    ct, labels = deform(*body, untouched, Variation(untouched=1.0), grid=4.0)
    assert np.array_equal(labels.ids, body[1].ids)
    assert np.array_equal(ct.hu, body[0].hu)
    np.testing.assert_allclose(ct.origin, body[0].origin, atol=1e-9)
    assert touched.random() == untouched.random()


def test_people_without_a_ct_are_not_painted_alike(body, tmp_path):
    table = write_labels_nifti(body[1], tmp_path / "labels.nii.gz")
    people = tuple(Subject(n, labels=str(tmp_path / "labels.nii.gz"), label_names=str(table)) for n in ("one", "two"))
    config = SynthesisConfig(out="x", subjects=people, grid=4.0, variation=Variation(untouched=1.0), findings=NONE)
    bodies = [make_body(config, person.name, number)[0].hu for person in people for number in (0, 1)]
    assert np.array_equal(bodies[0], bodies[1])
    assert not np.array_equal(bodies[0], bodies[2])


def test_lungs_stay_on_their_sides_and_in_one_piece_under_any_seed(body):
    from scipy import ndimage

    for seed in range(6):
        _, labels = deform(*body, np.random.default_rng(seed), grid=4.0)
        right, left = (np.nonzero(labels.ids == i)[2].mean() for i in (1, 2))
        assert right < left
        assert ndimage.label(labels.ids == 1)[1] == 1


def test_the_diaphragm_follows_inflation(body):
    def lowest(inflation):
        variation = Variation(
            bend=Range(0, 0),
            scale=Range(1, 1),
            shear=Range(0, 0),
            heart=Range(1, 1),
            fat=Range(0, 0),
            inflation=Range(inflation, inflation),
            untouched=0.0,
            stoop=Range(0, 0),
            shrug=Range(0, 0),
        )
        _, labels = deform(*body, np.random.default_rng(0), variation, grid=4.0)
        return np.nonzero(labels.ids == 1)[0].min() * 4.0 + labels.origin[2]

    assert lowest(16.0) < lowest(-16.0) - 16


def held(stoop, shrug):
    """A posture and nothing else."""
    still, none = Range(1.0, 1.0), Range(0.0, 0.0)
    posture = Range(stoop, stoop), Range(shrug, shrug)
    return Variation(still, none, none, Range(50.0, 50.0), none, still, none, 0.0, *posture)


def test_a_stoop_lowers_the_front_of_the_upper_chest_and_raises_the_back_a_little(body):
    def heights(stoop):
        _, labels = deform(*body, np.random.default_rng(0), held(stoop, 0.0), grid=4.0)
        z, y, x = np.nonzero(labels.ids == 1)
        front, back = y <= y.min() + 2, y >= y.max() - 2
        return [z[where & (x == 15)].max() * 4.0 + labels.origin[2] for where in (front, back)]

    straight, stooping = heights(0.0), heights(30.0)
    assert straight[0] - stooping[0] == pytest.approx(28, abs=8)
    assert stooping[1] - straight[1] == pytest.approx(7.5, abs=4)


def test_a_descent_lowers_the_domes_and_what_lies_on_them_and_leaves_rim_and_apices(body):
    def heights(descent):
        sinks = replace(held(0.0, 0.0), descent=Range(descent, descent))
        ct, labels = deform(*body, np.random.default_rng(0), sinks, grid=4.0)
        lung = labels.mask("lung_upper_lobe_right")
        side = np.flatnonzero(lung.any(axis=(0, 1)))[0]
        parts = labels.mask("heart"), lung[:, :, side : side + 2], lung[:, :, side + 12 : side + 20]
        return 4.0 * np.array([np.flatnonzero(part.any(axis=(1, 2)))[[0, -1]] for part in parts]) + ct.origin[2]

    sunk = heights(0.0) - heights(30.0)
    heart, rim, dome = sunk
    assert 4 < heart[0] < 30
    assert heart[0] > heart[1]
    assert rim == pytest.approx([0, 0], abs=4.1)
    assert dome[0] > 7
    assert dome[1] == pytest.approx(0, abs=4.1)


def test_a_shrug_raises_the_sides_and_leaves_the_middle(body):
    def heights(shrug):
        _, labels = deform(*body, np.random.default_rng(0), held(0.0, shrug), grid=4.0)
        z, _, x = np.nonzero(labels.ids == 1)
        return [z[where].max() * 4.0 + labels.origin[2] for where in (x <= x.min() + 1, x >= x.max() - 1)]

    level, raised = heights(0.0), heights(20.0)
    assert raised[0] - level[0] == pytest.approx(18, abs=6)
    assert raised[1] - level[1] == pytest.approx(0, abs=4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lungs_of_one_slice_make_a_body_as_well(body, axis):
    ids = body[1].ids.copy()
    lungs = np.isin(ids, (1, 2))
    kept = np.zeros_like(lungs)
    slices = [slice(None)] * 3
    slices[axis] = int(np.median(np.nonzero(lungs)[axis]))
    kept[tuple(slices)] = lungs[tuple(slices)]
    ids[lungs & ~kept] = 0
    labels = LabelMap(ids, body[1].members, body[1].spacing, body[1].origin)
    ct, moved = deform(body[0], labels, np.random.default_rng(0), grid=4.0)
    assert (moved.ids == 4).sum() > 0.4 * (ids == 4).sum()
    assert np.median(ct.hu[moved.ids == 4]) == pytest.approx(700, abs=30)


def test_a_body_does_not_end_where_its_scan_ends(body):
    ct, _ = deform(*body, np.random.default_rng(0), held(30.0, 0.0), grid=4.0)
    assert (ct.hu[-1] > -300).all()
    assert (ct.hu[0] > -300).all()


def test_a_painted_body_has_air_in_lungs_bone_in_bones_and_skin_outside_the_labels(body):
    labels = body[1]
    ct = paint(labels, seed=0)
    deep = np.zeros(labels.ids.shape, bool)
    deep[24:50, 14:36, 10:25] = True
    assert np.median(ct.hu[deep]) < -700
    assert np.median(ct.hu[labels.ids == 4]) > 150
    assert 0 < np.median(ct.hu[labels.ids == 3]) < 100
    assert (ct.hu[labels.ids == 0] > -300).sum() > 1000
    assert np.array_equal(paint(labels, seed=0).hu, ct.hu)


def test_an_empty_label_map_cannot_be_painted(body):
    empty = LabelMap(np.zeros((5, 5, 5), np.uint8), {1: ("heart",)}, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    with pytest.raises(ChexanatomyError, match="empty"):
        paint(empty)


def test_no_deformation_folds_however_strong(body):
    """The determinant of the whole map's Jacobian, by differences between neighbouring points of a grid finer than its cells."""
    from scipy import ndimage

    from training.synthesis.deform import SMALLEST_JACOBIAN, draw_displacement, extents

    variation = Variation(
        bend=Range(60.0, 60.0), reach=Range(40.0, 40.0), inflation=Range(-45, -45), heart=Range(1.5, 1.5), fat=Range(30, 30)
    )
    boxes = extents(body[1], ("lungs", "heart"))
    extent, centre = np.array([280.0, 200.0, 240.0]), np.asarray(body[0].centre)
    for seed in range(4):
        moved = draw_displacement(boxes, np.random.default_rng(seed), variation, np.ones(3), centre, extent, 30.0)
        assert np.abs(moved.field).max() > 20
        assert moved.smallest_jacobian() >= SMALLEST_JACOBIAN
        fine = 4.0
        steps = [int(n * s / fine) for n, s in zip(moved.field.shape[:3], moved.step[::-1], strict=True)]
        at = np.stack(np.meshgrid(*(np.arange(n) * fine for n in steps), indexing="ij"))
        index = at / moved.step[::-1].reshape(3, 1, 1, 1)
        old = [at[2 - c] + ndimage.map_coordinates(moved.field[..., c], index, order=1, mode="nearest") for c in range(3)]
        gradients = [[np.diff(o, axis=a)[: steps[0] - 1, : steps[1] - 1, : steps[2] - 1] / fine for a in (2, 1, 0)] for o in old]
        assert np.linalg.det(np.moveaxis(np.array(gradients), (0, 1), (-2, -1))).min() > 0


def test_fat_makes_the_wall_thicker_and_leaves_the_lungs(body):
    def widths(fat):
        still, none = Range(1.0, 1.0), Range(0.0, 0.0)
        variation = Variation(still, none, none, Range(50.0, 50.0), none, still, Range(fat, fat), 0.0, none, none)
        ct, labels = deform(*body, np.random.default_rng(0), variation, grid=4.0)
        middle = tuple(n // 2 for n in ct.shape[:2])
        lungs = np.flatnonzero(np.isin(labels.ids[middle], (1, 2)))
        return np.ptp(lungs), np.ptp(np.flatnonzero(ct.hu[middle] > -300))

    thin, stout = widths(0.0), widths(16.0)
    assert abs(stout[0] - thin[0]) <= 1
    assert stout[1] >= thin[1] + 2


def test_paintings_of_one_label_map_differ_in_tissue():
    ids = np.zeros((40, 60, 60), np.uint8)
    ids[5:35, 10:50, 10:28], ids[5:35, 10:50, 32:50], ids[10:25, 20:40, 26:34] = 1, 1, 2
    ids[5:35, 50:55, 26:34] = 3
    names = {1: ("lung_upper_lobe_left",), 2: ("aorta",), 3: ("rib_left_5",)}
    labels = LabelMap(ids, names, (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    blood = [float(np.median(paint(labels, seed).hu[ids == 2])) for seed in range(8)]
    assert max(blood) > 100
    assert min(blood) < 70
    rib = paint(labels, 0).hu[ids == 3].reshape(30, 5, 8)
    assert rib[5:25, 2, 2:6].mean() < rib[5:25, 0, 2:6].mean()


def test_every_body_of_a_phantom_has_its_clavicles_elsewhere_and_is_else_the_same():
    changes = held(0.0, 0.0)
    still = SynthesisConfig(out="x", phantoms=1, grid=4.0, variation=changes, findings=NONE)
    moved = replace(still, variation=replace(changes, clavicles=Range(-24.0, 24.0)))

    def clavicles(config, number):
        return make_body(config, "phantom-00000", number)[1].mask("clavicula_left", "clavicula_right")

    first, second, usual, again = clavicles(moved, 0), clavicles(moved, 1), clavicles(still, 0), clavicles(still, 1)
    assert np.array_equal(usual, again)
    assert np.array_equal(first, clavicles(moved, 0))
    up = clavicles(replace(still, variation=replace(changes, clavicles=Range(20.0, 20.0))), 0)
    for one, other in ((first, second), (first, usual), (second, usual), (up, usual)):
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) < 0.9


def test_people_get_other_clavicles_on_demand_in_every_body_others(tmp_path):
    ct, labels = thorax(3, 6.0, draw(3, NONE))
    files = {"ct": str(tmp_path / "ct.nii.gz"), "labels": str(tmp_path / "labels.nii.gz")}
    write_ct_nifti(ct, files["ct"])
    files["label_names"] = str(write_labels_nifti(labels, files["labels"]))
    usual = SynthesisConfig(out="x", subjects=(Subject("one", **files),), grid=6.0, variation=held(0.0, 0.0), findings=NONE)
    others = replace(usual, variation=replace(usual.variation, others_clavicles=1.0, clavicles=Range(-24.0, 24.0)))
    same, first, second, again = (make_body(c, "one", n) for c, n in ((usual, 0), (others, 0), (others, 1), (others, 0)))
    assert "clavicles exchanged" in first[2]
    assert "exchanged" not in same[2]
    masks = [labels.mask("clavicula_left", "clavicula_right") for _, labels, _ in (first, second, again)]
    assert np.array_equal(masks[0], masks[2])
    assert 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum()) < 0.7
    assert len(first[0].hu) > len(same[0].hu)


def test_hearts_of_people_lose_their_vessels_on_demand_and_the_picture_stays(tmp_path):
    ct, labels = thorax(3, 4.0, draw(3, NONE))
    z, y, x = np.nonzero(labels.mask("heart"))
    ids = labels.ids.copy()
    ids[z.max() : z.max() + 15, int(y.mean()) - 2 : int(y.mean()) + 3, int(x.mean()) - 2 : int(x.mean()) + 3] = ids[
        z[0], y[0], x[0]
    ]
    files = {"ct": str(tmp_path / "ct.nii.gz"), "labels": str(tmp_path / "labels.nii.gz")}
    write_ct_nifti(ct, files["ct"])
    files["label_names"] = str(write_labels_nifti(replace(labels, ids=ids), files["labels"]))
    still = replace(held(0.0, 0.0), untouched=1.0)
    usual = SynthesisConfig(out="x", subjects=(Subject("one", **files),), grid=4.0, variation=still, findings=NONE)
    whole, bare = (make_body(c, "one", 0) for c in (usual, replace(usual, great_vessels=44.0)))
    assert np.array_equal(whole[0].hu, bare[0].hu)
    hearts = [labels.mask("heart") for _, labels, _ in (whole, bare)]
    assert 0.6 < (hearts[0] & hearts[1]).sum() / hearts[0].sum() < 0.96
    assert not (hearts[1] & ~hearts[0]).any()
    assert np.array_equal(whole[1].mask("liver"), bare[1].mask("liver"))
    assert "great_vessels" not in json.loads(usual.to_json())
    assert json.loads(replace(usual, great_vessels=44.0).to_json())["great_vessels"] == 44.0
