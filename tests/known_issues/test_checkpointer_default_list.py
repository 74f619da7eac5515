"""SpeechBrain's ``save_and_keep_only`` grows its default list of keys: quadratic in epochs.

Every call appends to the mutable default ``importance_keys=[]`` and then reads all checkpoints'
meta files twice for each entry. Ours writes one named checkpoint over and over.
"""

import torch
from speechbrain.utils.checkpoints import Checkpointer

from vesper_lobes.emotion_brain import EmotionBrain


def reads_of_last_call(monkeypatch, folder, calls, **kwargs):
    checkpointer = Checkpointer(folder, {"m": torch.nn.Linear(1, 1)})
    counted = []
    original = Checkpointer.list_checkpoints
    count = lambda self: counted.append(1) or original(self)  # noqa: E731
    monkeypatch.setattr(Checkpointer, "list_checkpoints", count)
    for _ in range(calls):
        counted.clear()
        fresh = {name: list(value) for name, value in kwargs.items()}
        checkpointer.save_and_keep_only(verbosity=10, **fresh)
    monkeypatch.undo()
    return len(counted)


def test_the_trap_is_real_and_a_list_of_ones_own_avoids_it(monkeypatch, tmp_path):
    first = reads_of_last_call(monkeypatch, tmp_path / "a", calls=1)
    assert reads_of_last_call(monkeypatch, tmp_path / "b", calls=5) == first + 10
    assert reads_of_last_call(monkeypatch, tmp_path / "c", calls=5, importance_keys=[]) == 2


def test_the_emotion_brain_does_not_call_it():
    assert "save_and_keep_only" not in EmotionBrain._end_epoch.__code__.co_names
