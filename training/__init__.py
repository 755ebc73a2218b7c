"""Training core of CheXanatomy: from CT volumes to radiographs, masks as tokens, and models that write them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-chexanatomy")
except PackageNotFoundError:
    __version__ = "0+source"
