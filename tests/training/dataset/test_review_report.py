import csv
import json
import re

import numpy as np
import pytest

from training.dataset import Reviews, judge
from training.dataset.review_report import COLUMNS, entries, write_csv, write_html, write_report
from training.errors import ChexanatomyError

EVIL = "<script>alert('x')</script> & more"


@pytest.fixture
def reviewed(dataset):
    one, two = Reviews(dataset.folder, "anna"), Reviews(dataset.folder, "<b>ben</b>")
    one.decide("someone-00001", "heart", "reject", EVIL)
    two.decide("someone-00001", "heart", "accept")
    one.decide("someone-00002", "", "flag", "=HYPERLINK(1)")
    mask = np.zeros((120, 100), bool)
    mask[40:60, 40:60] = True
    one.correct("someone-00003", "heart", mask)
    return dataset


def test_the_table_holds_every_decision(reviewed, tmp_path):
    write_csv(entries(reviewed, judge(reviewed)), tmp_path / "review.csv")
    with (tmp_path / "review.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    said = {(r["case"], r["structure"], r["reviewer"]): r for r in rows if r["reviewer"]}
    assert len(said) == 4
    rejected = said["someone-00001", "heart", "anna"]
    assert (rejected["verdict"], rejected["comment"], rejected["in_use"]) == ("reject", EVIL, "no")
    assert said["someone-00002", "(whole case)", "anna"]["comment"] == "'=HYPERLINK(1)"
    assert said["someone-00003", "heart", "anna"]["repaired"] == "yes"


def test_the_report_stands_alone_and_escapes_what_people_wrote(reviewed, tmp_path):
    write_html(reviewed, queue := judge(reviewed), entries(reviewed, queue), tmp_path / "review.html")
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<b>ben" not in page
    assert "&lt;script&gt;" in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) >= 3
    assert all(s.startswith("data:image/jpeg;base64,") for s in sources)
    assert not re.search(r"https?://|<link|@import", page)
    for words in ("Rejected: 1", "Flagged: 1", "Repaired: 1", "Cohen", "20 cases, 59 masks"):
        assert words in page


def test_both_files_are_written_side_by_side(reviewed, tmp_path):
    written = write_report(reviewed.folder, tmp_path / "out.html")
    assert [p.name for p in written] == ["out.html", "out.csv"]
    assert all(p.stat().st_size for p in written)


def test_a_place_that_cannot_be_written_to_is_said(reviewed, tmp_path):
    with pytest.raises(ChexanatomyError, match="cannot be written"):
        write_report(reviewed.folder, tmp_path / "nowhere" / "out.html")


def test_a_damaged_mask_does_not_stop_the_report(reviewed, tmp_path):
    path = reviewed.folder / "masks" / "someone-00001.json"
    masks = json.loads(path.read_text())
    masks["heart"]["counts"] = masks["heart"]["counts"][:-1]
    path.write_text(json.dumps(masks))
    write_report(reviewed.folder, tmp_path / "out.html")
    assert "someone-00001" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_the_report_is_of_today(reviewed, tmp_path):
    wrong = np.zeros((120, 100), bool)
    wrong[2:30, 2:8] = True
    reviewed.reviews.correct("someone-00005", "heart", wrong)
    before = judge(reviewed).key
    assert "someone-00005" in write_report(reviewed.folder, tmp_path / "out.html")[1].read_text()
    reviewed.reviews.undo()
    assert "someone-00005" not in write_report(reviewed.folder, tmp_path / "out.html")[1].read_text()
    assert judge(reviewed).key != before
