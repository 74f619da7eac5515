"""The small networks that predict teacher states from student states during pretraining."""

import torch.nn as nn


class Predictor(nn.Module):
    """(LayerNorm without parameters) -> Linear(D, D/2) -> GELU -> Linear(D/2, D).

    1,050,112 parameters at D = 1024 (the paper: 1.050 M). In the published code's checkpoints,
    ``down`` and ``up`` are ``{l,h,x}_predictor.simple_ffn.0`` and ``.2``.

    Arguments
    ---------
    dim : int
        D, even: width of the student's and of the teacher's states.

    Example
    -------
    >>> import torch
    >>> Predictor(8)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(self, dim):
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim must be even and positive, not {dim}")
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.down = nn.Linear(dim, dim // 2)
        self.activation = nn.GELU()
        self.up = nn.Linear(dim // 2, dim)

    def forward(self, states):
        """Student states (B, T, D) -> predicted teacher states (B, T, D)."""
        return self.up(self.activation(self.down(self.norm(states))))
