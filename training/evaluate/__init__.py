"""How well masks agree with references: metrics, baselines, and reports that set models side by side."""

from training.evaluate.agreement import Agreement, agree, overlap_map, read_references
from training.evaluate.baseline import MeanMask
from training.evaluate.comparison import compare, evaluate
from training.evaluate.measurements import Cardiothoracic, LungAreas, cardiothoracic, lung_areas
from training.evaluate.metrics import dice, hd95, iou
from training.evaluate.report import Report, write_report
from training.evaluate.sources import Scored, chosen, from_dataset, from_folders, pairs

__all__ = [
    "Agreement",
    "Cardiothoracic",
    "LungAreas",
    "MeanMask",
    "Report",
    "Scored",
    "agree",
    "cardiothoracic",
    "chosen",
    "compare",
    "dice",
    "evaluate",
    "from_dataset",
    "from_folders",
    "hd95",
    "iou",
    "lung_areas",
    "overlap_map",
    "pairs",
    "read_references",
    "write_report",
]
