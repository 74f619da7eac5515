"""The training loop of compression by distillation (Table V; the reading is ours)."""

import logging

from vesper_lobes.logged_brain import LoggedBrain

logger = logging.getLogger(__name__)

LEAST_ENTROPY = 0.8  # ours: at .65 a mini student ends twice as far from its teacher as at .95


class DistillBrain(LoggedBrain):
    """A random student imitates the teacher's state M (see `vesper_lobes.distillation`).

    `modules.student` is a DistillStudent. Further YAML key: teacher_model (Teacher).

    Attributes
    ----------
    store : vesper_lobes.target_store.TargetStore or None
        Where set, before `fit`, it takes the place of front end and teacher.
    """

    store = None
    tau_checked = False

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

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """After the first batch, a warning where tau does not suit the teacher."""
        super().on_fit_batch_end(batch, outputs, loss, should_step)
        if self.tau_checked:
            return
        self.tau_checked = True
        entropy = float(self.logged["entropy"])
        if entropy < LEAST_ENTROPY:
            logger.warning(
                "tau %g leaves the teacher's outputs %.0f %% of the largest entropy: hardly "
                "softened, they teach little. Give a larger --tau, for %.0f %% or more.",
                *(self.student.tau, 100 * entropy, 100 * LEAST_ENTROPY),
            )
