"""Compression by distillation (Table V): a new student learns to say what its teacher says.

The paper gives no details; this reading is ours. The student has the teacher's frozen conv front
end and is random otherwise. Its last state and the teacher's go through one frozen random linear
head, the same for both, and the student minimises the Kullback-Leibler divergence between the two
softened outputs. Nothing is masked. Vesper's pretraining follows, as after any compression.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from vesper_lobes.compression import compress
from vesper_lobes.keyed_random import keyed_generator
from vesper_lobes.lengths import frame_mask
from vesper_lobes.process_group import mean_over_processes


class DistillStudent(nn.Module):
    """A student under distillation: encoder and frozen head, as one module.

    Arguments
    ---------
    encoder : vesper_lobes.encoder.Encoder
        Its conv front end is frozen here, and its mask embedding, which nothing uses yet.
    num_outputs : int
        Classes K of the head. More than the width D of the states, so that equal outputs mean equal
        states.
    tau : float
        Temperature.
    seed : int
        Draws the head: normal, variance 1/D, no bias.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2))
    >>> student = DistillStudent(encoder, num_outputs=384, tau=4.0, seed=0)
    >>> [p.requires_grad for p in student.head.parameters()]
    [False]
    """

    def __init__(self, encoder, num_outputs, tau, seed):
        super().__init__()
        if tau <= 0:
            raise ValueError(f"the temperature tau must be above 0, not {tau}")
        self.encoder = encoder.freeze_cnn()
        self.encoder.masked_spec_embed.requires_grad_(False)
        self.tau = float(tau)
        dim = encoder.hidden_size
        self.head = nn.Linear(dim, num_outputs, bias=False).requires_grad_(False)
        generator = keyed_generator("distillation head", seed)
        self.head.weight.data.normal_(std=1 / math.sqrt(dim), generator=generator)

    def forward(self, features, lengths, target):
        """Divergence of a batch, and how near the student is.

        Arguments
        ---------
        features : torch.Tensor (B, T, C)
            Output of the frozen conv front end.
        lengths : torch.LongTensor (B,)
            Real frames.
        target : torch.Tensor (B, T, D)
            The teacher's state M.

        Returns
        -------
        dict
            Scalars. `kl`, with gradient: mean over real frames, times tau squared, which keeps the
            gradient's size from tau (Hinton et al., 2015). Without: `entropy` of the teacher's
            softened outputs as a share of log K (near 0: tau is too small for this teacher), and
            `error`, the squared distance of the two states over the teacher's square. With several
            processes each must call it at every step: the mean of theirs is that of one process
            with the whole batch.
        """
        state = self.encoder.encode(features, lengths).states[-1]
        real = frame_mask(lengths.to(state.device), state.shape[1])
        state, target = state[real].float(), target.detach()[real].float()  # (F, D)
        teacher = self.log_outputs(target)
        size = target.square().sum()
        frames, size = mean_over_processes(torch.stack([size.new_tensor(len(target)), size]))
        kl = F.kl_div(self.log_outputs(state), teacher, reduction="sum", log_target=True) / frames
        with torch.no_grad():
            entropy = -(teacher.exp() * teacher).sum() / frames / math.log(teacher.shape[-1])
            error = (state - target).square().sum() / size
        return {"kl": self.tau**2 * kl, "entropy": entropy, "error": error}

    def log_outputs(self, states):
        """(F, D) states -> (F, K) log of the softened outputs, in float32 under any autocast."""
        with torch.autocast(states.device.type, enabled=False):
            return F.log_softmax(self.head(states) / self.tau, dim=-1)


def build_distill_student(teacher, num_layers, num_outputs, tau, seed, dropout=None):
    """A random student with its teacher's conv front end.

    Arguments
    ---------
    teacher : vesper_lobes.teacher.Teacher
    num_layers : int
        N, even.
    num_outputs, tau, seed
        As for `DistillStudent`.
    dropout : float, optional
        As for `compress`.

    Returns
    -------
    DistillStudent

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> from vesper_lobes.teacher import Teacher
    >>> teacher = Teacher(Encoder(EncoderConfig.mini_large(num_hidden_layers=4)))
    >>> student = build_distill_student(teacher, 2, num_outputs=256, tau=1.0, seed=0)
    >>> teacher.shares_cnn_with(student.encoder)
    True
    """
    encoder, _ = compress(teacher.encoder, num_layers, "random", dropout=dropout)
    return DistillStudent(encoder, num_outputs, tau, seed)
