"""The floor script on invented clips whose classes a spectrum tells apart."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from data_prep.folds import groups_of, rotating_folds, write_folds
from data_prep.manifest import read_manifest, write_manifest

ROOT = Path(__file__).resolve().parents[2]


def corpus(folder):
    """Six speakers, two classes (low and high tones in noise), five clips of each."""
    random, rows = np.random.default_rng(0), []
    for speaker in "abcdef":
        for emotion, pitch in (("calm", 150), ("angry", 900)):
            for take in range(5):
                time = np.arange(4000) / 16000
                wav = 0.2 * np.sin(2 * np.pi * pitch * random.uniform(0.8, 1.2) * time)
                wav += 0.05 * random.normal(size=len(time))
                name = f"{speaker}{emotion}{take}"
                soundfile.write(folder / f"{name}.wav", wav, 16000)
                row = {"ID": name, "duration": 0.25, "wav": f"$data_root/{name}.wav"}
                rows.append({**row, "speaker": speaker, "emotion": emotion, "corpus": "x"})
    write_manifest(rows, folder / "manifest.csv")
    manifest = read_manifest(folder / "manifest.csv")
    groups = groups_of(manifest["speaker"], 3)
    write_folds(rotating_folds(manifest, groups, "B"), folder, "B")


def test_the_floor_of_a_prepared_corpus(tmp_path):
    corpus(tmp_path)
    command = [sys.executable, ROOT / "recipes" / "baselines.py", "--data_root", tmp_path]
    command += ["--manifest", tmp_path / "manifest.csv", "--folds", tmp_path / "folds" / "B"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["classes"] == ["angry", "calm"] and found["n"] == 60
    assert found["UA"] > 0.9 and found["ci"]["UA"][0] > 0.8
    assert len(found["alphas"]) == 3
