"""Fused optimizers of PyTorch edit parameters without raising their version counters.

Whatever is derived from weights and kept (the encoder's fast path keeps laid-out weights) then
takes the old ones for new: validation after a fused step was that of the weights before it.
"""

import functools
from types import SimpleNamespace

import speechbrain as sb
import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.logged_brain import LoggedBrain


class OneStep(LoggedBrain):
    def compute_forward(self, batch, stage):
        return self.modules.encoder(batch.sig[0]).states[-1]

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().mean()


class Batch(SimpleNamespace):
    def to(self, *args, **kwargs):
        return self


def test_what_is_kept_of_weights_is_made_anew_after_a_step(tiny_config, tmp_path):
    encoder = Encoder(tiny_config("wavlm_large"))
    brain = OneStep(
        modules={"encoder": encoder},
        opt_class=functools.partial(torch.optim.AdamW, lr=0.1),
        hparams={
            "seed": 0,
            "output_folder": str(tmp_path),
            "weight_decay": 0.0,
            "schedule_per": "epoch",
            "scheduler": SimpleNamespace(lr_at=lambda epoch: 0.1),
        },
        run_opts={"device": "cpu"},
    )
    brain.reader = SimpleNamespace(set_epoch=lambda epoch: None)
    brain.batches, brain.show_bar, brain.nonfinite_count = {sb.Stage.TRAIN: 9}, False, 0
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    assert brain.optimizer.defaults["fused"]
    wavs = torch.randn(2, 8000)

    def states():
        with torch.no_grad():
            return encoder.eval()(wavs).states[-1]

    states()  # whatever is kept is kept from here
    versions = [p._version for p in encoder.parameters()]
    brain.step = 1
    brain.modules.train()
    brain.fit_batch(Batch(id=["a", "b"], sig=(wavs, torch.ones(2))))
    edited = [p for p in brain.optimizer.param_groups[0]["params"]]
    assert all(p._version > 0 for p in edited)
    assert sum(p._version > v for p, v in zip(encoder.parameters(), versions, strict=True)) > 9
    after = states()
    encoder.fast = False  # the plain path keeps nothing
    assert torch.allclose(after, states(), atol=1e-4)
