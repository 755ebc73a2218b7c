"""A button: what stands on it, what it is for, and what it does."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton


def push_button(text: str, tip: str, slot: object) -> QPushButton:
    """Return a button; `tip` is shown at the pointer, `slot` is called when it is pressed."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(slot)
    return button
