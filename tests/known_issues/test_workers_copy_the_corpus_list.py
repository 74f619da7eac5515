"""Trap: a loader's workers copy a corpus kept in a dictionary of dictionaries, row by row.

A worker begins with its parent's memory and copies what it writes to; to look at a Python object is
to write to its reference count. With a million rows each worker ends up with a gigabyte of its own.
Rows kept in arrays stay shared. (So does the rest of the parent's memory, where garbage collection
in the worker leaves it alone.)
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from torch.utils.data import DataLoader

from vesper_lobes.pretrain_data import crop_dataset, spare_parents_memory

SMAPS = Path("/proc/self/smaps_rollup")
ROWS = 60_000


def look(name, wav, start, stop):
    """In a reader's place: sees every field."""
    return torch.tensor(len(name) + len(wav) + start + stop)


def own_megabytes(_items):
    """Memory that this process shares with no other; called in the worker, as a collate_fn."""
    fields = (line.split() for line in SMAPS.read_text().splitlines())
    return sum(int(field[1]) for field in fields if field[0] == "Private_Dirty:") / 1024


def growth(dataset):
    """MB that a worker gains between its first and last batch."""
    options = dict(batch_size=1000, num_workers=1, collate_fn=own_megabytes)
    seen = list(DataLoader(dataset, worker_init_fn=spare_parents_memory, **options))
    return seen[-1] - seen[0]


def measured():
    """Growth of a worker over dictionaries of rows, and over rows in arrays."""
    names = [f"speaker/video/utterance{k:08d}" for k in range(ROWS)]
    rows = pd.DataFrame({"ID": names, "wav": [f"/data/{name}.wav" for name in names]})
    rows = rows.assign(start=0, stop=-1)
    data = {row.pop("ID"): row for row in rows.to_dict("records")}
    dictionaries = DynamicItemDataset(data)
    dictionaries.add_dynamic_item(look, ["id", "wav", "start", "stop"], "sig")
    dictionaries.set_output_keys(["id", "sig"])
    return growth(dictionaries), growth(crop_dataset(rows, look))


@pytest.mark.skipif(not SMAPS.exists(), reason="memory maps are Linux's")
def test_rows_in_arrays_are_not_copied():
    """In a process of its own: a worker of a long test run also copies what that left behind."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True)
    dictionaries, arrays = map(float, done.stdout.split())
    assert dictionaries > 8  # the trap, and that this test would see it
    assert arrays < 2


if __name__ == "__main__":
    print(*measured())
