"""Linear layers on 8-bit integers, for inference on a CPU: a quarter of their memory.

Weights: one scale per output, symmetric, rounded once. Inputs: one scale per utterance, found at
run time, so that what else is in the batch changes an answer by a rounding step at most. The conv
front end, the positional convolution and WavLM's gates (8 outputs) stay as they are.
``benchmarks/encoder_cpu.py`` shows speed and error; under ``torch.autocast("cpu", torch.bfloat16)``
the rest is in bfloat16.
"""

import copy
import math

import torch
from torch import nn


class Int8Linear(nn.Module):
    """A linear layer on 8-bit integers; float in and out, for inference only.

    Arguments
    ---------
    linear : nn.Linear

    Example
    -------
    >>> linear, x = nn.Linear(64, 8), torch.randn(5, 64)
    >>> bool((Int8Linear(linear)(x) - linear(x)).abs().max() < 0.05)
    True
    """

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros_like(scales, dtype=torch.long)
        integers = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = _pack(integers, linear.bias.detach().float())
        # without these instructions pairs of products overflow unless a bit is left free
        self.reduce_range = not torch.cpu._is_vnni_supported()

    def forward(self, x, sizes=None):
        """(R, D_in) -> (R, D_out) in x's dtype.

        Arguments
        ---------
        x : torch.Tensor (..., D_in)
            float32 or bfloat16.
        sizes : list of int, optional
            Rows that share a scale, in turn; None: all.
        """
        pieces = x.float().split(sizes or len(x))
        results = [self._product(piece) for piece in pieces]
        return (results[0] if len(results) == 1 else torch.cat(results)).to(x.dtype)

    def _product(self, x):
        return torch.ops.quantized.linear_dynamic(x, self.packed, self.reduce_range)

    def __deepcopy__(self, memo):
        return copy.copy(self)  # the packed weights never change; copied, another engine packs them

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        # left out silently, the weights would be missing in a file and in a cache's key
        raise ValueError(f"{prefix[:-1]} is on 8-bit integers: save or hash the original encoder")

    def extra_repr(self):
        """As nn.Linear's."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _pack(integers, bias):
    """Weights laid out by oneDNN, which has the fastest products, or by the default engine."""
    chosen = torch.backends.quantized.engine
    if "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"
    try:
        return torch.ops.quantized.linear_prepack(integers, bias)
    finally:
        torch.backends.quantized.engine = chosen


def quantize_int8(encoder):
    """A copy of an encoder whose linear layers work on 8-bit integers.

    It answers on a CPU without gradients and cannot be saved: keep the original. Only its fast path
    keeps batched and single answers alike: hooks or replaced modules inside switch that off.

    Arguments
    ---------
    encoder : Encoder
        float32, on a CPU.

    Returns
    -------
    Encoder
        Frozen.

    Raises
    ------
    ValueError
        For another device or dtype.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2)).eval()
    >>> small, wavs = quantize_int8(encoder), torch.randn(1, 16000)
    >>> error = small(wavs).states[-1] - encoder(wavs).states[-1]
    >>> bool(error.abs().max() < 0.2)
    True
    """
    weight = encoder.feature_projection.projection.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(
            f"int8 starts from float32 on a CPU, not {weight.dtype} on {weight.device}"
        )
    small = copy.deepcopy(encoder)
    for module in list(small.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear and name != "gru_rel_pos_linear":
                setattr(module, name, Int8Linear(child))
    return small.freeze()


def megabytes(encoder):
    """Memory of an encoder's weights, 8-bit ones included, in MB of 10^6 bytes."""
    floats = sum(p.numel() * p.element_size() for p in encoder.parameters())
    integers = [m for m in encoder.modules() if isinstance(m, Int8Linear)]
    return (floats + sum(math.prod((m.in_features, m.out_features)) for m in integers)) / 1e6
