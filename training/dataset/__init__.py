"""Keeping synthetic cases: storage a person can look through, review decisions, suspicion and exchange layouts."""

from training.dataset.agreement import Agreement, agreements
from training.dataset.case import Case
from training.dataset.layouts import export_coco, export_dicom, export_folders, export_webdataset, import_folders
from training.dataset.reviews import Decision, Reviews
from training.dataset.store import Dataset
from training.dataset.suspicion import Queue, Suspicion, judge, suspicion
from training.dataset.thumbnails import Thumbnails

__all__ = [
    "Agreement",
    "Case",
    "Dataset",
    "Decision",
    "Queue",
    "Reviews",
    "Suspicion",
    "Thumbnails",
    "agreements",
    "export_coco",
    "export_dicom",
    "export_folders",
    "export_webdataset",
    "import_folders",
    "judge",
    "suspicion",
]
