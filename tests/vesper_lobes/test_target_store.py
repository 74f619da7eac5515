"""The store of teacher outputs: equal to the teacher, resumable, never stale, checked."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.pretrain_data import CropReader
from vesper_lobes.target_store import TargetStore
from vesper_lobes.teacher import Teacher

SECONDS = [0.5, 1.7, 0.1, 1.2, 0.9]


@pytest.fixture
def rows(tmp_path):
    generator = np.random.default_rng(0)
    records = []
    for number, seconds in enumerate(SECONDS):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, generator.normal(0, 0.1, int(16000 * seconds)), 16000)
        records.append({"ID": f"u{number}", "duration": seconds, "wav": str(path)})
    return pd.DataFrame(records).assign(start=0, stop=-1)


@pytest.fixture
def teacher(tiny_config):
    return Teacher(Encoder(tiny_config("wavlm_large")))


def reader(seconds=1.0, seed=3):
    return CropReader(seconds=seconds, seed=seed, fixed=True)


def make(tmp_path, teacher, **options):
    kind = options.pop("reader", reader())
    return TargetStore(tmp_path / "store", teacher, kind, progressbar=False, **options)


@pytest.mark.parametrize(("dtype", "error"), [("fp16", 1e-3), ("int8", 5e-3)])
def test_equal_to_the_teacher(rows, teacher, tmp_path, dtype, error):
    store = make(tmp_path, teacher, dtype=dtype).fill(rows, batch_seconds=2)
    stored = store.batch(["u1", "u2", "u4"])
    for row, name in enumerate(["u1", "u2", "u4"]):
        wav = reader()(*rows.set_index("ID").loc[[name]].reset_index()[["ID", "wav"]].iloc[0])
        features, lengths = teacher.encoder.cnn(wav[None])
        expected = [features, *teacher(wav[None])]
        assert stored.lengths[row] == lengths[0]
        for ours, theirs in zip([stored.features, *stored.targets], expected, strict=True):
            ours = ours[row, : lengths[0]]
            assert (ours - theirs[0]).abs().max() < error * theirs.abs().max()


def test_padding_is_zero(rows, teacher, tmp_path):
    stored = make(tmp_path, teacher).fill(rows).batch(["u1", "u2"])
    short = int(stored.lengths[1])
    assert short < stored.features.shape[1]
    for part in (stored.features, *stored.targets):
        assert not part[1, short:].any()


def test_nothing_is_computed_twice(rows, teacher, tmp_path, monkeypatch):
    make(tmp_path, teacher).fill(rows)
    again = make(tmp_path, teacher)
    monkeypatch.setattr(again, "_compute", lambda *_: pytest.fail("computed again"))
    assert again.fill(rows).batch(["u0"]).features.shape[0] == 1


def test_two_processes_share_the_work(rows, teacher, tmp_path):
    first, second = make(tmp_path, teacher), make(tmp_path, teacher)
    first.fill(rows, rank=0, world_size=2)
    assert len(first.index) == 3
    second.index.clear(), second.known.clear()
    second.fill(rows, rank=1, world_size=2)
    first.refresh()
    whole = make(tmp_path / "alone", teacher).fill(rows)
    for ours, theirs in zip(first.batch(list(rows.ID)), whole.batch(list(rows.ID)), strict=True):
        if torch.is_tensor(ours):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_interrupted_fill_keeps_what_was_done(rows, teacher, tmp_path):
    broken = rows.copy()
    broken.loc[2, "wav"] = str(tmp_path / "bad.wav")  # the shortest comes last
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match="bad.wav"):
        make(tmp_path, teacher).fill(broken, batch_seconds=1)
    assert len(make(tmp_path, teacher).index) == 4


@pytest.mark.parametrize("change", ["teacher", "crop", "seed", "audio", "dtype"])
def test_never_stale(rows, teacher, tmp_path, change):
    make(tmp_path, teacher).fill(rows)
    options = {}
    if change == "teacher":
        with torch.no_grad():
            teacher.encoder.encoder.layers[0].layer_norm.weight += 0.1
    if change == "crop":
        options["reader"] = reader(seconds=0.9)
    if change == "seed":
        options["reader"] = reader(seed=4)
    if change == "audio":
        soundfile.write(rows["wav"][0], np.ones(9000) * 0.1, 16000)
    if change == "dtype":
        options["dtype"] = "int8"
    store = make(tmp_path, teacher, **options)
    before = set(store.index)
    store.fill(rows)
    assert len(set(store.index) - before) == (1 if change == "audio" else 5)


def test_a_changed_byte_is_found(rows, teacher, tmp_path):
    store = make(tmp_path, teacher).fill(rows)
    shard = next(store.folder.glob("*.bin"))
    content = bytearray(shard.read_bytes())
    content[1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=f"{shard.name}.*checksum"):
        make(tmp_path, teacher).fill(rows).batch(list(rows["ID"]))


def test_size_is_told_before(rows, teacher, tmp_path):
    for dtype in ("fp16", "int8"):
        store = make(tmp_path, teacher, dtype=dtype)
        told = store.bytes_of(rows)
        store.fill(rows)
        assert told == sum(path.stat().st_size for path in store.folder.glob("*.bin"))


def test_bad_use_is_refused(rows, teacher, tmp_path):
    with pytest.raises(ValueError, match="fixed_crops"):
        make(tmp_path, teacher, reader=CropReader(1.0, seed=0))
    with pytest.raises(ValueError, match="int4"):
        make(tmp_path, teacher, dtype="int4")
    with pytest.raises(KeyError, match="u9"):
        make(tmp_path, teacher).fill(rows).batch(["u9"])
    with torch.no_grad():
        teacher.encoder.encoder.layers[3].feed_forward.output_dense.bias += 1e6
    with pytest.raises(ValueError, match="int8 has no such limit"):
        make(tmp_path, teacher).fill(rows)
