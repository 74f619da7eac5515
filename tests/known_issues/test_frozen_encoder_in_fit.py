"""``Brain._fit_train`` puts all modules in train mode: a frozen encoder must not follow."""

import speechbrain as sb
import torch

from vesper_lobes.encoder import Encoder


class Probe(sb.Brain):
    """Trains a head on an encoder that sits in `modules`, as users do."""

    def compute_forward(self, batch, stage):
        self.modes = {module.training for module in self.modules.encoder.modules()}
        self.states = self.modules.encoder(batch).states
        return self.modules.head(self.states[-1].mean(1))

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().mean()


def test_a_frozen_encoder_stays_in_eval_and_keeps_all_states(tiny_config):
    encoder = Encoder(tiny_config(hidden_dropout=0.5, layerdrop=0.9)).freeze()
    wavs = torch.randn(2, 4000)
    expected = encoder(wavs).states
    head = torch.nn.Linear(encoder.hidden_size, 2)
    brain = Probe(
        {"encoder": encoder, "head": head},
        opt_class=lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"device": "cpu", "noprogressbar": True},
    )
    before = [p.clone() for p in encoder.parameters()]
    brain.fit(range(1, 2), torch.utils.data.DataLoader([wavs], batch_size=None))
    assert brain.modules.head.training and brain.modes == {False}
    assert len(brain.states) == encoder.num_layers + 1
    for state, wanted in zip(brain.states, expected, strict=True):
        assert torch.equal(state, wanted)
    assert all(map(torch.equal, before, encoder.parameters()))
