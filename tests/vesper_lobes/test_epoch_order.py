"""An epoch's order: every utterance once, few shards at a time, the same for any process count."""

import numpy as np
import pandas as pd
import pytest
from speechbrain.dataio.sampler import DistributedSamplerWrapper, ReproducibleRandomSampler

from vesper_lobes.epoch_order import ShardSampler, epoch_order
from vesper_lobes.pretrain_data import CropReader, crop_dataset

SHARDS = (70, 3, 0, 41, 86, 1, 55)  # utterances: uneven, one of them without any


@pytest.fixture
def dataset():
    """Rows whose IDs run against the order in which they were written."""
    places = [(shard, k) for shard, count in enumerate(SHARDS) for k in range(count)]
    rows = {
        "ID": [f"u{999 - n}" for n in range(len(places))],
        "wav": [f"/s/shard-{s:06d}.tar[{900 * k}:{900 * k + 9}]" for s, k in places],
    }
    rows = pd.DataFrame({**rows, "start": 0, "stop": -1})
    return crop_dataset(rows, CropReader(1.0, seed=0))


def shards_of(dataset, order):
    return [dataset.data.wavs[number].split(".tar")[0] for number in order]


def test_without_shuffling_as_they_were_written(dataset):
    order = list(epoch_order(dataset, shuffle=False, seed=0))
    assert [dataset.data_ids[n] for n in order] == [f"u{999 - n}" for n in range(256)]


def test_every_utterance_once_and_another_order_each_epoch(dataset):
    sampler = ShardSampler(dataset, True, seed=1, buffer=20)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(256)) and list(sampler) == orders[-1]
    assert orders[0] != orders[1] != orders[2]
    assert list(ShardSampler(dataset, True, seed=2, buffer=20)) != orders[0]


def test_utterances_move_within_the_buffer(dataset):
    still, moved = (ShardSampler(dataset, True, seed=1, buffer=size).order() for size in (0, 20))
    assert len({*shards_of(dataset, still[:100])}) <= 5
    runs = np.flatnonzero(np.diff([hash(s) for s in shards_of(dataset, still)]))
    assert len(runs) == 5  # six shards with utterances, one after the other
    distance = np.abs(np.argsort(still) - np.argsort(moved))
    assert 4 < distance.mean() and distance.max() <= 20


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_hear_together_what_one_hears(dataset, processes):
    for sampler in (ShardSampler(dataset, True, seed=1), ReproducibleRandomSampler(dataset)):
        parts = [
            DistributedSamplerWrapper(
                sampler, num_replicas=processes, rank=rank, drop_last=True, shuffle=False
            )
            for rank in range(processes)
        ]
        for epoch in (1, 2):
            for part in parts:
                part.set_epoch(epoch)
            orders, whole = [list(part) for part in parts], list(sampler)
            for step in range(256 // (8 * processes)):
                together = [n for order in orders for n in order[8 * step : 8 * step + 8]]
                first = 8 * processes * step
                assert sorted(together) == sorted(whole[first : first + 8 * processes])


def test_files_are_shuffled_as_speechbrain_does(dataset):
    rows = {"ID": list("abcdefgh"), "wav": "/speech/a.wav", "start": 0, "stop": -1}
    files = crop_dataset(pd.DataFrame(rows), CropReader(1.0, seed=0))
    assert list(epoch_order(files, True, 5)) == list(ReproducibleRandomSampler(files, seed=5))
    assert list(epoch_order(files, False, 5)) == list(range(8))
    with pytest.raises(ValueError, match="/speech/a.wav is in no shard"):
        ShardSampler(files, True, 5)
