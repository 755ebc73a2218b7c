"""What the desk's tests share: a small thorax, its radiograph, the window, and the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.model
from training.drr import Geometry, project_labels, render
from training.images.types import CT, LabelMap, Radiograph

WAIT = 60_000
"""How long a job may take on a busy machine before a test gives up [ms]."""
TAUGHT = ("lung_left", "lung_right", "heart")


@pytest.fixture(scope="session")
def body() -> tuple[CT, LabelMap]:
    from training.phantom import thorax

    return thorax(seed=0, spacing=4.0)


@pytest.fixture(scope="session")
def pose(body: tuple[CT, LabelMap]) -> Geometry:
    return Geometry.pa(body[0], rows=128, columns=128)


@pytest.fixture(scope="session")
def radiograph(body: tuple[CT, LabelMap], pose: Geometry) -> Radiograph:
    return render(body[0], pose)


@pytest.fixture(scope="session")
def masks(body: tuple[CT, LabelMap], pose: Geometry) -> dict[str, np.ndarray]:
    return project_labels(body[1], pose, TAUGHT)


@pytest.fixture
def add() -> Callable[..., Any]:
    """Add layer data to a viewer as napari does, and return the layer."""
    from napari.layers import Layer

    return lambda viewer, data: viewer.add_layer(Layer.create(*data))


@pytest.fixture(scope="session")
def model_spec() -> str:
    """The embedded model, or another one named in the environment."""
    spec = os.environ.get("CHEXANATOMY_TEST_MODEL", "embedded")
    if spec == "embedded" and not (Path(training.model.__file__).parent / "chexanatomy_tiny" / "config.json").is_file():
        pytest.skip("this checkout carries no embedded model")
    return spec


@pytest.fixture
def predict_desk(make_napari_viewer: Any, qtbot: Any, model_spec: str) -> Any:
    """The Predict widget in a window, with a `wait` until it has nothing to do."""
    from napari_chexanatomy.predict import PredictWidget

    viewer = make_napari_viewer()
    widget: Any = PredictWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Predict")
    if model_spec != "embedded":
        widget.model.use(model_spec)
    widget.wait = lambda: qtbot.waitUntil(lambda: not widget.busy, timeout=WAIT)
    return widget
