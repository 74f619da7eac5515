import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from vesper_lobes.pretrain_data import CropReader, crop_dataset, drop_short, split_rows


@pytest.fixture
def counting_file(tmp_path):
    """Four seconds whose samples tell their own place: sample n is n / 64000."""
    path = str(tmp_path / "ramp.wav")
    soundfile.write(path, np.arange(64000) / 64000, 16000, subtype="FLOAT")
    return path


def place(crop):
    return round(float(crop[0]) * 64000)


def test_crops_are_keyed_by_seed_epoch_and_id(counting_file):
    reader = CropReader(1.0, seed=0)
    first = reader("a", counting_file)
    assert first.shape == (16000,) and torch.equal(first, reader("a", counting_file))
    places = {place(first), place(reader("b", counting_file))}
    reader.set_epoch(1)
    places.add(place(reader("a", counting_file)))
    places.add(place(CropReader(1.0, seed=1)("a", counting_file)))
    assert len(places) == 4


def test_fixed_crops_stay(counting_file):
    reader = CropReader(1.0, seed=0, fixed=True)
    first = reader("a", counting_file)
    reader.set_epoch(5)
    assert torch.equal(first, reader("a", counting_file))


def test_crops_cover_the_file_and_stay_inside(counting_file):
    reader = CropReader(1.0, seed=0)
    places = [place(reader(str(k), counting_file)) for k in range(200)]
    assert min(places) < 3000 and max(places) > 45000 and max(places) <= 48000
    inside = [place(reader(str(k), counting_file, 20000, 40000)) for k in range(50)]
    assert min(inside) >= 20000 and max(inside) <= 24000


def test_short_files_come_whole(counting_file):
    assert CropReader(5.0, seed=0)("a", counting_file).shape == (64000,)
    assert CropReader(5.0, seed=0)("a", counting_file, 100, 900).shape == (800,)


def test_too_short_is_an_error_with_a_name(counting_file):
    with pytest.raises(ValueError, match="ramp.wav"):
        CropReader(1.0, seed=0)("a", counting_file, 0, 399)


def test_other_rates_and_speeds_give_the_same_length(tmp_path):
    path = str(tmp_path / "a.flac")
    tone = np.sin(np.arange(88200) / 44100 * 2 * np.pi * 1000)
    soundfile.write(path, 0.5 * np.stack([tone, tone], 1), 44100)
    for speed in (0.9, 1.0, 1.1):
        crop = CropReader(1.0, seed=0, speeds=[speed])("a", path)
        assert abs(crop.shape[0] - 16000) <= 1
        peak = torch.fft.rfft(crop[:16000]).abs().argmax()
        assert abs(float(peak) * 16000 / len(crop[:16000]) - 1000 * speed) < 5
    with pytest.raises(ValueError, match="speeds"):
        CropReader(1.0, seed=0, speeds=[0.97])


def test_gain_moves_within_its_bounds(counting_file):
    whole = CropReader(9.0, seed=0)("a", counting_file)
    for k in range(20):
        loud = CropReader(9.0, seed=k, gain_db=6.0)("a", counting_file)
        ratio = float(loud[-1] / whole[-1])
        assert 0.5 < ratio < 2.0 and ratio != 1.0


def test_a_dataset_knows_its_epoch(counting_file):
    rows = pd.DataFrame({"ID": ["a", "b"], "wav": counting_file, "start": 0, "stop": -1})
    dataset = crop_dataset(rows, CropReader(1.0, seed=0))
    before = dataset[0]["sig"]
    assert dataset[0]["id"] == "a" and len(dataset) == 2
    dataset.reader.set_epoch(2)
    assert not torch.equal(before, dataset[0]["sig"])
    assert crop_dataset(rows[:0], CropReader(1.0, seed=0)) is None


def test_held_out_rows_are_the_same_whatever_else_is_there():
    rows = pd.DataFrame({"ID": [f"utterance{k}" for k in range(500)]})
    train, valid = split_rows(rows, 0.1)
    assert 25 < len(valid) < 80 and len(train) + len(valid) == 500
    _, of_half = split_rows(rows[::2], 0.1)
    assert set(of_half["ID"]) - set(valid["ID"]) == set()
    assert len(split_rows(rows, 0.0)[1]) == 0
    train, valid = split_rows(rows[:2], 0.01)
    assert len(train) == len(valid) == 1


def test_short_rows_are_named():
    rows = pd.DataFrame({"ID": ["a", "b"], "duration": [0.02, 1.0]})
    kept, short = drop_short(rows)
    assert list(kept["ID"]) == ["b"] and short == ["a"]


def test_rows_are_found_by_id_and_by_number():
    names = ["b", "ä/1", "a.2", "Z"]
    rows = pd.DataFrame({"ID": names, "wav": names, "start": [1, 2, 3, 4], "stop": -1})
    dataset = crop_dataset(rows, lambda name, wav, start, stop: (name, wav, start, stop))
    assert list(dataset.data_ids) == sorted(names) and dataset.data_ids[1:] == sorted(names)[1:]
    for number, name in enumerate(dataset.data_ids):
        assert dataset[number]["sig"] == (name, name, 1 + names.index(name), -1)
        assert dataset.data[name] == dataset.data.row(number)
    with pytest.raises(KeyError, match="nobody"):
        dataset.data["nobody"]
    kept = dataset.filtered_sorted(key_test={"start": lambda start: start > 2})  # SpeechBrain's own
    assert [kept[k]["id"] for k in range(len(kept))] == ["Z", "a.2"]
