import pytest

from benchmarks.differentiable import main


def test_both_projectors_are_timed_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    main(slices=20, edge=40, pixels=24)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["PA", "lateral", "oblique", "oblique"]
    assert all(float(line.split()[2]) < 0.02 for line in lines[1:4])
