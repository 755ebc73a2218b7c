"""plastimatch's command line: apt install plastimatch (plastimatch.org). Every call reads the volume's file anew."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.drr.engines import Shot
from benchmarks.drr.memory import peak_of
from training.drr import Geometry
from training.images.types import CT, LabelMap

PER_CENTIMETRE = 10
"""Its sums are value x cm."""
POLL = 0.004
"""How often its memory is read [s]."""


class Plastimatch:
    """`drr --algorithm exact` (Siddon's paths through voxels of constant value); timed is what it reports without its I/O."""

    name = "plastimatch"

    def __init__(self) -> None:
        if shutil.which("plastimatch") is None:
            raise OSError("The command plastimatch is not there.")
        told = subprocess.run(["plastimatch", "--version"], capture_output=True, text=True, check=True).stdout
        self.version = told.strip().replace("version ", "")
        self.folder = tempfile.TemporaryDirectory()

    def prepare(self, ct: CT) -> int:
        """Write the volume as float32, and see how much memory plastimatch holds for a picture of four pixels."""
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(ct.hu.astype(np.float32))
        image.SetSpacing(ct.spacing)
        image.SetOrigin(ct.origin)
        self.file = Path(self.folder.name) / "volume.mha"
        sitk.WriteImage(image, str(self.file))
        _, _, self.held = self._run(Geometry.pa(ct, rows=2, columns=2))
        return self.held

    def project(self, geometry: Geometry) -> Shot:
        """One run of the command."""
        picture, seconds, peak = self._run(geometry)
        return Shot(picture * np.float32(PER_CENTIMETRE), seconds, max(0, peak - self.held))

    def _run(self, geometry: Geometry) -> tuple[np.ndarray, float, int]:
        """Return the picture, plastimatch's own seconds without reading and writing, and its peak of memory [bytes]."""

        def words(*numbers: float) -> str:
            return " ".join(f"{n:.10g}" for n in numbers)

        size = (geometry.rows * geometry.spacing[0], geometry.columns * geometry.spacing[1])
        options = {
            "--algorithm": "exact", "--hu-conversion": "none", "--output-format": "pfm", "--threading": "cpu",
            "--nrm": words(*-geometry.beam), "--vup": words(*-geometry.axes[1]), "--sad": words(geometry.sid),
            "--sid": words(geometry.sdd), "--isocenter": words(*geometry.isocentre), "--detector-size": words(*size),
            "--dim": words(geometry.rows, geometry.columns), "--input": str(self.file), "--output": f"{self.folder.name}/view",
        }  # fmt: skip
        command = ["plastimatch", "drr", *(word for option in options.items() for word in option)]
        peak = 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            while run.poll() is None:
                peak = max(peak, peak_of(run.pid))
                time.sleep(POLL)
            told = run.stdout.read() if run.stdout else ""
        times = dict(re.findall(r"(I/O|Total) time: ([\d.e+-]+)", told))
        if run.returncode or len(times) < 2:
            raise RuntimeError(f"plastimatch failed: {told[-300:]}")
        picture = read_pfm(Path(self.folder.name) / "view0000.pfm")
        # Its columns run to the left of someone who looks along the beam.
        picture = picture if geometry.faces_back else picture[:, ::-1]
        return picture, float(times["Total"]) - float(times["I/O"]), peak

    def label(self, labels: LabelMap) -> None:
        """It has no label maps."""
        raise NotImplementedError("plastimatch projects one structure at a time.")

    def masks(self, geometry: Geometry) -> Shot:
        """It has no label maps."""
        raise NotImplementedError("plastimatch projects one structure at a time.")

    def need(self, geometry: Geometry, masks: bool) -> int:
        """Not foreseen: it is small."""
        return 0


def read_pfm(path: Path) -> np.ndarray:
    """Read a grey portable float map as plastimatch writes it, float32 [row, column], first row first."""
    with path.open("rb") as file:
        if file.readline().strip() != b"Pf":
            raise RuntimeError(f"{path.name} is not a grey float map.")
        columns, rows = (int(n) for n in file.readline().split())
        order = "<" if float(file.readline()) < 0 else ">"
        return np.frombuffer(file.read(), f"{order}f4").reshape(rows, columns).astype(np.float32)
