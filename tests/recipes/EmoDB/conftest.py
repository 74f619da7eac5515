"""A tiny corpus with EmoDB's file names, two tiny encoders, and a way to launch the recipe."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_runs import kept_logging, save_tiny_encoder

from data_prep.manifest import read_manifest
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.emotion_run import run_recipe

RECIPE = Path(__file__).resolve().parents[3] / "recipes" / "EmoDB" / "emotion"


@pytest.fixture(scope="session")
def emodb_tree(tmp_path_factory):
    """Five speakers, four emotions told apart by pitch, two takes: 40 clips of about 0.3 s."""
    folder = tmp_path_factory.mktemp("emodb") / "wav"
    folder.mkdir()
    random = np.random.default_rng(0)
    for speaker in ("03", "08", "09", "10", "11"):
        for pitch, letter in zip((110, 180, 260, 350), "WFNT", strict=True):
            for take in (1, 2):
                time = np.arange(random.integers(4000, 6000)) / 16000
                wav = 0.3 * np.sin(2 * np.pi * pitch * random.uniform(0.95, 1.05) * time)
                wav += 0.02 * random.normal(size=len(time))
                soundfile.write(folder / f"{speaker}a0{take}{letter}a.wav", wav, 16000)
    return folder.parent


@pytest.fixture(scope="session")
def encoders(tmp_path_factory):
    """Folders of a random student (2 layers) and teacher (4 layers)."""
    folder = tmp_path_factory.mktemp("encoders")
    for name, layers in (("student", 2), ("teacher", 4)):
        save_tiny_encoder(folder / name, layers)
    return folder


@pytest.fixture(scope="session")
def launch(emodb_tree, encoders):
    """``launch(output, *options)``: the recipe in this process, two epochs; its metrics."""

    def run(output, *options, hparams="vesper_mini"):
        given = dict(zip(options[::2], options[1::2], strict=True))
        settings = {
            "--output_folder": output,
            "--data_folder": emodb_tree,
            "--encoder": encoders / "student",
            "--allow_partial": True,
            "--number_of_epochs": 2,
            "--ssl_saw_test_audio": False,
            "--device": "cpu",
            **given,
        }
        argv = [str(RECIPE / "hparams" / f"{hparams}.yaml")]
        argv += [str(part) for option in settings.items() for part in option]
        with kept_logging():
            return run_recipe(argv, EmotionBrain, read_manifest)

    return run


@pytest.fixture(scope="session")
def whole_run(launch, encoders, tmp_path_factory):
    """A run with every baseline and two seeds: its folder and its metrics."""
    output = tmp_path_factory.mktemp("run") / "B"
    options = ("--teacher", encoders / "teacher", "--head_seeds", "1 2")
    return output, launch(output, *options)
