"""The conv front end of Large types for inference on a CPU, in chunks of time.

Every layer is local in time there (LayerNorm goes over channels), so a few output frames can be
taken through all seven layers while their activations stay in the processor's cache; the whole
utterance's are 33 MB after the first layer alone. Chunks overlap by a few frames: exact.

The first layer's normalisation is a matter of its ten samples u (and 1, for a bias): with A the
convolution's matrix, its mean over channels taken off, A u has mean zero and variance
``|A u|^2 / C = |R u|^2 / C`` where ``A = Q R``. So LayerNorm becomes a factor of the window, and
its output one matrix product; the largest activation of the network is spared that pass.

In bfloat16 mode three convolutions are in bfloat16, the second to the fourth; they hold 90 % of the
products. Each one more raises the error of the states, which is to stay below 1 % (largest
difference over largest entry, 12 random layers: 0.80 % with none, 0.95 % with these three, 1.3 %
with all).
"""

import torch
from torch import nn

from vesper_lobes.conv import ConvFrontEnd, ConvLayer
from vesper_lobes.fast_cpu import PackedLinear, fast_dtype, gelu_, layer_norm
from vesper_lobes.lengths import FIELD, HOP

KNOWN = (ConvFrontEnd, ConvLayer, nn.ModuleList, nn.Conv1d, nn.LayerNorm)
CHUNK_FRAMES = 128  # of 20 ms; 16 MB in float32 after the first layer (32 to 64: slower in bf16)
PACKED_ROWS = (
    1024  # up to here oneDNN (torch 2.11) runs a packed product of 512 outputs on one core
)
ROUNDED = (1, 2, 3)  # layers with bfloat16 products, of those with any choice


def front_end_dtype(front_end, wavs):
    """The precision of the fast path for these waveforms (B, S), or None where it cannot be."""
    if not isinstance(front_end.conv_layers[0].layer_norm, nn.LayerNorm):
        return None  # Base type: normalised over time
    return fast_dtype(front_end, wavs, KNOWN)


@torch.no_grad()
def front_end_features(front_end, wavs, lengths, dtype, cache):
    """As ``front_end(wavs, lengths)``.

    Arguments
    ---------
    front_end : ConvFrontEnd
        Of a Large type.
    wavs : torch.Tensor (B, S)
        Normalised.
    lengths : torch.LongTensor (B,)
        Real samples.
    dtype : torch.dtype
        float32 or bfloat16.
    cache : WeightCache

    Returns
    -------
    features : torch.Tensor (B, T, C)
        float32, zero beyond a row's frames.
    frames : torch.LongTensor (B,)
    """
    frames = (lengths - FIELD) // HOP + 1
    shape = (
        len(wavs),
        (wavs.shape[1] - FIELD) // HOP + 1,
        front_end.conv_layers[-1].conv.out_channels,
    )
    with torch.autocast("cpu", enabled=False):
        steps = _steps(front_end, dtype, cache)
        features = wavs.new_empty(shape, dtype=torch.float32)
        for row, wav, count in zip(features, wavs.float(), frames.tolist(), strict=True):
            row[count:] = 0
            for begin, end in _chunks(count):
                x = wav[begin * HOP : (end - 1) * HOP + FIELD]
                for step in steps:
                    x = step(x)
                row[begin:end] = x
    return features, frames


