"""Making cases: bodies painted, deformed and projected under many poses."""

from training.synthesis.config import Exposure, Film, Marks, Range, Subject, SynthesisConfig, Variation, Views
from training.synthesis.deform import deform
from training.synthesis.paint import paint
from training.synthesis.run import synthesize

__all__ = [
    "Exposure",
    "Film",
    "Marks",
    "Range",
    "Subject",
    "SynthesisConfig",
    "Variation",
    "Views",
    "deform",
    "paint",
    "synthesize",
]
