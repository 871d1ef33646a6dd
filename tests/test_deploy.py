"""deploy/: one command begins a run and, called again, resumes it exactly."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from trials.kills import differences
from trials.small import SETTINGS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("bash") or not DEPLOY.is_dir(),
    reason="needs a checkout and a shell",
)
# What the Slurm script calls: `srun` runs the command here.
SLURM = {
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
    "scancel": "",  # the test signals the whole group
    "scontrol": 'if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$REQUEUED"; fi\n',
}


@pytest.fixture
def cluster(array, tmp_path):
    """A program of `deploy/` with two processes, and the settings of a run of some seconds."""
    tools = tmp_path / "bin"
    tools.mkdir()
    launch = f'exec {sys.executable} -m torch.distributed.run "$@"\n'
    for name, text in {**SLURM, "torchrun": launch}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}")
        (tools / name).chmod(0o755)
    settings = {**SETTINGS, "data": str(array), "val_every": 10, "val_tasks": 8, "test_tasks": 8}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**settings, "iterations": 120}))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PET_"))}
    environment = {
        **kept,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_NUM_NODES": "1",
        "GPUS": "2",
    }

    def start(program, run, *options, **more):
        return subprocess.Popen(
            [DEPLOY / program, *options],
            cwd=ROOT,
            env={**environment, "RUN": str(run), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start, ["--config", str(tmp_path / "small.yaml")]


def finish(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def interrupt(process, run):
    """As Slurm and Kubernetes do: SIGTERM to every process."""
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=120)
    assert not (run / "results.json").exists()


@pytest.mark.long
def test_interrupted_and_called_again_it_is_the_same_run(cluster, tmp_path):
    start, options = cluster
    two = {"TORCHRUN": "--standalone --nproc-per-node 2"}
    finish(start("train.sh", tmp_path / "whole", *options, **two))
    # The Slurm script runs the other one, which then goes on with the same run by itself.
    run = tmp_path / "run"
    interrupt(start("slurm.sh", run, *options, **two), run)
    assert (tmp_path / "requeued").exists()
    finish(start("train.sh", run, *options, **two))
    assert list(differences(tmp_path / "whole", run)) == []
    # A third call has nothing to do.
    finish(start("slurm.sh", run, *options, **two))


def test_scripts_are_shell_and_the_image_copies_what_there_is():
    for script in DEPLOY.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK)
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    for path in re.findall(r"^COPY (\S+/\S+) ", text, re.MULTILINE):
        assert (ROOT / path).exists(), path


def test_both_kinds_of_pods_are_the_same():
    *_, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8"))
    pods = [kind["template"]["spec"] for kind in job["spec"]["pytorchReplicaSpecs"].values()]
    assert pods[0] == pods[1]
    (container,) = pods[0]["containers"]
    assert container["command"][0] == "train"
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert str(gpus) == job["spec"]["nprocPerNode"]
