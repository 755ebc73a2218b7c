"""The corpus through the window: what is refused is one notification with the Python call's sentence, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_chexanatomy import readers
from tests.corpus import entries, write
from training.errors import ChexanatomyError
from training.images import read_any
from training.images.any_file import series_of
from training.images.types import CT
from training.plain import inert

OPENED = [entry for entry in entries() if entry.refused and entry.kind in ("ct", "radiograph", "labels")]


def test_every_refused_file_is_one_notification_and_no_layer(
    tmp_path: Path, make_napari_viewer: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    from napari.utils.notifications import notification_manager

    viewer = make_napari_viewer()
    messages: list[tuple[str, str]] = []

    def listen(notification: Any) -> None:
        messages.append((str(notification.severity), notification.message))

    notification_manager.notification_ready.connect(listen)
    refused = 0
    try:
        for entry in OPENED:
            path = write(entry, tmp_path)
            cts = (
                tuple(one for one in read_any(path.with_name("ct.nii.gz")) if isinstance(one, CT))
                if entry.kind == "labels"
                else ()
            )
            try:
                read_any(path, cts)
            except ChexanatomyError as error:
                sentence = str(error)
            else:
                continue  # opened as what it is, such as a label map that was given as a CT
            if series_of(path):
                continue  # one slice opens its whole series in the window
            refused += 1
            messages.clear()
            readers._just_opened.clear()
            monkey = readers._open_cts
            readers._open_cts = lambda _, cts=cts: cts  # the CT it belongs to is open
            try:
                layers = readers.read_layers(str(path))
            finally:
                readers._open_cts = monkey
            assert layers == readers.NOTHING, entry.name
            assert messages == [("error", inert(sentence))], entry.name
            assert len(viewer.layers) == 0
    finally:
        notification_manager.notification_ready.disconnect(listen)
    assert refused >= 40
    assert "Traceback" not in capfd.readouterr().err


def test_a_message_is_shown_as_it_stands(make_napari_viewer: Callable[..., Any]) -> None:
    from qtpy.QtCore import Qt

    from napari_chexanatomy.desk import DeskWidget, _no_format
    from napari_chexanatomy.jobs import attempt

    widget = DeskWidget(make_napari_viewer())
    widget.complain("<b>100 %p</b> {0}")
    assert widget.message.textFormat() == Qt.TextFormat.PlainText
    assert widget.message.text() == "<b>100 %p</b> {0}"
    widget.progress_bar.setFormat(_no_format("Opening 50%p.nii"))
    widget.progress_bar.setRange(0, 10)
    widget.progress_bar.setValue(3)
    assert "50\u2052p" in widget.progress_bar.text()
    assert attempt(lambda: 1).value == 1
