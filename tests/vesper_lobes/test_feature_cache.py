"""The pooled-state cache: exact, never stale, resumable."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.audio import read_audio
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.encoder import Encoder
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.heads import SuperbHead
from vesper_lobes.pooling import LayerMix, masked_mean

SECONDS = (0.4, 1.0, 0.7, 1.3, 0.5)


@pytest.fixture
def corpus(tmp_path):
    """Five noisy tones of different lengths as a manifest."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "wav" / f"{i}.wav" for i in range(len(SECONDS))]
    paths[0].parent.mkdir()
    for path, seconds in zip(paths, SECONDS, strict=True):
        time_axis = np.arange(round(seconds * 16000)) / 16000
        tone = np.sin(2 * np.pi * rng.uniform(100, 900) * time_axis)
        soundfile.write(path, 0.3 * tone + rng.normal(0, 0.05, len(tone)), 16000)
    ids = [f"utt{i}" for i in range(len(paths))]
    return pd.DataFrame({"ID": ids, "wav": list(map(str, paths)), "start": 0, "stop": -1})


@pytest.fixture(params=["wavlm_large", "wavlm_base"])
def encoder(request, tiny_config):
    """Random weights, large enough that the states of its layers differ as trained ones do."""
    encoder = Encoder(tiny_config(request.param))
    with torch.no_grad():
        for name, parameter in encoder.encoder.layers.named_parameters():
            if name.endswith("weight") and "norm" not in name:
                parameter.mul_(10)
    return encoder.freeze()


def passes(encoder):
    """List that grows by the number of rows each time the encoder runs."""
    counted = []
    encoder.register_forward_hook(lambda module, inputs, output: counted.append(len(inputs[0])))
    return counted