def _chunks(frames):
    """Bounds of chunks of about equal size."""
    count = -(-frames // CHUNK_FRAMES)
    return [(i * frames // count, (i + 1) * frames // count) for i in range(count)]


def _steps(front_end, dtype, cache):
    """The layers as functions (T_in, C_in) -> (T, C), their weights ready."""
    steps = []
    for index, layer in enumerate(front_end.conv_layers):
        kind = LaterLayer if index else FirstLayer
        if dtype == torch.bfloat16 and index in ROUNDED:
            kind = RoundedLayer
        parameters = list(layer.parameters())
        steps.append(cache.get(("conv", index, kind), parameters, lambda k=kind, la=layer: k(la)))
    return steps


class FirstLayer:
    """Convolution of the waveform, LayerNorm and GELU as one product with scaled windows.

    Arguments
    ---------
    layer : ConvLayer
    """

    def __init__(self, layer):
        self.kernel, self.stride, self.eps = layer.kernel, layer.stride, layer.layer_norm.eps
        matrix = layer.conv.weight.detach().squeeze(1).double()  # (C, k)
        if layer.conv.bias is not None:
            matrix = torch.cat([matrix, layer.conv.bias.detach().double().unsqueeze(1)], 1)
        matrix = matrix - matrix.mean(0)
        root = torch.linalg.qr(matrix).R / len(matrix) ** 0.5  # |root u|^2 is the variance
        self.root = root.T.float().contiguous()
        scale, shift = (p.detach().double().unsqueeze(1) for p in layer.layer_norm.parameters())
        self.weight = torch.cat([matrix * scale, shift], 1).T.float().contiguous()

    def __call__(self, wav):
        """(S,) -> (T, C)."""
        windows = wav.unfold(0, self.kernel, self.stride)  # (T, k)
        inputs = wav.new_ones(len(windows), len(self.weight))  # the last 1 is for norm's bias
        inputs[:, : self.kernel] = windows
        scaled = inputs[:, :-1]
        variance = (scaled @ self.root).square_().sum(1, keepdim=True)
        scaled.mul_(variance.add_(self.eps).rsqrt_())
        return gelu_(inputs @ self.weight)


class LaterLayer:
    """Convolution, LayerNorm and GELU in float32.

    The convolution is two products or one: blocks of `stride` frames (a view) with the first taps,
    and the frames after the blocks with what taps remain.
    """

    def __init__(self, layer):
        self.kernel, self.stride, self.norm = layer.kernel, layer.stride, layer.layer_norm
        self.bias = None if layer.conv.bias is None else layer.conv.bias.detach()
        taps = layer.conv.weight.detach().permute(2, 1, 0)  # (k, C_in, C)
        self.first = taps[: self.stride].flatten(0, 1).contiguous()
        self.rest = [tap.contiguous() for tap in taps[self.stride :]]

    def __call__(self, x):
        """(T_in, C_in) -> (T, C)."""
        return gelu_(layer_norm(self.convolve(x), self.norm))

    def convolve(self, x):
        """(T_in, C_in) float32 -> (T, C)."""
        frames = (len(x) - self.kernel) // self.stride + 1
        blocks = x[: frames * self.stride].view(frames, -1)
        y = blocks @ self.first if self.bias is None else self.bias.addmm(blocks, self.first)
        for tap, weight in enumerate(self.rest, self.stride):
            y.addmm_(x[tap : tap + (frames - 1) * self.stride + 1 : self.stride], weight)
        return y


class RoundedLayer(LaterLayer):
    """The same with a bfloat16 product of copied windows; products are cheap, roundings are not."""

    def __init__(self, layer):
        self.kernel, self.stride, self.norm = layer.kernel, layer.stride, layer.layer_norm
        taps = layer.conv.weight.detach().transpose(1, 2)  # (C, k, C_in)
        self.packed = PackedLinear(taps.flatten(1), layer.conv.bias)
        self.plain = PackedLinear(taps.flatten(1), layer.conv.bias, pack=False)

    def convolve(self, x):
        """(T_in, C_in) float32 -> (T, C) float32."""
        frames, channels = (len(x) - self.kernel) // self.stride + 1, x.shape[1]
        shape, steps = (frames, self.kernel * channels), (self.stride * channels, 1)
        windows = x.as_strided(shape, steps).to(torch.bfloat16)  # copied and cast in one go
        product = self.packed if frames > PACKED_ROWS else self.plain
        return product(windows).float()
