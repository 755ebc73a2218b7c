"""A few kills -9 of every job that writes; the long version is tools/crashes.py itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and killed as on Linux")
def test_nothing_committed_is_lost_or_torn_by_a_kill() -> None:
    jobs = ("review", "export", "synthesize")
    command = [sys.executable, "-W", "ignore", "tools/crashes.py", "--only", *jobs, "--kills", "2", "--minutes", "0.5"]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = json.loads(ran.stdout.splitlines()[-1])
    assert sum(counts[job]["kills"] for job in jobs) > 0
