"""``--optimizer_step_limit 5`` on the command line arrives as a string and stops SpeechBrain with a
TypeError. Our Brains read it as a number; files driven by steps have a key of their own besides."""

import re
from pathlib import Path

import pytest
import speechbrain as sb
import torch

from vesper_lobes.logged_brain import LoggedBrain

ROOT = Path(__file__).resolve().parents[2]


def test_the_trap_is_real():
    _, run_opts, _ = sb.parse_arguments(
        ["x.yaml", "--device", "cpu", "--optimizer_step_limit", "5"]
    )
    brain = sb.Brain(modules={"m": torch.nn.Linear(1, 1)}, run_opts=run_opts)
    with pytest.raises(TypeError):
        brain._optimizer_step_limit_exceeded  # noqa: B018


def test_our_brains_take_it(tmp_path):
    _, run_opts, _ = sb.parse_arguments(
        ["x.yaml", "--device", "cpu", "--optimizer_step_limit", "5"]
    )
    hparams = {"output_folder": str(tmp_path)}
    brain = LoggedBrain({"m": torch.nn.Linear(1, 1)}, hparams=hparams, run_opts=run_opts)
    for steps, over in ((4, False), (5, True)):
        brain.optimizer_step = steps
        assert brain._optimizer_step_limit_exceeded is over


def test_step_driven_files_have_a_number_of_their_own():
    files = list((ROOT / "recipes/LSSED").rglob("hparams/*.yaml"))
    driven = [path for path in files if re.search(r"^num_steps: \d+", path.read_text(), re.M)]
    assert len(driven) == 4
    for path in driven:
        assert "optimizer_step_limit: !ref <num_steps>" in path.read_text()
