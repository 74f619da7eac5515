"""The cache of frames: the encoder's own states, on disk, in half the bytes, never stale."""

import logging

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.audio import read_audio
from vesper_lobes.emotion_brain import FrameStates, collate
from vesper_lobes.encoder import Encoder
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.frame_cache import FrameStateCache
from vesper_lobes.lengths import n_frames
from vesper_lobes.pooling import LayerMix
from vesper_lobes.shiftformer import ShiftFormerHead

SECONDS = (0.4, 1.0, 0.7, 1.3, 0.5)


@pytest.fixture
def corpus(tmp_path):
    """Five noisy tones of different lengths as a manifest."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.wav" for i in range(len(SECONDS))]
    for path, seconds in zip(paths, SECONDS, strict=True):
        soundfile.write(path, rng.normal(0, 0.1, round(seconds * 16000)), 16000)
    ids = [f"utt{i}" for i in range(len(paths))]
    return pd.DataFrame({"ID": ids, "wav": list(map(str, paths)), "start": 0, "stop": -1})


@pytest.fixture
def encoder(tiny_config):
    return Encoder(tiny_config()).freeze()


def opened(encoder, tmp_path, **settings):
    return FrameStateCache(encoder, tmp_path / "cache", progressbar=False, **settings)


def alone(encoder, row):
    """States (S, T, D) of one utterance, straight from the encoder."""
    with torch.no_grad():
        return torch.cat(encoder(read_audio(row["wav"])[None]).states)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-3)])
def test_holds_the_encoders_states_with_zeros_beyond_the_end(
    dtype, tolerance, encoder, corpus, tmp_path
):
    cache = opened(encoder, tmp_path, dtype=dtype).fill(corpus)
    states, lengths = cache.batch(["utt3", "utt0", "utt2"])
    assert states.shape == (3, 5, n_frames(20800), 32)
    assert lengths.tolist() == [n_frames(round(SECONDS[i] * 16000)) for i in (3, 0, 2)]
    for i, row, length in zip((3, 0, 2), states.float(), lengths, strict=True):
        expected = alone(encoder, corpus.iloc[i])
        assert (row[:, :length] - expected).abs().max() / expected.abs().max() <= tolerance
        assert row[:, length:].eq(0).all()


def test_last_keeps_the_last_state_alone(encoder, corpus, tmp_path):
    everything, _ = opened(encoder, tmp_path).fill(corpus).batch(["utt1"])
    cache = opened(encoder, tmp_path, mix="last").fill(corpus)
    last, _ = cache.batch(["utt1"])
    assert cache.num_states == 1 and torch.equal(last, everything[:, -1:])
    assert LayerMix(1, "last")(last.float()).shape == last[:, 0].shape


def test_means_of_frames_are_the_pooled_cache(encoder, corpus, tmp_path):
    pooled = PooledStateCache(encoder, tmp_path / "pooled", progressbar=False).fill(corpus)
    states, lengths = opened(encoder, tmp_path, dtype="fp32").fill(corpus).batch(corpus["ID"])
    means = states.sum(2) / lengths[:, None, None]
    assert (means - pooled.states()).abs().max() / means.abs().max() <= 1e-5


def test_logits_in_fp16_are_those_in_fp32_to_a_thousandth(encoder, corpus, tmp_path):
    head, mix = ShiftFormerHead(32, 4).eval(), LayerMix(5)
    logits = []
    for dtype in ("fp16", "fp32"):
        states, lengths = opened(encoder, tmp_path, dtype=dtype).fill(corpus).batch(corpus["ID"])
        logits.append(head(mix(states.float()), lengths).detach())
    gap = (logits[0] - logits[1]).abs().max() / logits[1].abs().max()
    assert 0 < gap <= 1e-3


def test_each_utterance_passes_once_and_caches_do_not_mix(encoder, corpus, tmp_path):
    ran = []
    encoder.register_forward_hook(lambda module, inputs, output: ran.append(len(inputs[0])))
    opened(encoder, tmp_path).fill(corpus[:3])
    first = opened(encoder, tmp_path).fill(corpus).batch(corpus["ID"])
    assert sum(ran) == 5
    again = opened(encoder, tmp_path).fill(corpus).batch(corpus["ID"])
    assert sum(ran) == 5 and all(map(torch.equal, first, again))
    opened(encoder, tmp_path, dtype="fp32").fill(corpus)
    opened(encoder, tmp_path, mix="last").fill(corpus)
    opened(encoder, tmp_path, crop_seconds=0.5).fill(corpus)
    assert sum(ran) == 20 and len(list((tmp_path / "cache").glob("frames-*"))) == 4


def test_nothing_is_read_before_a_batch_asks_for_it(encoder, corpus, tmp_path):
    cache = opened(encoder, tmp_path, shard_rows=1, batch_seconds=0.1).fill(corpus)
    assert len(list(cache.store.folder.glob("*.npy"))) == 5
    cache = opened(encoder, tmp_path).fill(corpus)
    cache.batch(["utt1"])
    assert cache.store._kept_map.cache_info().currsize == 1
    assert isinstance(cache.store.runs([cache.keys["utt1"]])[0], np.memmap)


def test_values_beyond_fp16_are_refused_by_name(encoder, corpus, tmp_path):
    with torch.no_grad():
        encoder.encoder.layers[-1].feed_forward.output_dense.bias.fill_(70_000)
    with pytest.raises(ValueError, match=r"utt3: .*3.wav: .*65504: .*--states_dtype fp32"):
        opened(encoder, tmp_path).fill(corpus)
    opened(encoder, tmp_path, dtype="fp32").fill(corpus)


def test_the_size_is_told_and_a_full_disk_refused_before_the_first_pass(
    encoder, corpus, tmp_path, caplog, monkeypatch
):
    ran = []
    encoder.register_forward_hook(lambda *_: ran.append(1))
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
        with pytest.raises(ValueError, match="do not fit.*--mix last"):
            opened(encoder, tmp_path).fill(corpus)
    assert not ran
    with caplog.at_level(logging.INFO):
        cache = opened(encoder, tmp_path).fill(corpus)
    assert "5 utterances, 0.1 min, frames all fp16" in caplog.text
    told = float(caplog.text.split(" GB of frames")[0].split()[-1])
    written = sum(path.stat().st_size for path in cache.store.folder.glob("*.npy"))
    assert told == pytest.approx(written / 1e9, abs=0.006)


def test_unknown_settings_are_refused(encoder, tmp_path):
    for wrong in ({"mix": "first"}, {"dtype": "int8"}):
        with pytest.raises(ValueError, match="weighted_sum.*fp16"):
            opened(encoder, tmp_path, **wrong)


def test_batches_of_the_dataset_are_the_rows_asked_for(encoder, corpus, tmp_path):
    cache = opened(encoder, tmp_path).fill(corpus)
    subset = FrameStates(cache, torch.arange(5), rows=[4, 0, 3])
    batch = subset.__getitems__([2, 1])
    assert len(subset) == 3 and batch.targets.tolist() == [3, 0]
    assert torch.equal(batch.states, cache.batch(["utt3", "utt0"])[0])
    assert torch.equal(batch.lengths, cache.batch(["utt3", "utt0"])[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_give_the_same_batches(workers, encoder, corpus, tmp_path):
    cache = opened(encoder, tmp_path).fill(corpus)
    subset = FrameStates(cache, torch.arange(5), rows=[4, 0, 3])
    options = dict(batch_size=2, num_workers=workers, collate_fn=collate)
    batches = list(torch.utils.data.DataLoader(subset, **options))
    assert [batch.targets.tolist() for batch in batches] == [[4, 0], [3]]
    assert torch.equal(batches[0].states, cache.batch(["utt4", "utt0"])[0])
