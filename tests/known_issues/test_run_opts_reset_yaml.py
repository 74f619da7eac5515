"""``hparams.update(run_opts)``, seen in SpeechBrain's pretraining recipes, undoes the YAML."""

import re
from pathlib import Path

import speechbrain as sb
import torch

ROOT = Path(__file__).resolve().parents[2]


def brain(hparams, run_opts):
    return sb.Brain(modules={"m": torch.nn.Linear(1, 1)}, hparams=hparams, run_opts=run_opts)


def test_the_trap_is_real_and_passing_run_opts_to_the_brain_avoids_it():
    _, run_opts, _ = sb.parse_arguments(["x.yaml", "--device", "cpu"])
    settings = {"max_grad_norm": 1.0, "grad_accumulation_factor": 4}
    assert brain(dict(settings), run_opts).max_grad_norm == 1.0
    assert brain(dict(settings), run_opts).grad_accumulation_factor == 4
    undone = dict(settings)
    undone.update(run_opts)
    assert brain(undone, run_opts).max_grad_norm == 5.0


def test_no_code_of_ours_does_it():
    files = [p for room in ("vesper_lobes", "recipes") for p in (ROOT / room).rglob("*.py")]
    assert len(files) > 10
    guilty = [p for p in files if re.search(r"hparams\.update\(\s*run_opts", p.read_text())]
    assert not guilty
