"""``--optimizer_step_limit 5`` on the command line arrives as a string and stops SpeechBrain with a
TypeError. Our YAML files take the limit from a key of their own, ``num_steps``, as a number."""

import re
from pathlib import Path

import pytest
import speechbrain as sb
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_the_trap_is_real():
    _, run_opts, _ = sb.parse_arguments(
        ["x.yaml", "--device", "cpu", "--optimizer_step_limit", "5"]
    )
    brain = sb.Brain(modules={"m": torch.nn.Linear(1, 1)}, run_opts=run_opts)
    with pytest.raises(TypeError):
        brain._optimizer_step_limit_exceeded  # noqa: B018


def test_step_driven_files_have_a_number_of_their_own():
    files = list((ROOT / "recipes/LSSED").rglob("hparams/*.yaml"))
    driven = [path for path in files if re.search(r"^num_steps: \d+", path.read_text(), re.M)]
    assert len(driven) == 3
    for path in driven:
        assert "optimizer_step_limit: !ref <num_steps>" in path.read_text()
