"""The desk: Qt and napari live here and nowhere else. It shows and asks; `training` computes."""

from napari_chexanatomy.memory import settle
from training import __version__

__all__ = ["__version__"]

settle()  # before there is much that lies in the way
