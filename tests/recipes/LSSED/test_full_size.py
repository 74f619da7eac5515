"""The real sizes: a WavLM-Large-sized teacher of random weights on disk, Vesper-4, two steps."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import invented_speech

from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.teacher import load_teacher

RECIPE = Path(__file__).resolve().parents[3] / "recipes/LSSED/pretrain"


@pytest.mark.slow
def test_vesper4_from_a_large_teacher(tmp_path):
    """Counts of Table II, and of what trains; peak memory is printed (pytest -s)."""
    speech, teacher, out = tmp_path / "speech", tmp_path / "teacher", tmp_path / "run"
    speech.mkdir()
    for k in range(4):
        soundfile.write(speech / f"{k}.wav", invented_speech(5.5, k), 16000)
    launch("make_random_teacher.py", "--config", "large", "--save_folder", teacher)
    log = launch(
        *("train.py", "hparams/vesper4.yaml", "--data_folder", speech, "--teacher", teacher),
        *("--output_folder", out, "--batch_size", 2, "--number_of_epochs", 2),
        *("--warmup_epochs", 1, "--valid_share", 0.0, "--num_workers", 0, "--device", "cpu"),
        *("--debug", "--debug_batches", 1, "--debug_epochs", 2, "--precision", "bf16"),
    )
    assert "Total Number of Trainable Parameters: 62.5M" in log
    student = load_encoder(out / "export")
    assert student.num_parameters() == 63_515_872
    assert sum(p.numel() for p in student.parameters()) == 63_517_920
    cnn = sum(p.numel() for p in student.feature_extractor.parameters())
    predictors = 3 * 1_050_112  # 3 x (1024 x 512 + 512 + 512 x 1024 + 1024)
    assert round((63_515_872 - cnn + predictors) / 1e6, 2) == 62.46
    assert load_teacher(teacher).shares_cnn_with(student)
    assert re.search(r"1, 7, 13, 19", log)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory, Vesper-4 from WavLM Large, batch 2 x 5 s, bf16: {peak:.1f} GiB")


def launch(*arguments):
    """Run a script in the recipe's folder, as a user would; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(RECIPE.parents[2])},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
