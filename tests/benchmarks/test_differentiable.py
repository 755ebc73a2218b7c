import pytest

from benchmarks.differentiable import main


def test_both_projectors_are_timed_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    main(slices=20, edge=40, pixels=24)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["PA", "lateral", "oblique", "oblique"]
    along_the_grid, oblique = (1e-5, 1e-5), 0.1  # sharp edges of coarse voxels, sampled otherwise at an angle
    assert all(float(line.split()[2]) < most for line, most in zip(lines[1:4], (*along_the_grid, oblique), strict=True))
