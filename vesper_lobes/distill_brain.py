"""The training loop of compression by distillation (Table V; the reading is ours)."""

import logging

from vesper_lobes.logged_brain import LoggedBrain

logger = logging.getLogger(__name__)

USEFUL_ENTROPY = (0.2, 0.95)  # ours: outside, the softened outputs are one class, or all alike


class DistillBrain(LoggedBrain):
    """A random student imitates the teacher's state M (see `vesper_lobes.distillation`).

    `modules.student` is a DistillStudent. Further YAML key: teacher_model (Teacher).

    Attributes
    ----------
    store : vesper_lobes.target_store.TargetStore or None
        Where set, before `fit`, it takes the place of front end and teacher.
    """

    store = None

    def on_fit_start(self):
        """The student's front end is the teacher's, so that one pass serves both."""
        self.student = self.modules.student  # without DDP's wrapper
        self.teacher = self.hparams.teacher_model
        super().on_fit_start()
        if not self.teacher.shares_cnn_with(self.student.encoder):
            raise ValueError(
                "the student's conv front end is not its teacher's: the checkpoint in this output "
                "folder is of another teacher. Give another --output_folder."
            )
        if self.store is None:
            self.teacher.to(self.device)

    def compute_forward(self, batch, stage):
        """Divergence from the teacher on whole crops."""
        batch = batch.to(self.device)
        return self.modules.student(*self.frozen_outputs(batch))

    def frozen_outputs(self, batch):
        """Features (B, T, C), their lengths and the teacher's state M (B, T, D)."""
        if self.store is not None:
            features, lengths, targets = self.store.batch(list(batch.id))
            return tuple(t.to(self.device) for t in (features, lengths, targets[1]))
        wavs, wav_lens = batch.sig
        features, lengths = self.student.encoder.cnn(wavs, wav_lens)
        return features, lengths, self.teacher(wavs, wav_lens, (features, lengths))[1]

    def compute_objectives(self, predictions, batch, stage):
        """The divergence; the bar also shows how far the states are apart."""
        loss = predictions["kl"]
        self.shown = {"loss": loss.detach(), "error": predictions["error"]}
        self.logged = {"entropy": predictions["entropy"]}
        return loss

    def log_row(self, row):
        """A warning where tau does not suit the teacher."""
        super().log_row(row)
        low, high = USEFUL_ENTROPY
        entropy = row["train"]["entropy"]
        if not low <= entropy <= high:
            logger.warning(
                "the teacher's softened outputs have %.0f %% of the largest entropy: a %s --tau "
                "than %g would say more",
                *(100 * entropy, "larger" if entropy < low else "smaller", self.student.tau),
            )
