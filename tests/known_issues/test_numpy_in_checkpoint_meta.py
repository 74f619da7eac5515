"""A numpy number in a checkpoint's meta saves and then stops every later load; our scores and
learning rates are plain floats, so a checkpoint that carries them comes back."""

import numpy as np
import pytest
import torch
from speechbrain.utils.checkpoints import Checkpointer

from vesper_lobes.metrics import ece, scores
from vesper_lobes.scheduler import WarmupCosine


def saved(folder, meta):
    model = torch.nn.Linear(2, 2)
    Checkpointer(folder, {"model": model}).save_checkpoint(meta=meta)
    return Checkpointer(folder, {"model": model}).recover_if_possible(max_key="UA")


def test_our_figures_survive(tmp_path):
    meta = scores([0, 1, 1], [0, 1, 0], 2)
    meta["ECE"] = ece([[0.5, 0.5]], [0])
    meta["lr"] = WarmupCosine(np.float64(1.0), np.float64(0.1), 5)(3)[1]
    assert saved(tmp_path, meta).meta["UA"] == meta["UA"]


def test_the_trap_is_still_there(tmp_path):
    with pytest.raises(Exception, match="numpy"):
        saved(tmp_path, {"UA": np.float64(0.5)})