def gap(ours, theirs):
    """Largest difference, relative to the largest value."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max())


def opened(encoder, tmp_path, **settings):
    return PooledStateCache(encoder, tmp_path / "cache", progressbar=False, **settings)


def test_head_on_cache_equals_head_on_frames(encoder, corpus, tmp_path):
    """Outputs and gradients of mix and head, 1e-5: the promise the cache rests on."""
    mix = LayerMix(encoder.num_layers + 1)
    head = SuperbHead(encoder.hidden_size, 4)
    torch.nn.init.normal_(mix.weights)
    trained, targets = [*mix.parameters(), *head.parameters()], torch.tensor([0, 1, 2, 3, 1])

    wavs = [read_audio(path) for path in corpus["wav"]]
    lengths = torch.tensor([len(wav) for wav in wavs])
    batch = torch.nn.utils.rnn.pad_sequence(wavs, batch_first=True)
    out = encoder(batch, lengths / batch.shape[1])
    projected = head.projector(mix(out.states))  # (B, T, 256), every frame
    on_frames = head.classifier(masked_mean(projected, out.lengths))
    on_cache = head(mix(opened(encoder, tmp_path).fill(corpus).states()))

    compared = []
    for logits in (on_cache, on_frames):
        loss = torch.nn.functional.cross_entropy(logits, targets)
        compared.append([logits, *torch.autograd.grad(loss, trained)])
    for ours, theirs in zip(*compared, strict=True):
        assert gap(ours, theirs) <= 1e-5


def test_batched_equals_single(encoder, corpus, tmp_path):
    together = opened(encoder, tmp_path / "a").fill(corpus).states()
    alone = opened(encoder, tmp_path / "b", batch_seconds=0.1).fill(corpus).states()
    assert gap(together, alone) <= 1e-5


def test_each_utterance_passes_once(encoder, corpus, tmp_path):
    counted = passes(encoder)
    cache = opened(encoder, tmp_path).fill(corpus.iloc[:3])
    cache.fill(corpus)
    assert sum(counted) == 5
    assert torch.equal(opened(encoder, tmp_path).fill(corpus).states(), cache.states())
    assert sum(counted) == 5 and len(cache) == 5 and "utt4" in cache


def test_order_is_the_callers(encoder, corpus, tmp_path):
    cache = opened(encoder, tmp_path).fill(corpus)
    states = cache.states(["utt3", "utt0"])
    assert torch.equal(states[0], cache["utt3"]) and torch.equal(states[1], cache["utt0"])
    backwards = opened(encoder, tmp_path).fill(corpus.iloc[::-1])
    assert torch.equal(backwards.states(), cache.states().flip(0))
    with pytest.raises(KeyError, match="fill"):
        cache["nobody"]


def test_crop_is_applied_before_the_encoder(encoder, corpus, tmp_path):
    cropped = opened(encoder, tmp_path, crop_seconds=0.6).fill(corpus)["utt3"]
    by_part = corpus.assign(stop=9600)[3:4]
    assert gap(cropped, opened(encoder, tmp_path).fill(by_part)["utt3"]) <= 1e-5
    centre = opened(encoder, tmp_path, crop_seconds=0.6, crop_rule="centre").fill(corpus)["utt3"]
    assert not torch.allclose(cropped, centre, rtol=1e-3)


def test_parts_of_one_file_are_kept_apart_and_equal_audio_is_computed_once(
    encoder, corpus, tmp_path
):
    counted = passes(encoder)
    one = corpus[3:4]
    parts = pd.concat(
        [
            one.assign(ID="a", stop=8000),
            one.assign(ID="b", start=8000),
            one.assign(ID="c", stop=8000),
        ]
    )
    cache = opened(encoder, tmp_path).fill(parts)
    assert sum(counted) == 2 and torch.equal(cache["a"], cache["c"])
    assert not torch.allclose(cache["a"], cache["b"], rtol=1e-3)


def test_precision_is_the_caches_not_the_callers(tiny_config, corpus, tmp_path):
    # 16 channels a group: oneDNN's bf16 grouped convolution is wrong below that (torch 2.11, AMX)
    encoder = Encoder(tiny_config(num_conv_pos_embedding_groups=2)).freeze()
    plain = opened(encoder, tmp_path / "a").fill(corpus).states()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = opened(encoder, tmp_path / "b").fill(corpus).states()
    assert torch.equal(plain, within)
    half = opened(encoder, tmp_path / "a", precision="bf16").fill(corpus).states()
    assert half.dtype == torch.float32 and 0 < gap(half, plain) < 0.05


def test_a_bad_file_is_named_and_costs_nothing_else(encoder, corpus, tmp_path):
    counted = passes(encoder)
    corpus["duration"] = SECONDS
    soundfile.write(corpus["wav"][0], np.full(9000, np.nan), 16000, subtype="FLOAT")  # read last
    cache = opened(encoder, tmp_path, batch_seconds=0.1)
    with pytest.raises(ValueError, match="utt0: .*0.wav: holds NaN"):
        cache.fill(corpus)
    assert sum(counted) == 4
    opened(encoder, tmp_path).fill(corpus[1:])
    assert sum(counted) == 4


def test_too_short_audio_is_named(encoder, corpus, tmp_path):
    with pytest.raises(ValueError, match="utt2: .*24.9 ms, shorter than one frame"):
        opened(encoder, tmp_path).fill(corpus.assign(stop=[-1, -1, 399, -1, -1]))


def test_other_sample_rates_fit(encoder, corpus, tmp_path):
    tone = 0.3 * np.sin(np.arange(22050) / 20)
    soundfile.write(corpus["wav"][1], tone, 22050)
    assert torch.isfinite(opened(encoder, tmp_path).fill(corpus).states()).all()


def test_encoder_must_be_at_rest_and_stay_itself(tiny_config, corpus, tmp_path):
    encoder = Encoder(tiny_config())
    with pytest.raises(ValueError, match="train mode"):
        opened(encoder.train(), tmp_path)
    cache = opened(encoder.eval(), tmp_path)
    with torch.no_grad():
        encoder.masked_spec_embed.add_(1)
    with pytest.raises(ValueError, match="weights changed"):
        cache.fill(corpus)


def test_same_id_twice_is_refused(encoder, corpus, tmp_path):
    with pytest.raises(ValueError, match="utt0: this ID is there twice"):
        opened(encoder, tmp_path).fill(corpus.assign(ID="utt0"))


SLOW_RUN = """
import sys, time, pandas, torch
from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.feature_cache import PooledStateCache
encoder = load_encoder(sys.argv[1]).freeze()
encoder.register_forward_hook(lambda *_: time.sleep(0.2))
rows = pandas.read_csv(sys.argv[2])
cache = PooledStateCache(encoder, sys.argv[3], batch_seconds=0.1, shard_rows=1)
cache.fill(rows)
"""


def test_killed_run_goes_on_where_it_stopped(tiny_config, corpus, tmp_path):
    encoder = Encoder(tiny_config()).freeze()
    save_encoder(encoder, tmp_path / "encoder")
    corpus.to_csv(tmp_path / "rows.csv", index=False)
    arguments = [str(tmp_path / name) for name in ("encoder", "rows.csv", "cache")]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([sys.executable, "-c", SLOW_RUN, *arguments], env=environment)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("cache/*/shards/*.json"))) < 2:
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()

    counted = passes(encoder)
    cache = opened(encoder, tmp_path)
    kept = len(cache.store)
    assert 2 <= kept < 5
    resumed = cache.fill(corpus).states()
    assert sum(counted) == 5 - kept
    anew = opened(encoder, tmp_path / "other").fill(corpus).states()
    assert gap(resumed, anew) <= 1e-5


def test_real_speech(encoder, test_data, tmp_path):
    manifest = pd.read_csv(test_data / "emodb4" / "manifest.csv")[:6]
    wavs = [str(test_data / "emodb4" / name) for name in manifest["file"]]
    rows = pd.DataFrame({"ID": manifest["file"], "wav": wavs, "start": 0, "stop": -1})
    cache = opened(encoder, tmp_path, crop_seconds=3.0).fill(rows)
    wav = read_audio(wavs[2])[:48000]
    out = encoder(wav.unsqueeze(0))
    alone = torch.stack([state[0].mean(0) for state in out.states])
    assert gap(cache[manifest["file"][2]], alone) <= 1e-5
