"""Invented speech, a tiny teacher, and a way to launch the two recipes."""

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.encoder import Encoder

RECIPES = Path(__file__).resolve().parents[3] / "recipes" / "LSSED"


def invented_speech(seconds, seed, rate=16000):
    """Buzzing syllables with pauses: harmonics of a gliding pitch under a slow envelope."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = random.uniform(90, 250) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 8))
    envelope = np.clip(np.sin(2 * np.pi * random.uniform(2, 4) * time + random.uniform(0, 6)), 0, 1)
    return 0.1 * (wave * envelope + 0.05 * random.standard_normal(len(time)))


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory):
    """Fourteen clips of 0.8 to 2.1 s; one of them stereo at 22,050 Hz."""
    folder = tmp_path_factory.mktemp("speech")
    for k in range(14):
        rate = 22050 if k == 3 else 16000
        wave = invented_speech(0.8 + 0.1 * k, k, rate)
        wave = np.stack([wave, wave], 1) if k == 3 else wave
        soundfile.write(folder / f"clip{k:02d}.wav", wave, rate)
    return folder


@pytest.fixture
def tiny_teacher(tmp_path, tiny_config):
    """Folder of a random Large-type teacher of four layers, with dropout in its configuration."""
    folder = tmp_path / "teacher"
    save_encoder(Encoder(tiny_config("wavlm_large", hidden_dropout=0.1)), folder)
    return folder


@pytest.fixture
def run_recipe(monkeypatch):
    """`run_recipe("pretrain", "vesper_mini", output_folder, key=value, ...)` in this process."""

    def run(task, hparams, output_folder, **options):
        monkeypatch.chdir(RECIPES / task)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        arguments = [f"hparams/{hparams}.yaml", "--output_folder", str(output_folder)]
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        recipe_module(task).main([*arguments, "--device", "cpu", "--noprogressbar"])
        return history(output_folder)

    handlers = list(logging.getLogger().handlers)
    yield run
    logging.getLogger().handlers = handlers


def recipe_module(task):
    """A recipe's train.py as a module."""
    name = f"lssed_{task}_train"
    spec = importlib.util.spec_from_file_location(name, RECIPES / task / "train.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def history(output_folder):
    """Rows of history.json."""
    with open(os.path.join(output_folder, "history.json"), encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture
def teacher_options(speech_folder):
    """A teacher run of seconds."""
    return dict(
        data_folder=speech_folder,
        num_steps=5,
        batch_size=4,
        crop_seconds=0.6,
        num_clusters=8,
        valid_share=0.1,
        ckpt_interval_minutes=0,
    )


@pytest.fixture
def pretrain_options(speech_folder, tiny_teacher):
    """A pretraining run of seconds."""
    return dict(
        data_folder=speech_folder,
        teacher=tiny_teacher,
        num_steps=8,
        batch_size=4,
        crop_seconds=1.0,
        valid_share=0.1,
        ckpt_interval_minutes=0,
    )


@pytest.fixture(autouse=True)
def _no_global_state():
    before = torch.get_rng_state()
    yield
    torch.set_rng_state(before)
