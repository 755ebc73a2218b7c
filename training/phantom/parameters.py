"""What may differ between two people: every parameter of the procedural thorax, with plausible joint ranges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from training.phantom.findings import Findings, Odds, draw_findings

Strays = tuple[tuple[float, float], tuple[float, float]]
"""Something of the medial and the lateral end of the left clavicle and of the right one [mm]."""


@dataclass(frozen=True)
class ThoraxParameters:
    """One person on one day. Lengths in mm, angles in degrees; factors are relative to the reference adult of the scaffold."""

    sex: Literal["female", "male"] = "male"
    size: float = 0.95
    """Body size: factor on every length."""
    width: float = 1.0
    """Width of the rib cage."""
    depth: float = 1.0
    """Front-to-back depth of the rib cage."""
    taper: float = 0.0
    """Bell shape: more is a narrower upper and a wider lower chest (-1..1)."""
    upper_width: float = 1.0
    """Width of the rib cage at the apices."""
    asymmetry: float = 0.0
    """How much wider the left half of the chest is than the right."""
    rib_slope: float = 1.0
    """How far the ribs descend on their way to the front."""
    rib_bend: float = 0.3
    """0: ribs descend from the spine on; 1: they first run level, then descend."""
    inflation: float = 0.0
    """Depth of breath: -1 shallow, diaphragm high, to 1 deep."""
    dome_difference: float = 12.0
    """How much higher the right dome of the diaphragm stands than the left."""
    kyphosis: float = 17.0
    """Curvature of the thoracic spine: retreat of the spine at 100 mm above its apex."""
    lordosis: float = 8.0
    """Curvature of the lumbar spine: advance of the spine at 100 mm below the apex of the kyphosis."""
    scoliosis: float = 0.0
    """Largest excursion of the spine to the left."""
    scoliosis_phase: float = 0.0
    """Where along the spine the curve begins, in radians."""
    heart_size: float = 1.0
    heart_turn: float = 0.0
    """Turn of the heart's long axis: positive lies it down (transverse heart), negative raises it (drop heart)."""
    heart_shift: float = 0.0
    """Shift of the heart to the left."""
    aorta_width: float = 1.0
    aorta_unfolding: float = 0.0
    """Elongation of the aortic arch with age: shift to the left and upwards."""
    junction_slant: float = 0.15
    """Slant of the plane in which the lungs meet before and behind the heart: sideways per way backwards."""
    mediastinal_fat: float = 3.0
    clavicle_tilt: float = 8.0
    """Elevation of the lateral end of the clavicles."""
    clavicle_curve: float = 1.0
    clavicle_arch: float = 12.0
    """How far the middle of the clavicles stands above the line between their ends."""
    clavicle_stray: Strays = ((0.0, 0.0), (0.0, 0.0))
    """How much higher the medial and the lateral end lie than shoulder and sternum would have them: of the left, of the right."""
    shoulder_advance: float = 0.0
    """How far the shoulders are rolled forward."""
    posture: Literal["upright", "supine"] = "upright"
    arm_elevation: float = -60.0
    """Angle of the upper arms over the horizontal: -80 hanging, 60 raised."""
    muscle: float = 1.0
    """Thickness of the muscles."""
    trapezius: float = 1.0
    """Girth of the trapezius, which lies above the clavicles in a frontal view."""
    fat: float = 14.0
    """Thickness of the fat under the skin."""
    breast: float = 0.0
    """Radius of the breasts; 0 for none."""
    breast_sag: float = 10.0
    gastric_gas: float = 0.5
    """How much of the gastric fundus is gas."""
    bowel_gas: float = 0.5
    lung_hu: float = -860.0
    vessels: float = 1.0
    """Calibre of the lung's vessels."""
    bone_density: float = 1.0
    cartilage_calcification: float = 0.1
    noise: float = 12.0
    """Standard deviation of the CT noise [HU]."""
    findings: Findings = field(default_factory=Findings)
    """Illness, devices and what was resected."""


def with_raised_arms(person: ThoraxParameters, rng: np.random.Generator) -> ThoraxParameters:
    """Return the same person with raised arms, as for a lateral view or a CT: shoulders high and slightly forward."""
    return replace(
        person,
        arm_elevation=float(rng.uniform(52, 75)),
        clavicle_tilt=float(np.clip(person.clavicle_tilt + 20, 24, 40)),
        shoulder_advance=float(rng.uniform(-6, 12)),
    )


