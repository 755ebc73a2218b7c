"""Mediastinum: heart with chambers, great vessels, airways, oesophagus, and the fat around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from training.phantom.canvas import Canvas
from training.phantom.lungs import BLOOD, FAT
from training.phantom.scaffold import Scaffold, Side
from training.phantom.shapes import FAR, Shape, curve, ellipsoid, rotation, stretched, tube, union

HEART = 45.0
TRACHEAL_AIR = -980.0
HEART_FLOOR, HEART_TOP = 106.0, 8.0
"""How far the reference heart's lower and upper face lie under T6 [mm]."""
HEART_DEPTH = 13.0
"""How far the heart presses into the diaphragm [mm]."""
TETHER = 0.25
"""How far its upper face, which hangs on the great vessels, follows the lower one, that lies on the diaphragm."""
ROOTS = -40.0
"""Where the great vessels come out of the reference heart [mm]."""


class Mediastinum:
    """Shapes of the mediastinal organs of one person, ready to paint."""

    def __init__(self, canvas: Canvas, scaffold: Scaffold) -> None:
        self.canvas, self.scaffold = canvas, scaffold
        self.vessels: dict[str, Shape] = {}
        self._place_heart()
        self._place_vessels()
        self._place_airways()

    def _pipe(self, points: Sequence[Sequence[float]], radii: ArrayLike, count: int = 30) -> Shape:
        """Return a tube through reference points; radii [mm] are given at these points or as one number."""
        k = self.scaffold.size
        r = np.broadcast_to(np.asarray(radii, dtype=float), len(points))
        line = curve([[*self.scaffold.place(x, y, z), radius * k] for (x, y, z), radius in zip(points, r, strict=True)], count)
        return tube(self.canvas.grid, line[:, :3], np.maximum(line[:, 3], 1.0), margin=14)

    def _of_lungs(self, shapes: dict[Side, Shape]) -> list[Shape]:
        """Return the shapes of those lungs that are there."""
        return [shape for side, shape in shapes.items() if not self.scaffold.lung_is_missing(side)]

    def _place_heart(self) -> None:
        p, k = self.scaffold.parameters, self.scaffold.size
        under = self.scaffold.diaphragm(np.array([[5.0, 30.0, 50.0]]) * k, np.array([[-95.0]]) * k)
        self.floor_lift = float(under.mean()) / k + HEART_FLOOR - HEART_DEPTH
        turn = rotation("y", p.heart_turn)
        long_axis = rotation("z", -30) @ rotation("y", 28)
        chambers = {
            "heart_atrium_right": ((-24, -82, -52), (24, 31, 40), np.eye(3)),
            "heart_ventricle_right": ((18, -116, -70), (46, 30, 36), rotation("y", 20).T),
            "heart_atrium_left": ((8, -52, -40), (37, 23, 29), np.eye(3)),
            "heart_ventricle_left": ((46, -84, -67), (54, 35, 38), long_axis.T),
        }
        shoulder = ((37, -82, -42), (22, 26, 34), rotation("y", -28).T)
        outflow = ((20, -108, -38), (21, 19, 30), rotation("y", -12).T)
        pivot = np.array([-4, -75, -45])
        f = p.heart_size
        self.chambers = {}

        def placed(name: str, centre: tuple[int, ...], radii: tuple[int, ...], axes: np.ndarray) -> Shape:
            moved = pivot + turn @ (np.array(centre) - pivot) * f
            moved += np.array([p.heart_shift, 0, self.lift(moved[2])])
            form = stretched(np.array(radii) * f * k, axes @ turn.T, 1 + self.lift(0.5) - self.lift(-0.5))
            shape = ellipsoid(self.canvas.grid, self.scaffold.place(*moved), *form, margin=26)
            return Shape(shape.box, shape.distance + self.canvas.waves(shape.box, name, 1.2 * k))

        for name, form in chambers.items():
            self.chambers[name] = placed(name, *form)
        left = self.chambers["heart_ventricle_left"]
        self.chambers["heart_ventricle_left"] = union(left, placed("shoulder", *shoulder), blend=10 * k)
        right = self.chambers["heart_ventricle_right"]
        self.chambers["heart_ventricle_right"] = union(right, placed("outflow", *outflow), blend=10 * k)
        self.heart = union(*self.chambers.values(), blend=22 * k)

    def lift(self, z: float) -> float:
        """Return how far up what lies at a height of the reference heart moves [mm]: it is stretched as the diaphragm sinks."""
        return self.floor_lift * (1 - (1 - TETHER) * (z + HEART_FLOOR) / (HEART_FLOOR - HEART_TOP))

    def _place_vessels(self) -> None:
        p = self.scaffold.parameters
        u, w, h = p.aorta_unfolding, p.aorta_width, self.lift(ROOTS)
        left = p.heart_shift
        arch = [(4 + left, -84, -38 + h), (-10 - 0.3 * u, -90, -4), (-9 - 0.3 * u, -84, 18), (5, -66, 33 + 0.5 * u)]
        arch += [(22 + 0.7 * u, -40, 33 + 0.5 * u), (28 + 0.8 * u, -17, 12), (26 + 0.6 * u, -8, -22), (23 + 0.4 * u, -6, -80)]
        arch += [(15, -17, -140), (8, -35, -200), (4, -50, -262)]
        self.vessels["aorta"] = self._pipe(arch, np.array([16, 17, 16.5, 14.5, 13.5, 13, 12.5, 12, 11, 10, 9]) * w, 80)
        trunk = self._pipe([(14 + left, -102, -38 + h), (24 + left, -86, -18), (24 + left, -62, -6)], [14, 15, 13.5])
        branches: dict[Side, Shape] = {
            "left": self._pipe([(22 + left, -62, -6), (36, -42, -6), (47, -32, -20)], [12, 10, 8]),
            "right": self._pipe([(20 + left, -62, -8), (-10, -52, -14), (-36, -44, -18), (-48, -38, -30)], [11, 10, 9, 7]),
        }
        self.vessels["pulmonary_artery"] = union(trunk, *self._of_lungs(branches))
        appendage = ellipsoid(
            self.canvas.grid, self.scaffold.place(40 + left, -80, -30 + h), np.array([16, 24, 22]) * self.scaffold.size
        )
        self.vessels["atrial_appendage_left"] = appendage
        veins: dict[Side, Shape] = {
            "left": union(
                self._pipe([(30, -46, -44 + h), (38, -42, -37), (46, -38, -30)], 5.5),
                self._pipe([(30, -42, -44 + h), (38, -35, -51), (46, -28, -58)], 5.5),
            ),
            "right": union(
                self._pipe([(-18, -48, -44 + h), (-31, -47, -39), (-44, -46, -34)], 5.5),
                self._pipe([(-18, -44, -44 + h), (-32, -37, -52), (-46, -30, -60)], 5.5),
            ),
        }
        self.vessels["pulmonary_vein"] = union(*self._of_lungs(veins))
        join = (-23, -74, 40)
        self.vessels["superior_vena_cava"] = self._pipe([join, (-27, -68, 5), (-28, -72, -36 + h)], [9, 9.5, 10])
        self.vessels["brachiocephalic_vein_right"] = self._pipe([(-42, -64, 92), (-32, -70, 68), join], [6.5, 7, 8])
        self.vessels["brachiocephalic_vein_left"] = self._pipe(
            [(42, -64, 90), (28, -80, 68), (2, -84, 52), join], [6, 6.5, 7, 7.5]
        )
        low = [(-24, -56, -76 + h), (-27, -50, -110), (-26, -42, -150), (-22, -52, -262)]
        self.vessels["inferior_vena_cava"] = self._pipe(low, [12, 12, 12, 11])
        arteries: dict[str, list[tuple[float, float, float]]] = {
            "brachiocephalic_trunk": [(-2, -76, 34 + 0.4 * u), (-16, -68, 62), (-22, -62, 80)],
            "common_carotid_artery_right": [(-22, -62, 80), (-24, -62, 110), (-24, -64, 160)],
            "subclavian_artery_right": [(-22, -62, 80), (-40, -56, 96), (-66, -62, 88)],
            "common_carotid_artery_left": [(10, -62, 38 + 0.4 * u), (16, -60, 80), (24, -62, 160)],
            "subclavian_artery_left": [(20, -44, 38 + 0.4 * u), (30, -42, 80), (46, -50, 97), (68, -60, 88)],
        }
        for name, points in arteries.items():
            self.vessels[name] = self._pipe(points, 6.0 if name == "brachiocephalic_trunk" else 4.2)
        gullet = [(4, -62, 158), (5, -59, 120), (6, -36, 45), (6, -28, -20), (12, -29, -82), (22, -46, -118), (32, -52, -134)]
        self.oesophagus = self._pipe(gullet, 6.5, 50)

    def _place_airways(self) -> None:
        female = self.scaffold.parameters.sex == "female"
        r = 7.0 if female else 8.2
        shift = 0.3 * self.scaffold.parameters.aorta_unfolding
        carina = (2 - 0.5 * shift, -42, -4)
        windpipe = [(0, -82, 190), (0, -78, 150), (1, -64, 100), (1 - shift, -55, 40), carina]
        self.trachea = self._pipe(windpipe, [r, r, r, r, r + 0.8], 40)
        right = [
            self._pipe([carina, (-18, -38, -20), (-36, -35, -34), (-42, -38, -56)], [r - 0.5, r - 1.2, r - 2, r - 3]),
            self._pipe([(-24, -37, -24), (-40, -38, -18), (-52, -40, -10)], [4.5, 4.3, 3.5]),
        ]
        left = [
            self._pipe([carina, (20, -36, -22), (40, -30, -32), (47, -24, -54)], [r - 1, r - 1.8, r - 2.4, r - 3.6]),
            self._pipe([(38, -31, -30), (50, -38, -28), (58, -44, -22)], [4.2, 4, 3.3]),
        ]
        if self.scaffold.lung_is_missing("right"):
            right = [self._pipe([carina, (-8, -40, -11), (-15, -39, -18)], [r - 0.5, r - 1, r - 2])]
        if self.scaffold.lung_is_missing("left"):
            left = [self._pipe([carina, (9, -39, -13), (18, -37, -21)], [r - 1, r - 1.4, r - 2.4])]
        self.bronchi = union(*right, *left)

    def paint(self) -> None:
        """Paint everything of the mediastinum over the lungs that are there already."""
        canvas, k, p = self.canvas, self.scaffold.size, self.scaffold.parameters
        z = canvas.grid.axes()[2]
        sleeve = 1.5 + 0.5 * p.mediastinal_fat
        upper = curve(
            [
                self.scaffold.place(*point)
                for point in ((0, -78, 170), (0, -66, 110), (0, -60, 60), (4, -62, 10), (7, -52, -40), (8, -48, -90))
            ],
            30,
        )
        lateral = np.linspace(26, 27, 30) * k + p.mediastinal_fat
        room = tube(canvas.grid, upper, np.stack([lateral, np.linspace(30, 24, 30) * k], axis=1), (1, 0, 0), margin=6)
        prespinal = ((6, -26, 20), (6, -24, -20), (6, -18, -60), (6, -18, -100), (6, -24, -135))
        behind = curve([self.scaffold.place(*point) for point in prespinal], 20)
        gullet_room = tube(canvas.grid, behind, np.stack([np.full(20, 19 * k), np.full(20, 16 * k)], axis=1), (1, 0, 0), margin=6)
        hila = [
            ellipsoid(canvas.grid, self.scaffold.place(s * 37, -38, -28), np.array([9, 13, 24]) * k, margin=8) for s in (-1, 1)
        ]
        floor = self.scaffold.diaphragm(*(part[0] for part in canvas.grid.axes(self.heart.box)[:2]))
        above_floor = floor[None] - z[self.heart.box[0]]
        low = np.clip((above_floor + 30 * k) / (30 * k), 0, 1)
        pads = self.heart.distance - (1.5 + p.mediastinal_fat * (0.4 + 1.6 * low)).astype(np.float32)
        for shape in (room, gullet_room, *hila, Shape(self.heart.box, pads)):
            wavy = shape.distance + canvas.waves(shape.box, "mediastinum", 0.8 * k)
            canvas.fill_lung(Shape(shape.box, wavy), FAT + canvas.waves(shape.box, "mediastinal fat", 18.0))
        for name, shape in self.vessels.items():
            canvas.fill_lung(shape.grown(1.0 if name in ("aorta", "superior_vena_cava") else sleeve), FAT)
        canvas.fill_lung(self.oesophagus.grown(sleeve), FAT)
        canvas.fill_lung(union(self.trachea, self.bronchi).grown(2.2 * k), 20.0)
        self._paint_organs()

    def _paint_organs(self) -> None:
        canvas, k = self.canvas, self.scaffold.size
        beside = ~canvas.mask("stomach", box=self.oesophagus.box)  # it opens into the stomach and does not hang in its gas
        canvas.paint(Shape(self.oesophagus.box, np.where(beside, self.oesophagus.distance, np.float32(FAR))), 32.0, "esophagus")
        blood = BLOOD + canvas.waves(self.heart.box, "heart", 5.0)
        floor = self.scaffold.diaphragm(*(part[0] for part in canvas.grid.axes(self.heart.box)[:2]))
        z = canvas.grid.axes(self.heart.box)[2]
        heart = self.heart.within(floor[None] + 0.3 * k - z)
        nearest = np.full(heart.distance.shape, np.inf, dtype=np.float32)
        owner = np.zeros(heart.distance.shape, dtype=np.int8)
        for number, shape in enumerate(self.chambers.values()):
            part = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(shape.box, heart.box, strict=True))
            closer = shape.distance < nearest[part]
            owner[part][closer] = number
            nearest[part][closer] = shape.distance[closer]
        canvas.paint(heart, blood, "heart")
        inside = heart.distance < 0
        for number, name in enumerate(self.chambers):
            canvas.ids[heart.box][inside & (owner == number)] = canvas.id_of("heart", name)
        for name, shape in self.vessels.items():
            canvas.paint(shape, BLOOD, name)
        air = union(self.trachea, self.bronchi)
        canvas.paint(air.grown(1.4 * k), 40.0)
        canvas.paint(self.bronchi, TRACHEAL_AIR, "lung_trachea_bronchia")
        canvas.paint(self.trachea, TRACHEAL_AIR, "trachea", "lung_trachea_bronchia")
