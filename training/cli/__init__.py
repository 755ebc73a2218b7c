"""The `chexanatomy` command: everything the desk's buttons do, from a terminal."""

from training.cli.entry import main

__all__ = ["main"]
