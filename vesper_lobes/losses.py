"""The three losses of Vesper's pretraining (eq. 14-17), with the predictors they train.

====  =================  =============  ==========================  ======
loss  student's state    teacher's      counted frames              weight
====  =================  =============  ==========================  ======
l     N/2                M/2            phoneme-masked real frames  1.0
h     N                  M              word-masked real frames     0.1
x     N                  M/2            all real frames             1.0
====  =================  =============  ==========================  ======

State N/2 is the output of layer N/2 *before* the word mask is applied to it.
"""

import torch
import torch.nn as nn

from vesper_lobes.lengths import frame_mask
from vesper_lobes.predictors import Predictor
from vesper_lobes.process_group import mean_over_processes, world_size

WEIGHTS = {"l": 1.0, "h": 0.1, "x": 1.0}  # the paper, eq. 17 and section IV
REDUCTIONS = ("mean", "sum_frames")


class VesperLosses(nn.Module):
    """Predictors and losses of the pretraining.

    Arguments
    ---------
    dim : int
        Width D of the states.
    weights : dict, optional
        Weights of ``l``, ``h`` and ``x``; those not named keep the paper's 1.0 / 0.1 / 1.0. A
        weight of 0 switches the loss off, and its predictor is not created, so that distributed
        training finds no parameter without gradient.
    reduction : str
        ``mean`` over the counted frames of the batch and the dimensions (the published code, and
        our default). ``sum_frames``: mean over dimensions, summed over the counted frames, as the
        paper writes it; besides scale it weighs ``x`` about twice as much, since twice as many
        frames are counted in it.

    With several processes each must call it at every step, with its own part of the batch: the
    counts of frames are added up over all, so that the mean of their losses is that of one process
    with the whole batch.

    Raises
    ------
    ValueError
        For an unknown loss or reduction, a negative weight, or all weights 0.

    Example
    -------
    >>> from types import SimpleNamespace
    >>> losses = VesperLosses(8)
    >>> states = tuple(torch.randn(2, 5, 8) for _ in range(5))  # N = 4 layers
    >>> targets = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    >>> masks = SimpleNamespace(phoneme=torch.rand(2, 5) < 0.5, word=torch.rand(2, 5) < 0.5)
    >>> sorted(losses(states, torch.tensor([5, 3]), targets, masks))
    ['h', 'l', 'total', 'x']
    """

    def __init__(self, dim, weights=None, reduction="mean"):
        super().__init__()
        weights = {**WEIGHTS, **(weights or {})}
        if set(weights) != set(WEIGHTS) or min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"weights must be of l, h, x, >= 0 and not all 0, not {weights}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, not {reduction!r}")
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.reduction = reduction
        self.predictors = nn.ModuleDict(
            {name: Predictor(dim) for name, weight in self.weights.items() if weight > 0}
        )

    def forward(self, states, lengths, targets, masks):
        """Losses of a batch.

        Arguments
        ---------
        states : tuple of N+1 torch.Tensor (B, T, D)
            The student's states, of its masked forward pass; N even.
        lengths : torch.LongTensor (B,)
            Real frames. What stands behind them is never looked at, not even a NaN.
        targets : tuple of two torch.Tensor (B, T, D)
            The teacher's states M/2 and M.
        masks : Masks
            With ``phoneme`` and ``word``, bool (B, T).

        Returns
        -------
        dict
            ``l``, ``h``, ``x``, unweighted, and ``total``, their weighted sum: float32 scalars. A
            loss that is off, or has no frame to count, is 0; the latter keeps its gradient path.
        """
        num_layers = len(states) - 1
        if num_layers < 2 or num_layers % 2:
            raise ValueError(f"the student must have an even number of layers, not {num_layers}")
        middle, top = states[num_layers // 2], states[num_layers]
        teacher_middle, teacher_top = targets
        real = frame_mask(lengths.to(top.device), top.shape[1])
        tasks = {
            "l": (middle, teacher_middle, real & masks.phoneme),
            "h": (top, teacher_top, real & masks.word),
            "x": (top, teacher_middle, real),
        }
        divisors = self._divisors([counted for *_, counted in tasks.values()])
        losses = {
            name: self._loss(name, *task, divisor)
            for (name, task), divisor in zip(tasks.items(), divisors, strict=True)
        }
        losses["total"] = sum(self.weights[name] * losses[name] for name in self.predictors)
        return losses

    def _divisors(self, masks):
        """What each sum over counted frames is divided by, (3,).

        Chosen so that the mean over processes, which DDP takes of gradients, is the loss of all
        their utterances as one batch: frames are counted over all processes.
        """
        counts = torch.stack([counted.sum() for counted in masks]).float()
        if self.reduction == "sum_frames":
            return torch.full_like(counts, 1 / world_size())
        return mean_over_processes(counts).clamp(min=1 / world_size())

    def _loss(self, name, state, target, counted, divisor):
        if name not in self.predictors:
            return torch.zeros((), device=state.device)
        # before the predictor: a NaN in padding would reach its weights as 0 * NaN
        state = state.masked_fill(~counted.unsqueeze(-1), 0.0)
        total = masked_mse(self.predictors[name](state), target, counted, "sum_frames")
        return total / divisor


def masked_mse(predictions, targets, counted, reduction="mean"):
    """Squared error over the counted frames, in float32 under any autocast.

    Arguments
    ---------
    predictions, targets : torch.Tensor (B, T, D)
        No gradient flows into the targets.
    counted : torch.BoolTensor (B, T)
    reduction : str
        ``mean`` over counted frames and dimensions, or ``sum_frames``: mean over dimensions, sum
        over counted frames.

    Returns
    -------
    torch.Tensor ()
        0 with a gradient path if no frame is counted. Dense, without masked selection: nothing
        waits for the device to tell how many frames there are.

    Example
    -------
    >>> errors = torch.tensor([[[1.0, 3.0], [7.0, 7.0]]])
    >>> masked_mse(errors, torch.zeros(1, 2, 2), torch.tensor([[True, False]]))
    tensor(5.)
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} differ"
        )
    errors = predictions.float() - targets.detach().float()
    errors = errors.masked_fill(~counted.unsqueeze(-1), 0.0)
    total = errors.square().sum() / predictions.shape[-1]
    if reduction == "sum_frames":
        return total
    return total / counted.sum().clamp(min=1)
