"""A checkpoint saved in ``on_stage_end(TRAIN)`` stores the finished epoch's step: a resumed run
then starts its next epoch there, with the old mean. Ours does so if nothing is held out, safely."""

import pandas as pd
import soundfile
import torch
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.epoch_loop import EpochCounter
from speechbrain.utils.train_logger import FileTrainLogger

from vesper_lobes.logged_brain import LoggedBrain
from vesper_lobes.pretrain_data import CropReader, crop_dataset
from vesper_lobes.scheduler import WarmupCosine


class Mean(LoggedBrain):
    """Learns the mean of all samples."""

    def compute_forward(self, batch, stage):
        return self.modules.model(batch.sig[0][..., None])

    def compute_objectives(self, predictions, batch, stage):
        loss = predictions.square().mean()
        self.shown, self.logged = {"loss": loss.detach()}, {}
        return loss


def run(folder, epochs):
    path = str(folder / "a.wav")
    soundfile.write(path, torch.randn(16000).clamp(-1, 1).numpy(), 16000)
    rows = pd.DataFrame({"ID": list("abcd"), "wav": path, "start": 0, "stop": -1})
    model, counter = torch.nn.Linear(1, 1), EpochCounter(epochs)
    hparams = dict(
        seed=1,
        output_folder=str(folder),
        weight_decay=0.0,
        schedule_per="epoch",
        scheduler=WarmupCosine(0.1, 0.1, 9),
        train_logger=FileTrainLogger(str(folder / "log.txt")),
    )
    checkpointer = Checkpointer(folder / "save", {"model": model, "counter": counter})
    brain = Mean({"model": model}, torch.optim.SGD, hparams, {"device": "cpu"}, checkpointer)
    brain.opt_class = lambda groups: torch.optim.SGD(groups, lr=0.1)
    data = crop_dataset(rows, CropReader(0.5, seed=1))
    brain.fit(counter, data, progressbar=False, train_loader_kwargs={"batch_size": 2})
    return brain.history.rows()


def test_the_next_epoch_starts_at_its_first_step(tmp_path):
    run(tmp_path, 1)
    rows = run(tmp_path, 2)
    assert [row["optimizer_steps"] for row in rows] == [2, 4]
    assert [round(row["audio_hours"] * 3600, 3) for row in rows] == [2.0, 2.0]
