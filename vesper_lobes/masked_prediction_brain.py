"""The training loop of the mini family's teachers."""

import torch

from vesper_lobes.keyed_random import keyed_generator
from vesper_lobes.lengths import n_frames, sample_lengths
from vesper_lobes.logged_brain import LoggedBrain
from vesper_lobes.masked_prediction import masked_prediction_loss, span_mask
from vesper_lobes.masker import mask_noise


class MaskedPredictionBrain(LoggedBrain):
    """Predicts the MFCC clusters of hidden frames.

    `modules.model` is a MaskedPredictor; `clusters` (MfccClusters) is set before `fit`. Further
    YAML keys: mask_start_share, mask_span, noise_share, noise_snr_db.
    """

    clusters = None

    def compute_forward(self, batch, stage):
        """Targets of the clean crop, logits of the noisy and masked one."""
        batch = batch.to(self.device)
        wavs, wav_lens = batch.sig
        targets, lengths = self.clusters(wavs, wav_lens)
        training = stage.name == "TRAIN"
        epoch = self.epoch if training else 0  # validation: the same masks every time
        noise = mask_noise(self.hparams.seed, epoch, list(batch.id), targets.shape[1])
        mask = span_mask(
            noise.to(self.device), lengths, self.hparams.mask_start_share, self.hparams.mask_span
        )
        if training and self.hparams.noise_share > 0:
            wavs = self.add_noise(wavs, sample_lengths(wavs, wav_lens), list(batch.id))
        return self.modules.model(wavs, wav_lens, mask).logits, targets, mask

    def compute_objectives(self, predictions, batch, stage):
        """Cross-entropy on hidden frames."""
        logits, targets, mask = predictions
        result = masked_prediction_loss(logits, targets, mask)
        wavs, wav_lens = batch.sig
        frames = n_frames(sample_lengths(wavs, wav_lens)).sum()
        self.shown = {"loss": result["loss"].detach(), "accuracy": result["accuracy"]}
        self.logged = {"mask": mask.sum() / frames}
        return result["loss"]

    def add_noise(self, wavs, lengths, ids):
        """White noise on a share of rows, at an SNR drawn in `noise_snr_db`, keyed by utterance."""
        noisy = wavs.clone()
        low, high = self.hparams.noise_snr_db
        for row, name in enumerate(ids):
            generator = keyed_generator("noise", self.hparams.seed, self.epoch, name)
            draw, place = torch.rand(2, generator=generator).tolist()
            if draw < self.hparams.noise_share:
                real = int(lengths[row])
                level = wavs[row, :real].square().mean().sqrt()
                level = level * 10 ** (-(low + place * (high - low)) / 20)
                noise = torch.randn(real, generator=generator).to(wavs)
                noisy[row, :real] += level * noise
        return noisy
