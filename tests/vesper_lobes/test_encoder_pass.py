"""Utterances longer than a minute in the caches: in windows, and under a key of their own."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes import encoder_pass
from vesper_lobes.audio import read_audio
from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.encoder import Encoder
from vesper_lobes.encoder_pass import Job
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.frame_cache import FrameStateCache
from vesper_lobes.long_audio import encode_long, pool_long

SECONDS = {"long": 61.0, "short": 1.2, "other": 0.8}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A minute and a second, and two short clips."""
    folder, random = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    paths = [str(folder / f"{name}.wav") for name in SECONDS]
    for path, seconds in zip(paths, SECONDS.values(), strict=True):
        soundfile.write(path, random.normal(0, 0.1, round(seconds * 16000)), 16000)
    return pd.DataFrame({"ID": list(SECONDS), "wav": paths, "start": 0, "stop": -1})


@pytest.fixture(params=["wavlm_large", "wavlm_base"])
def encoder(request, tiny_config):
    return Encoder(tiny_config(request.param, num_hidden_layers=2)).freeze()


def opened(kind, encoder, folder, **options):
    return kind(encoder, folder, progressbar=False, **options)


def waveform(corpus, number):
    return read_audio(corpus["wav"][number])


def test_pooled_states(encoder, corpus, tmp_path):
    """To the last bit, on both sides of the limit."""
    cache = opened(PooledStateCache, encoder, tmp_path, batch_seconds=0.1).fill(corpus)
    assert torch.equal(cache["long"], pool_long(encoder, waveform(corpus, 0)))
    frames = encoder(waveform(corpus, 1).unsqueeze(0)).states
    means = torch.stack([state[0].sum(0) / state.shape[1] for state in frames])
    torch.testing.assert_close(cache["short"], means, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mix", ["weighted_sum", "last"])
def test_frames(mix, encoder, corpus, tmp_path):
    options = dict(mix=mix, dtype="fp32", batch_seconds=400.0)  # room for all in one batch
    cache = opened(FrameStateCache, encoder, tmp_path, **options).fill(corpus)
    states, lengths = cache.batch(["long"])
    expected = encode_long(encoder, waveform(corpus, 0))
    assert torch.equal(lengths, expected.lengths)
    expected = torch.stack(expected.states, dim=1)  # (1, S, T, D)
    assert torch.equal(states, expected if mix == "weighted_sum" else expected[:, -1:])
    short = [waveform(corpus, number) for number in (1, 2)]  # a batch, as if there were no other
    together = torch.nn.utils.rnn.pad_sequence(short, batch_first=True)
    whole = encoder(together, torch.tensor([1.0, 0.8 / 1.2]))
    for row, name in enumerate(("short", "other")):
        frames = whole.lengths[row]
        assert torch.equal(cache.batch([name])[0][0, -1], whole.states[-1][row, :frames])


def test_old_states_of_long_files_are_not_served_and_others_are(corpus, tmp_path, tiny_config):
    encoder = Encoder(tiny_config("wavlm_large", num_hidden_layers=2)).freeze()
    pooled = opened(PooledStateCache, encoder, tmp_path)
    assert pooled.encoding.keys(corpus[1:]) == audio_keys(corpus[1:])
    old = audio_keys(corpus)
    pooled.store.add(old, np.zeros((3, 3, 32), np.float32), [1, 1, 1])
    pooled.fill(corpus)
    assert pooled["long"].any() and not pooled["short"].any()


def test_other_windows_have_another_key(corpus, tmp_path, tiny_config, monkeypatch):
    encoder = Encoder(tiny_config("wavlm_large", num_hidden_layers=2)).freeze()
    keys = opened(PooledStateCache, encoder, tmp_path).encoding.keys
    found = [keys(corpus)]
    for name in ("WINDOW_SECONDS", "CONTEXT_SECONDS"):
        monkeypatch.setattr(encoder_pass, name, 5.0)
        found.append(keys(corpus))
    assert len({long for long, *_ in found}) == 3
    assert len({tuple(short) for _, *short in found}) == 1


def test_crops_decide_and_a_minute_passes_whole(corpus, tmp_path, tiny_config):
    encoder = Encoder(tiny_config("wavlm_large", num_hidden_layers=2)).freeze()
    cropped = opened(PooledStateCache, encoder, tmp_path, crop_seconds=1.0)
    assert cropped.encoding.keys(corpus) == audio_keys(corpus)
    head = waveform(corpus, 0)[:16000].unsqueeze(0)
    expected = encoder(head).states[-1][0].mean(0)
    torch.testing.assert_close(cropped.fill(corpus[:1])["long"][-1], expected)
    assert not Job("a", "a.wav", 0, -1, 60.0).is_long and Job("a", "a.wav", 0, -1, 60.1).is_long
