"""What stands around the patient, as one mesh in a frame of its own: tube, central ray, outline of the beam, detector.

The frame of the machine has its origin at the focal spot and the axes (beam, down, right) in the place of (z, y, x): a pose only
turns and moves it, which costs napari far less than new triangles.
"""

from __future__ import annotations

import numpy as np

from napari_chexanatomy.patient_mesh import Mesh, lit
from training.drr import Geometry

TUBE_COLOUR = (0.62, 0.70, 0.78, 1.0)
BEAM_COLOUR = (0.95, 0.62, 0.15, 1.0)
RAY_COLOUR = (0.95, 0.35, 0.20, 1.0)
IMPOSSIBLE_COLOUR = (0.85, 0.10, 0.10, 1.0)
HOUSING_RADIUS, HOUSING_LENGTH = 70.0, 330.0
COLLIMATOR = (120.0, 110.0, 110.0)
"""Edges of the box before the tube along beam, rows and columns [mm]."""
LINE, FRAME, RAY = 4.0, 8.0, 6.0
"""Thickness of the beam's edges, the detector's frame and the central ray [mm]."""
SIDES = 20
_BOX_SIDES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
_BOX_FACES = np.array([triangle for a, b, c, d in _BOX_SIDES for triangle in ((a, b, c), (a, c, d))])
WHITE_ROWS = 4
CORNERS = np.array([[1, -0.5, -0.5], [1, 0.5, -0.5], [1, 0.5, 0.5], [1, -0.5, 0.5]])
"""Of the detector in parts of its distance, height and width: upper left, lower left, lower right, upper right."""


TILT = np.array([[2, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3
"""Rotation in which the meshes are kept: napari cannot bear a layer with two axes exchanged, as PA and lateral would ask for."""


def size(geometry: Geometry) -> np.ndarray:
    """Distance, height and width of the detector, float [3] in mm: what the shape of the machine depends on."""
    return np.array([geometry.sdd, geometry.rows * geometry.spacing[0], geometry.columns * geometry.spacing[1]])


def world_from_machine(geometry: Geometry) -> np.ndarray:
    """Homogeneous 4x4 matrix from the machine's frame to the patient's (z, y, x) [mm, LPS]."""
    right, down = geometry.axes
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([geometry.beam, down, right], axis=1)[::-1]
    matrix[:3, 3] = geometry.source[::-1]
    return matrix


def tilted(mesh: Mesh) -> Mesh:
    """A mesh as it is kept in a layer; see TILT."""
    return Mesh((mesh.vertices @ TILT.T).astype(np.float32), mesh.faces, mesh.colours)


def layer_affine(matrix: np.ndarray) -> np.ndarray:
    """The 4x4 affine of a layer that keeps its mesh tilted."""
    turned = matrix.copy()
    turned[:3, :3] = matrix[:3, :3] @ TILT.T
    return turned


def machine(shape: np.ndarray, possible: bool = True) -> Mesh:
    """Tube, rays and frame for a `size`, red for a pose from which no radiograph can be taken; last come the face's CORNERS."""
    corners = CORNERS * shape
    focus = np.zeros(3)
    parts = [_cylinder(TUBE_COLOUR), _box(np.array([COLLIMATOR[0] / 2, 0, 0]), np.diag(COLLIMATOR) / 2, TUBE_COLOUR)]
    parts += [_bar(focus, corner, LINE, BEAM_COLOUR) for corner in corners]
    parts += [_bar(corners[i], corners[(i + 1) % 4], FRAME, BEAM_COLOUR) for i in range(4)]
    parts.append(_bar(focus, np.array([shape[0], 0, 0]), RAY, RAY_COLOUR))
    mesh = Mesh.joined(parts)
    if not possible:
        mesh.colours[:] = IMPOSSIBLE_COLOUR
    face = Mesh(corners.astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.ones((4, 4), np.float32))
    return Mesh.joined([mesh, face])


def texture(picture: np.ndarray) -> np.ndarray:
    """A picture float32 [row, column, RGB] with WHITE_ROWS below it, from which all but the detector's face takes its colour."""
    return np.concatenate([picture, np.ones((WHITE_ROWS, *picture.shape[1:]), np.float32)])


def texture_places(vertices: int, rows: int) -> np.ndarray:
    """Where each vertex of a machine lies in the texture of a picture of so many rows, float32 [n, 2] (right, up) in 0..1."""
    lower = WHITE_ROWS / (rows + WHITE_ROWS)
    places = np.full((vertices, 2), (0.5, lower / 2), np.float32)
    places[-4:] = (0, 1), (0, lower), (1, lower), (1, 1)
    return places


def _faceted(points: np.ndarray, faces: np.ndarray, colour: tuple[float, ...]) -> Mesh:
    """Every triangle with corners of its own, so that edges stay sharp."""
    triangles = points[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    vertices = triangles.reshape(-1, 3).astype(np.float32)
    return Mesh(vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3), lit(np.repeat(normals, 3, axis=0), colour))


def _box(centre: np.ndarray, halves: np.ndarray, colour: tuple[float, ...]) -> Mesh:
    """halves: vectors from the middle to three faces, float [3, 3]."""
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    return _faceted(centre + signs @ halves, _BOX_FACES, colour)


def _bar(start: np.ndarray, end: np.ndarray, thickness: float, colour: tuple[float, ...]) -> Mesh:
    """A thin bar: unlike a line it has a thickness in mm from every side. It is not shaded."""
    along = end - start
    away = np.eye(3)[int(np.argmin(np.abs(along)))]
    across = np.cross(along, away)
    across *= thickness / 2 / np.linalg.norm(across)
    other = np.cross(along, across)
    other *= thickness / 2 / np.linalg.norm(other)
    mesh = _box((start + end) / 2, np.stack([along / 2, across, other]), colour)
    return Mesh(mesh.vertices, mesh.faces, np.tile(np.array(colour, np.float32), (len(mesh.vertices), 1)))


def _cylinder(colour: tuple[float, ...]) -> Mesh:
    """The tube's housing: it lies along the picture's rows, the focal spot in its middle."""
    turn = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    ring = HOUSING_RADIUS * np.stack([np.cos(turn), np.sin(turn), np.zeros(SIDES)], axis=1)
    half = np.array([0, 0, HOUSING_LENGTH / 2])
    points = np.concatenate([ring - half, ring + half, [-half, half]])
    here, there = np.arange(SIDES), (np.arange(SIDES) + 1) % SIDES
    left, right = np.full(SIDES, 2 * SIDES), np.full(SIDES, 2 * SIDES + 1)
    mantle = [(here, there, here + SIDES), (there, there + SIDES, here + SIDES)]
    caps = [(left, there, here), (right, here + SIDES, there + SIDES)]
    return _faceted(points, np.concatenate([np.stack(triangle, axis=1) for triangle in (*mantle, *caps)]), colour)
