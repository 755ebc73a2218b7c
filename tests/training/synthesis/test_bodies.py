import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.images import CT, LabelMap
from training.synthesis import Range, Variation, deform, paint


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
    still = Range(1.0, 1.0)
    none = Range(0.0, 0.0)
    variation = Variation(still, none, none, Range(50.0, 50.0), none, still, none, 0.0)
    ct, labels = deform(*body, np.random.default_rng(0), variation, grid=4.0)
    assert (labels.ids == body[1].ids).mean() > 0.999
    np.testing.assert_allclose(ct.origin, body[0].origin, atol=1e-9)


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
        )
        _, labels = deform(*body, np.random.default_rng(0), variation, grid=4.0)
        return np.nonzero(labels.ids == 1)[0].min() * 4.0 + labels.origin[2]

    assert lowest(16.0) < lowest(-16.0) - 16


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
