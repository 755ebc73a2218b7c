"""What several tests share: where real data lies, and the sample CT."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data(*parts: str) -> Path:
    """Return a path below the real data that lies beside the project on build machines; skip the test where it is absent."""
    path = ROOT.parent.joinpath("shared", "data", *parts)
    if not path.exists():
        pytest.skip(f"the real data of the build machines is not here ({'/'.join(('shared/data', *parts))})")
    return path


@pytest.fixture(scope="session")
def sample_ct() -> Path:
    """Return the folder of the LIDC sample (ct.nii.gz, labels.nii.gz, label_names.csv); skip where it cannot be fetched."""
    from training.errors import ChexanatomyError
    from training.samples import fetch_lidc

    try:
        return fetch_lidc()
    except ChexanatomyError as problem:
        pytest.skip(str(problem))
