"""The training loop of Vesper's pretraining (the paper, section III; Table I)."""

import torch

from vesper_lobes.lengths import sample_lengths
from vesper_lobes.logged_brain import LoggedBrain
from vesper_lobes.masker import mask_counts, mask_noise, shares_of_counts


class PretrainBrain(LoggedBrain):
    """A compressed student learns the teacher's states M/2 and M at masked frames.

    `modules.student` is a PretrainStudent. Further YAML keys: teacher_model (Teacher) and masker.

    Attributes
    ----------
    store : vesper_lobes.target_store.TargetStore or None
        Where set, before `fit`, it takes the place of front end and teacher.
    """

    store = None

    def on_fit_start(self):
        """Find out once whether one pass through the frozen front end serves both."""
        self.student = self.modules.student  # without DDP's wrapper
        self.teacher = self.hparams.teacher_model
        super().on_fit_start()
        self.shares_cnn = self.teacher.shares_cnn_with(self.student.encoder)
        if self.store is None:
            self.teacher.to(self.device)
        elif not self.shares_cnn:
            raise ValueError(
                "the store holds outputs of the teacher's conv front end, and the student has "
                "another: leave out --target_store, or --random_cnn"
            )

    def compute_forward(self, batch, stage):
        """The losses of a batch; masks and crops are keyed by (seed, epoch, ID)."""
        wavs, wav_lens = batch.sig
        features, lengths, targets = self.frozen_outputs(batch)
        epoch = self.epoch if stage.name == "TRAIN" else 0  # validation: the same masks every time
        noise = mask_noise(self.hparams.seed, epoch, list(batch.id), features.shape[1])
        masks = self.hparams.masker(wavs, sample_lengths(wavs, wav_lens), self.on_device(noise))
        self.counts = mask_counts(masks, lengths)
        return self.modules.student(features, lengths, targets, masks)

    def frozen_outputs(self, batch):
        """Features (B, T, C), their lengths and the teacher's two states (B, T, D)."""
        if self.store is not None:
            features, lengths, targets = self.store.batch(list(batch.id))
            return *map(self.on_device, (features, lengths)), tuple(map(self.on_device, targets))
        wavs, wav_lens = batch.sig
        features, lengths = self.student.encoder.cnn(wavs, wav_lens)
        shared = (features, lengths) if self.shares_cnn else None
        return features, lengths, self.teacher(wavs, wav_lens, cnn_output=shared)

    def compute_objectives(self, predictions, batch, stage):
        """The weighted sum; the three losses go to the bar and the history."""
        self.shown = {name: predictions[name].detach() for name in ("l", "h", "x")}
        self.logged = {"loss": predictions["total"].detach()}
        return predictions["total"]

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Add up masked frames by zone, on the device."""
        names = (f"mask{level}{zone}" for level in range(3) for zone in range(3))
        self.means.count(**dict(zip(names, self.counts.flatten().unbind(), strict=True)))
        super().on_fit_batch_end(batch, outputs, loss, should_step)

    def epoch_row(self, epoch):
        """Adds the share of real frames masked, overall and by zone, of the whole epoch."""
        row, totals = super().epoch_row(epoch), self.means.all_ranks(self.device).totals
        counts = [[totals[f"mask{level}{zone}"] for zone in range(3)] for level in range(3)]
        row["masks"] = shares_of_counts(torch.tensor(counts, dtype=torch.float64))
        return row

    def log_row(self, row):
        """The mask shares stand among the training statistics."""
        super().log_row({**row, "train": {**row["train"], **main_shares(row["masks"])}})


def main_shares(masks):
    """What a log line has room for: phoneme and word share overall, phoneme share of each zone."""
    names = ("phoneme", "word", "phoneme_of_high", "phoneme_of_low", "phoneme_of_noise")
    return {f"masked_{name}": masks[name] for name in names}
