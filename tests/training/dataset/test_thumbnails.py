import io

import numpy as np
from PIL import Image

from training.dataset import Dataset, Thumbnails
from training.dataset.thumbnails import EDGE, shrink
from training.images import Radiograph, write_radiograph_png


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_thumbnail_is_made_once_and_again_when_the_picture_changes(dataset):
    case = dataset.cases[3]
    thumbnails = Thumbnails(dataset)
    assert thumbnails.stored([case]) == {}
    first = thumbnails.get(case)
    assert max(opened(first).shape) == EDGE
    assert Thumbnails(Dataset.open(dataset.folder)).stored(dataset.cases) == {case.id: first}
    write_radiograph_png(Radiograph(np.ones((120, 100), np.float32)), dataset.folder / case.image)
    assert thumbnails.stored([case]) == {}
    assert opened(thumbnails.get(case)).min() > 250


def test_a_folder_that_takes_no_file_still_has_thumbnails(dataset):
    (dataset.folder / "cache").write_text("in the way")
    thumbnails = Thumbnails(dataset)
    assert thumbnails.get(dataset.cases[0])
    assert thumbnails.stored(dataset.cases) == {}


def test_shrinking_keeps_the_proportions_and_the_mean():
    pixels = np.linspace(0, 1, 400 * 300, dtype=np.float32).reshape(400, 300)
    small = shrink(pixels)
    assert small.shape == (128, 96)
    assert abs(small.mean() / 255 - pixels.mean()) < 0.01
