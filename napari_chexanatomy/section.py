"""A group of controls that folds up, so that the widget fits a small screen."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QSizePolicy, QToolButton, QVBoxLayout, QWidget


class Section(QFrame):
    """A heading to click on, and below it whatever is added to `body`."""

    def __init__(self, title: str, tip: str, unfolded: bool = True) -> None:
        """`tip` says what is inside, for the pointer on the heading."""
        super().__init__()
        self.heading = QToolButton()
        self.heading.setText(title)
        self.heading.setToolTip(f"{tip} Click to fold or unfold.")
        self.heading.setCheckable(True)
        self.heading.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.heading.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.heading.setStyleSheet("QToolButton { border: none; font-weight: bold; text-align: left; padding: 3px 2px; }")
        self.inside = QWidget()
        self.body = QVBoxLayout(self.inside)
        self.body.setContentsMargins(10, 0, 0, 4)
        self.body.setSpacing(3)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.heading)
        layout.addWidget(self.inside)
        self.heading.toggled.connect(self._fold)
        self.heading.setChecked(unfolded)
        self._fold(unfolded)

    def _fold(self, unfolded: bool) -> None:
        self.inside.setVisible(unfolded)
        self.heading.setArrowType(Qt.ArrowType.DownArrow if unfolded else Qt.ArrowType.RightArrow)

    def unfold(self, unfolded: bool = True) -> None:
        """Fold or unfold."""
        self.heading.setChecked(unfolded)
