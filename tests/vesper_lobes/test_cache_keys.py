"""Keys change with everything that changes a feature, and with nothing else."""

import dataclasses
import shutil

import pandas as pd
import pytest

from vesper_lobes.cache_keys import CacheSettings, audio_keys

SETTINGS = CacheSettings("pooled", weights="a" * 64, do_normalize=True, crop_seconds=6.5)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "frames"},
        {"weights": "b" * 64},
        {"do_normalize": False},
        {"crop_seconds": 4.5},
        {"crop_seconds": None},
        {"crop_rule": "centre"},
        {"sample_rate": 8000},
        {"precision": "bf16"},
        {"version": 2},
    ],
)
def test_every_setting_counts(change):
    assert dataclasses.replace(SETTINGS, **change).key() != SETTINGS.key()


def test_what_makes_no_difference_does_not_count():
    whole = dataclasses.replace(SETTINGS, crop_seconds=None)
    assert whole.key() == dataclasses.replace(whole, crop_rule="centre").key()
    three = dataclasses.replace(SETTINGS, crop_seconds=3)
    assert three.key() == dataclasses.replace(SETTINGS, crop_seconds=3.0).key()


@pytest.mark.parametrize(
    "change", [{"crop_rule": "random"}, {"crop_rule": "end"}, {"precision": "x"}]
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError):
        dataclasses.replace(SETTINGS, **change)


def rows(*paths, start=0, stop=-1):
    ids = [f"u{i}" for i in range(len(paths))]
    return pd.DataFrame({"ID": ids, "wav": list(map(str, paths)), "start": start, "stop": stop})


def test_audio_is_known_by_its_bytes_and_its_part(tmp_path):
    first, copy, other = (tmp_path / name for name in ("a.wav", "moved.wav", "b.wav"))
    first.write_bytes(b"one" * 1000)
    shutil.copy(first, copy)
    other.write_bytes(b"two" * 1000)
    one, same, different = audio_keys(rows(first, copy, other))
    assert one == same != different
    assert audio_keys(rows(first, start=1)) != [one]
    assert audio_keys(rows(first, stop=1)) != [one]
    first.write_bytes(b"one" * 999 + b"onf")  # same length
    assert audio_keys(rows(first)) != [one]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match="u0: .*gone.wav: no such file"):
        audio_keys(rows(tmp_path / "gone.wav"))
    with pytest.raises(ValueError, match="data_root"):
        audio_keys(rows("$data_root/a.wav"))
