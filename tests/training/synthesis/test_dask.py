"""Synthesis on a real Dask scheduler with worker processes on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from training.dataset import Dataset
from training.synthesis import SynthesisConfig, synthesize

pytest.importorskip("distributed")
SETTINGS = {"phantoms": 5, "views_per_subject": 1, "size": 64, "grid": 6.0}


def wait_until(ready, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ready():
            return
        time.sleep(0.05)
    raise TimeoutError("the cluster did not come up")


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two worker processes: (address, workers)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    python = [sys.executable, "-m", "dask"]
    local = ["--no-dashboard"]
    processes = [subprocess.Popen([*python, "scheduler", "--host", "127.0.0.1", "--port", str(port), *local], cwd=tmp_path)]
    alone = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", *local]
    processes += [subprocess.Popen([*python, "worker", address, *alone], cwd=tmp_path) for _ in range(2)]
    try:
        from distributed import Client

        def two_workers():
            with Client(address, timeout="30s") as client:
                return len(client.nthreads()) == 2

        wait_until(two_workers)
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # a worker whose scheduler left before it may wait for it for ever
                process.kill()
                process.wait()


def test_a_cluster_that_loses_a_worker_makes_the_same_data_as_one_process(cluster, tmp_path):
    address, workers = cluster
    killed = []

    def kill_one(progress):
        if progress.done >= 1 and not killed:
            os.kill(workers[0].pid, signal.SIGKILL)
            killed.append(progress.done)

    there = synthesize(SynthesisConfig(out=str(tmp_path / "cluster"), dask=address, **SETTINGS), kill_one)
    alone = synthesize(SynthesisConfig(out=str(tmp_path / "alone"), **SETTINGS))
    assert killed
    assert killed[0] < len(there.cases)
    assert [c.to_json() for c in there.cases] == [c.to_json() for c in alone.cases]
    assert len({c.id for c in Dataset.open(there.folder).cases}) == 5
    for case in alone.cases:
        for part in (case.image, f"masks/{case.id}.json"):
            assert (there.folder / part).read_bytes() == (alone.folder / part).read_bytes()
