"""SpeechBrain's built-in caches never notice a changed model, setting or input and go on serving
what an older run computed; ours is keyed by all three."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.feature_cache import PooledStateCache


@pytest.fixture
def rows(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 16000)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    return pd.DataFrame({"ID": ["a"], "wav": [str(tmp_path / "a.wav")], "start": 0, "stop": -1})


def cached(encoder, rows, tmp_path, **settings):
    return PooledStateCache(encoder, tmp_path / "cache", progressbar=False, **settings).fill(rows)[
        "a"
    ]


def anew(encoder, rows, tmp_path, **settings):
    folder = tmp_path / f"empty{len(list(tmp_path.iterdir()))}"
    return cached(encoder, rows, folder, **settings)


@pytest.mark.parametrize("change", ["weights", "crop", "normalisation", "audio", "part"])
def test_a_change_is_noticed(change, rows, tiny_config, tmp_path):
    encoder, settings = Encoder(tiny_config()).freeze(), {}
    before = cached(encoder, rows, tmp_path)
    if change == "weights":
        with torch.no_grad():
            encoder.feature_projection.projection.bias[0] += 0.5
    elif change == "crop":
        settings = {"crop_seconds": 0.5}
    elif change == "normalisation":
        state = encoder.state_dict()
        encoder = Encoder(tiny_config(do_normalize=False)).freeze()
        encoder.load_state_dict(state)
    elif change == "audio":  # same path, same length
        soundfile.write(rows["wav"][0], np.random.default_rng(1).normal(0, 0.1, 16000), 16000)
    elif change == "part":
        rows = rows.assign(start=4000)
    after = cached(encoder, rows, tmp_path, **settings)
    assert not torch.allclose(before, after, rtol=1e-3, atol=1e-4)
    assert torch.equal(after, anew(encoder, rows, tmp_path, **settings))


def test_a_moved_corpus_is_not_encoded_again(rows, tiny_config, tmp_path):
    encoder = Encoder(tiny_config()).freeze()
    before, ran = cached(encoder, rows, tmp_path), []
    encoder.register_forward_hook(lambda *_: ran.append(1))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "a.wav").rename(tmp_path / "elsewhere" / "b.wav")
    assert torch.equal(cached(encoder, rows.assign(wav=str(moved)), tmp_path), before)
    assert not ran
