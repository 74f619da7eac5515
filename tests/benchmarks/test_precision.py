"""What narrow numbers cost, in small form: errors in order, scores of two clear classes."""

import json

import numpy as np
import pytest
import soundfile

from data_prep.manifest import COLUMNS, write_manifest
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.encoder import Encoder


@pytest.fixture
def script(benchmark_script):
    return benchmark_script("precision")


def test_small_form(script, tiny_config, tmp_path):
    rng, rows = np.random.default_rng(0), []
    for speaker in "abc":
        for emotion, pitch in (("angry", 900), ("sad", 120)):
            name = f"{speaker}_{emotion}"
            time = np.arange(rng.integers(6000, 9000)) / 16000
            wav = np.sin(2 * np.pi * pitch * time) + 0.05 * rng.standard_normal(len(time))
            soundfile.write(tmp_path / f"{name}.wav", 0.3 * wav, 16000)
            row = dict.fromkeys(COLUMNS, "")
            row.update(ID=name, duration=len(time) / 16000, wav=f"$data_root/{name}.wav")
            row.update(start=0, stop=-1, speaker=speaker, emotion=emotion, corpus="tones")
            rows.append(row)
    write_manifest(rows, tmp_path / "manifest.csv")
    encoder = Encoder(tiny_config(hidden_size=64)).eval()
    save_encoder(encoder, tmp_path / "encoder")
    out, paths = tmp_path / "out.json", (tmp_path / "encoder", tmp_path / "manifest.csv")
    script.main([*map(str, paths), "--data_root", str(tmp_path), "--json", str(out)])
    result = json.loads(out.read_text())
    exact, half, small, both = result["rows"]
    assert exact["error"] == 0 and exact["ua"] == exact["same_decision"] * 100 == 100
    assert 1e-4 < half["error"] < 0.02 and 1e-4 < small["error"] <= both["error"] < 0.05
    assert small["weights_mb"] < exact["weights_mb"] and result["utterances"] == 6
