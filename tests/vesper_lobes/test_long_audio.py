"""Windows over long recordings: exact where they claim to be, and bounded in memory."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vesper_lobes.conv import ConvFrontEnd
from vesper_lobes.encoder import Encoder
from vesper_lobes.long_audio import encode_long, frame_windows, pool_long

ROOT = Path(__file__).resolve().parents[2]
TEN_MINUTES = """
import resource, torch
from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.long_audio import pool_long
encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2, conv_dim=(32,) * 7)).freeze()
wav = torch.randn(600 * 16000)
pool_long(encoder, wav[:320000], window_seconds=10)  # what libraries take once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(pool_long(encoder, wav, window_seconds=10).shape)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "frames, window, context", [(1, 5, 2), (10, 4, 1), (99, 10, 30), (7, 7, 0)]
)
def test_windows_cover_every_frame_once(frames, window, context):
    windows = frame_windows(frames, window, context)
    kept = [frame for _, start, stop, _ in windows for frame in range(start, stop)]
    assert kept == list(range(frames))
    assert all(stop - start <= window for _, start, stop, _ in windows)
    for first, start, stop, last in windows:
        assert first == max(0, start - context) and last == min(frames, stop + context)


@pytest.mark.parametrize("kind", ["wavlm_large", "wavlm_base", "hubert_large"])
def test_one_window_is_the_whole_pass(kind, tiny_config):
    encoder = Encoder(tiny_config(kind)).freeze()
    wav = torch.randn(3 * 16000)
    whole = encoder(wav.unsqueeze(0))
    ours = encode_long(encoder, wav, window_seconds=10.0)
    assert torch.equal(ours.lengths, whole.lengths)
    for a, b in zip(ours.states, whole.states, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_state_0_is_exact_with_context_and_pooling_is_the_mean(tiny_config):
    """Projection and positional convolution reach no further than the context."""
    encoder = Encoder(tiny_config("wavlm_large")).freeze()  # positional kernel of 16 frames
    wav = torch.randn(16000 * 4) * torch.linspace(0.01, 1, 64000)  # louder and louder
    whole = encoder(wav.unsqueeze(0))
    options = dict(window_seconds=0.7, context_seconds=0.2)
    ours = encode_long(encoder, wav, **options)
    assert (ours.states[0] - whole.states[0]).abs().max() <= 1e-5 * whole.states[0].abs().max()
    assert (ours.states[1] - whole.states[1]).abs().max() > 1e-4  # attention does see less
    pooled = torch.stack([state[0].mean(0) for state in ours.states])
    assert torch.allclose(pool_long(encoder, wav, **options), pooled, atol=1e-5)


def test_it_says_so_and_refuses_what_is_too_short(tiny_config, caplog):
    encoder = Encoder(tiny_config("wavlm_large")).freeze()
    with caplog.at_level(logging.INFO, "vesper_lobes.long_audio"):
        pool_long(encoder, torch.randn(32000), window_seconds=0.5, name="talk.wav")
    assert "talk.wav: 2 s are encoded in 4 windows of 0.5 s" in caplog.text
    with pytest.raises(ValueError, match="talk.wav: 399 samples"):
        pool_long(encoder, torch.randn(399), name="talk.wav")


def test_ten_minutes_take_no_more_memory_than_twenty_seconds():
    """A whole pass would hold 30,000 x 30,000 attention weights: 14 GB for these four heads."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TEN_MINUTES], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    shape, kilobytes = done.stdout.strip().splitlines()
    assert "[3, 192]" in shape
    assert int(kilobytes) < 300_000  # the waveform's normalisation: a few times its 38 MB


@pytest.mark.parametrize("half", [False, True])
def test_windows_take_the_fast_front_end(half, tiny_config, monkeypatch):
    """The waveform is normalised as a whole, before; the plain front end is never called."""
    encoder = Encoder(tiny_config("wavlm_large", conv_bias=True)).freeze()
    wav = 3 * torch.randn(16000 * 4) + 1  # far from normalised
    options = dict(window_seconds=1.5, context_seconds=0.5)
    encoder.fast = False
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        plain = encode_long(encoder, wav, **options)
        encoder.fast = True
        refuse = staticmethod(lambda *_: pytest.fail("the plain front end"))
        monkeypatch.setattr(ConvFrontEnd, "forward", refuse)
        fast = encode_long(encoder, wav, **options)
    for a, b in zip(fast.states, plain.states, strict=True):
        assert (a - b).abs().max() <= (0.05 if half else 1e-5) * b.abs().max()