def draw(seed: int, odds: Odds | None = None) -> ThoraxParameters:
    """Return a plausible person for a seed: sex, habitus and age move the single parameters together.

    odds: of each finding (training.phantom.findings.NONE for healthy people); they change nothing else of the person.
    """
    rng = np.random.default_rng([seed, 0x7407A])

    def normal(mean: float, spread: float, low: float, high: float) -> float:
        return float(np.clip(rng.normal(mean, spread), low, high))

    sex: Literal["female", "male"] = "female" if rng.random() < 0.5 else "male"
    female = sex == "female"
    habitus = normal(0.0, 1.0, -1.8, 2.2)  # slender to broad
    age = float(rng.random())  # young adult to old
    inflation = normal(0.0, 0.5, -1.0, 1.0)
    supine = rng.random() < 0.3
    raised = rng.random() < 0.45
    breast = float(np.clip(rng.normal(47 + 6 * habitus, 6), 32, 66)) if female else 0.0
    return ThoraxParameters(
        sex=sex,
        size=normal(0.88 if female else 0.96, 0.035, 0.8, 1.05),
        width=normal(1.0 + 0.025 * habitus, 0.03, 0.9, 1.1),
        depth=normal(1.0 + 0.03 * habitus + 0.06 * age - 0.03, 0.05, 0.85, 1.18),
        taper=normal(0.1 * habitus, 0.4, -1.0, 1.0),
        asymmetry=normal(0.0, 0.02, -0.05, 0.05),
        rib_slope=normal(0.95 - 0.08 * inflation - 0.04 * habitus, 0.09, 0.7, 1.2),
        rib_bend=normal(0.7, 0.25, 0.0, 1.0),
        inflation=inflation,
        dome_difference=normal(13.0, 6.0, 2.0, 28.0),
        kyphosis=normal(15 + 9 * age, 4.0, 9.0, 34.0),
        lordosis=normal(8.0, 2.5, 3.0, 15.0),
        scoliosis=normal(0.0, 5.0, -15.0, 15.0),
        scoliosis_phase=float(rng.uniform(0, 2 * np.pi)),
        heart_size=normal(0.92 + 0.08 * age + 0.02 * habitus, 0.06, 0.8, 1.2),
        heart_turn=normal(5 * habitus - 10 * inflation, 6.0, -24.0, 26.0),
        heart_shift=normal(6.0, 4.0, -3.0, 16.0),
        aorta_width=normal(0.9 + 0.2 * age, 0.07, 0.75, 1.3),
        aorta_unfolding=float(np.clip(rng.normal(14 * age - 3, 4), -3, 20)),
        junction_slant=float(rng.choice([-1, 1])) * normal(0.18, 0.05, 0.08, 0.3),
        mediastinal_fat=normal(3 + 1.5 * habitus, 1.2, 1.0, 9.0),
        clavicle_tilt=normal(29 if raised else 10, 8.0, -8.0, 40.0),
        clavicle_curve=normal(1.0, 0.25, 0.4, 1.6),
        shoulder_advance=normal(0.0 if supine else 16.0, 8.0, -10.0, 32.0),
        posture="supine" if supine else "upright",
        arm_elevation=normal(58 if raised else (-75 if supine else -55), 10.0, -85.0, 70.0),
        muscle=normal(0.85 if female else 1.1, 0.15, 0.6, 1.5),
        fat=float(np.clip(rng.normal(15 + 7 * habitus + (3 if female else 0), 3), 4, 40)),
        breast=breast,
        breast_sag=normal(8 + 14 * age, 6.0, 0.0, 34.0),
        gastric_gas=float(rng.beta(2, 2)),
        bowel_gas=float(rng.random()),
        lung_hu=normal(-862 - 14 * inflation, 14.0, -905.0, -815.0),
        vessels=normal(1.0, 0.13, 0.7, 1.35),
        bone_density=normal(1.35 - 0.45 * age, 0.12, 0.65, 1.7),
        cartilage_calcification=float(np.clip(rng.normal(0.5 * age, 0.12), 0, 0.8)),
        noise=normal(12.0, 4.0, 4.0, 25.0),
        clavicle_arch=normal(13.0, 5.0, 0.0, 26.0),
        trapezius=normal(1.15, 0.2, 0.75, 1.7),
        upper_width=normal(1.0, 0.08, 0.8, 1.2),
        findings=draw_findings(np.random.default_rng([seed, 0xF1D]), odds),
    )
