"""A CT gives the same picture however its file stores the axes: left stays left, the head stays up."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from training.drr import Geometry, line_integrals, project_labels
from training.images import read_ct, read_labels
from training.samples import write_phantom

STORED = ("RAS", "LAS", "LPI", "RPS", "SAR", "ASL", "PIL", "IRP")
ASKED = ("lung_left", "lung_right", "heart", "liver", "clavicula_left")


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("body")
    write_phantom(folder, 4, 5.0)
    return folder


def taken(folder: Path, suffix: str, primary: float):
    ct = read_ct(folder / f"ct{suffix}.nii.gz")
    labels = read_labels(folder / f"labels{suffix}.nii.gz", ct, folder / "label_names.csv")
    pose = Geometry.view(ct, primary, rows=96, columns=96)
    return line_integrals(ct.hu + np.int16(1000), ct, pose), project_labels(labels, pose, list(ASKED))


@pytest.fixture(scope="module")
def plain(body):
    return {primary: taken(body, "", primary) for primary in (0.0, 90.0)}


@pytest.mark.parametrize("stored", STORED)
def test_every_storage_order_gives_the_same_picture_and_masks(body, plain, stored):
    for name in ("ct", "labels"):
        image = sitk.DICOMOrient(sitk.ReadImage(str(body / f"{name}.nii.gz")), stored)
        sitk.WriteImage(image, str(body / f"{name}-{stored}.nii.gz"))
    for primary, (sums, masks) in plain.items():
        again, found = taken(body, f"-{stored}", primary)
        np.testing.assert_allclose(again, sums, rtol=1e-4, atol=1e-4 * sums.max())
        for key in ASKED:
            # A ray through the very edge of a voxel may fall to either side once positions are rounded.
            assert (found[key] != masks[key]).mean() < 1e-3, key


@pytest.mark.parametrize("angle", [-15.0, 20.0])
def test_a_tilted_grid_is_set_upright_and_nothing_moves(body, plain, angle):
    """The same body on a grid that is turned about the patient's left-right axis, as under a tilted gantry."""
    turn = sitk.Euler3DTransform((0, 0, 0), np.radians(angle), 0, 0)
    for name, way, outside in (("ct", sitk.sitkLinear, -1000), ("labels", sitk.sitkNearestNeighbor, 0)):
        image = sitk.ReadImage(str(body / f"{name}.nii.gz"))
        direction = np.array(turn.GetMatrix()).reshape(3, 3)
        corners = [
            image.TransformIndexToPhysicalPoint([int(i * (n - 1)) for i, n in zip(corner, image.GetSize(), strict=True)])
            for corner in np.ndindex(2, 2, 2)
        ]
        along = np.array(corners) @ direction
        size = np.ceil(np.ptp(along, axis=0) / np.array(image.GetSpacing())).astype(int) + 1
        origin = direction @ along.min(0)
        tilted = sitk.Resample(
            image, size.tolist(), sitk.Transform(), way, origin.tolist(), image.GetSpacing(), direction.ravel().tolist(), outside
        )
        sitk.WriteImage(tilted, str(body / f"{name}-tilt{angle:g}.nii.gz"))
    ct = read_ct(body / f"ct-tilt{angle:g}.nii.gz")
    assert any("resampled" in note for note in ct.notes)
    upright = read_ct(body / "ct.nii.gz")
    labels = read_labels(body / f"labels-tilt{angle:g}.nii.gz", ct, body / "label_names.csv")
    centre = tuple(o + 0.5 * s * (n - 1) for o, s, n in zip(upright.origin, upright.spacing, upright.hu.shape[::-1], strict=True))
    for primary, (_, masks) in plain.items():
        found = project_labels(labels, Geometry.view(ct, primary, rows=96, columns=96, isocentre=centre), list(ASKED))
        for key in ASKED:
            dice = 2 * (found[key] & masks[key]).sum() / (found[key].sum() + masks[key].sum())
            assert dice > (0.6 if key.startswith("clav") else 0.9), (key, dice)
