"""SpeechBrain clips the gradients of ``param_groups[0]`` alone; with weight decay in a group of its
own that leaves biases, norms and embeddings unclipped. Ours clips the norm over all groups."""

import math

import pytest
import speechbrain as sb
import torch

from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.logged_brain import LoggedBrain


def largest_gradients_stepped(brain_class, folder):
    """The gradient norms of weight and bias as the optimizer sees them, of true norms 50 and 50."""
    seen = []

    class Watcher(torch.optim.SGD):
        def step(self, closure=None):
            seen.extend(float(p.grad.norm()) for g in self.param_groups for p in g["params"])

    model = torch.nn.Linear(1, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    hparams = {"output_folder": str(folder), "max_grad_norm": 5.0, "weight_decay": 0.0}
    brain = brain_class({"m": model}, lambda p: Watcher(groups, 0.1), hparams, {"device": "cpu"})
    brain.init_optimizers()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 50.0)
    brain.optimizers_step()
    return seen


def test_the_trap_is_real(tmp_path):
    weight, bias = largest_gradients_stepped(sb.Brain, tmp_path)
    assert math.isclose(weight, 5.0, rel_tol=1e-3) and bias == 50.0


@pytest.mark.parametrize("brain_class", [LoggedBrain, EmotionBrain])
def test_ours_clips_all(brain_class, tmp_path):
    weight, bias = largest_gradients_stepped(brain_class, tmp_path)
    assert math.isclose(math.hypot(weight, bias), 5.0, rel_tol=1e-3)
