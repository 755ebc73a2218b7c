"""The desk: Qt and napari live here and nowhere else. It shows and asks; `training` computes."""

from training import __version__

__all__ = ["__version__"]
