"""Keeping synthetic cases: storage a person can look through, review decisions, suspicion and exchange layouts."""

from training.dataset.case import Case
from training.dataset.layouts import export_folders, export_webdataset, import_folders
from training.dataset.reviews import Reviews
from training.dataset.store import Dataset
from training.dataset.suspicion import Suspicion, suspicion

__all__ = ["Case", "Dataset", "Reviews", "Suspicion", "export_folders", "export_webdataset", "import_folders", "suspicion"]
