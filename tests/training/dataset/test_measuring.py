import numpy as np
import pytest

from training.dataset import Dataset, judge
from training.dataset.measuring import MEASURES, measure_all
from training.errors import Cancelled

from .thorax import make


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("measured") / "data", 40).folder


def measured(folder, **options):
    """Records, and how many cases had to be measured."""
    seen = []
    result = measure_all(Dataset.open(folder), lambda report: seen.append(report.done), **options)
    return result, len(seen) - 1 if seen else 0


def test_only_what_changed_is_measured_again(folder):
    first, count = measured(folder)
    assert count == 40
    again, count = measured(folder)
    assert count == 0
    assert again.records.tobytes() == first.records.tobytes()
    path = folder / "masks" / "case-007.json"
    path.write_text(path.read_text() + "\n")
    Dataset.open(folder).reviews.correct("case-011", "heart", np.ones((96, 104), bool))
    changed, count = measured(folder)
    assert count == 2
    heart = changed.structures.index("heart")
    areas = changed.records["area"][changed.records["structure"] == heart]
    assert (areas == 1).sum() == 1


def test_two_processes_measure_the_same_as_one(folder):
    (folder / "cache" / MEASURES).unlink(missing_ok=True)
    two, _ = measured(folder, workers=2)
    (folder / "cache" / MEASURES).unlink()
    one, _ = measured(folder)
    assert two.structures == one.structures
    assert two.records.tobytes() == one.records.tobytes()


def test_what_was_measured_before_a_cancel_is_kept(folder):
    (folder / "cache" / MEASURES).unlink(missing_ok=True)

    def stop(report):
        if report.done == 15:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        measure_all(Dataset.open(folder), stop)
    _, count = measured(folder)
    assert count == 25


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half"])
def test_a_damaged_cache_is_made_anew(folder, content):
    (folder / "cache").mkdir(exist_ok=True)
    (folder / "cache" / MEASURES).write_bytes(content)
    _, count = measured(folder)
    assert count == 40


def test_a_data_set_that_takes_no_cache_is_judged_all_the_same(folder, tmp_path):
    made = make(tmp_path / "data", 3)
    (made.folder / "cache").write_text("in the way")
    assert len(judge(made)) == len(judge(made)) > 0


def test_an_empty_data_set_has_an_empty_queue(tmp_path):
    queue = judge(Dataset.create(tmp_path / "data"))
    assert len(queue) == 0
    assert queue.cases() == queue.most_suspicious() == queue.of("nobody") == []
