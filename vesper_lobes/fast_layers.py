"""Everything above the conv front end for inference on a CPU: the rows packed, without padding.

Real frames of all rows stand one after another, (R, D), so that no layer computes padding and
attention, row by row, needs no padding mask. WavLM's position bias depends on the distance of two
frames only: it is read as overlapping windows of one vector per head, and only its product with the
gate exists as a matrix, for one row and at most 256 queries at a time, always in the same memory,
which grows linearly with length. The positional convolution is a product of spectra; those of its
weights are kept.
"""

import torch
import torch.nn.functional as F
from torch import nn

from vesper_lobes import attention, transformer
from vesper_lobes.fast_cpu import fast_dtype, gelu_, layer_norm, linear
from vesper_lobes.int8 import Int8Linear
from vesper_lobes.lengths import frame_mask

KNOWN = (
    transformer.FeatureProjection,
    transformer.Transformer,
    transformer.PositionalConv,
    transformer.Layer,
    transformer.FeedForward,
    attention.SelfAttention,
    nn.ModuleList,
    nn.Linear,
    Int8Linear,
    nn.LayerNorm,
    nn.Dropout,
    nn.Embedding,
)
QUERIES = 256  # of which a position bias exists at once (128 to 512 measure alike)
ROWS = 1024  # packed frames that go through a feed-forward part at once: 16 MB at 4,096 wide


def layers_dtype(encoder, features):
    """The precision of the fast path for these features (B, T, C), or None where it cannot be."""
    parts = nn.ModuleList([encoder.feature_projection, encoder.encoder])
    learns_token = encoder.masked_spec_embed.requires_grad and torch.is_grad_enabled()
    if learns_token or any(part.training for part in parts):
        return None
    return fast_dtype(parts, features, KNOWN, inside=[encoder.encoder.pos_conv_embed.conv])


@torch.no_grad()
def layer_states(encoder, features, lengths, masks, dtype, cache):
    """As the encoder's feature projection and transformer.

    Arguments
    ---------
    encoder : Encoder
    features : torch.Tensor (B, T, C)
    lengths : torch.LongTensor (B,) or None
        Real frames; None: every row is whole.
    masks : pair of torch.BoolTensor (B, T) or None
        Frames masked on the input of layer 1, and of layer N/2 + 1.
    dtype : torch.dtype
        float32 or bfloat16.
    cache : WeightCache

    Returns
    -------
    tuple of N+1 torch.Tensor (B, T, D)
        In ``dtype``, zero on padding.
    """
    with torch.autocast("cpu", enabled=False):
        rows = Rows(features.shape[1], lengths, len(features))
        phoneme, word = (mask if mask is None else rows.pack(mask) for mask in masks)
        token, above = encoder.masked_spec_embed, encoder.encoder
        projection = encoder.feature_projection
        x = layer_norm(rows.pack(features).float(), projection.layer_norm)
        # in float32 always: 0.5 % of the products, and its rounding is in every state
        (x,) = linear(cache, "projection", [projection.projection], x, rows.sizes)
        if phoneme is not None and not encoder.mask_after_pos_conv:
            x = transformer.replace_frames(x, phoneme, token)
        x = x + rows.pack(positions(above.pos_conv_embed, rows.spread(x), cache))
        if phoneme is not None and encoder.mask_after_pos_conv:
            x = transformer.replace_frames(x, phoneme, token)
        if above.post_norm:
            x = layer_norm(x, above.layer_norm)
        bias = PositionBias.of(above.layers[0].attention, features.shape[1])
        states = [rows.spread(x.to(dtype))]
        for index, layer in enumerate(above.layers):
            if word is not None and index == len(above.layers) // 2:
                x = transformer.replace_frames(x, word, token)
            x = layer_output(layer, x, rows, bias, lambda part, i=index: (part, i), dtype, cache)
            states.append(rows.spread(x.to(dtype)))
        return tuple(states)


class Rows:
    """Where the real frames of a padded batch are.

    Arguments
    ---------
    width : int
        T.
    lengths : torch.LongTensor (B,) or None
        None: every row is whole, and packing is a view.
    batch : int

    Example
    -------
    >>> rows = Rows(3, torch.tensor([1, 2]), 2)
    >>> x = rows.pack(torch.arange(6).view(2, 3, 1))
    >>> x.T, rows.spread(x).squeeze(-1), rows.bounds
    (tensor([[0, 3, 4]]), tensor([[0, 0, 0],
            [3, 4, 0]]), [(0, 1), (1, 3)])
    """

    def __init__(self, width, lengths, batch):
        counts = [width] * batch if lengths is None else lengths.tolist()
        self.shape = (batch, width)
        self.real = None if all(n == width for n in counts) else frame_mask(lengths, width)
        self.sizes = counts
        ends = torch.tensor(counts).cumsum(0).tolist()
        self.bounds = [(end - count, end) for count, end in zip(counts, ends, strict=True)]

    def pack(self, x):
        """(B, T, ...) -> (R, ...)."""
        return x.flatten(0, 1) if self.real is None else x[self.real]

    def spread(self, x):
        """(R, D) -> (B, T, D), zero on padding."""
        if self.real is None:
            return x.view(*self.shape, -1)
        padded = x.new_zeros(*self.shape, x.shape[-1])
        padded[self.real] = x
        return padded


def layer_output(layer, x, rows, bias, key, dtype, cache):
    """One layer, (R, D) -> (R, D) float32; products in ``dtype``."""

    def attended(x):
        return attention_output(layer.attention, x.to(dtype), rows, bias, key, cache)

    def fed_forward(x):
        return feed_forward_output(layer.feed_forward, x.to(dtype), rows, key, cache)

    if layer.pre_norm:
        x = x + attended(layer_norm(x, layer.layer_norm))
        return x + fed_forward(layer_norm(x, layer.final_layer_norm))
    x = layer_norm(x + attended(x), layer.layer_norm)
    return layer_norm(x + fed_forward(x), layer.final_layer_norm)


def feed_forward_output(part, x, rows, key, cache):
    """Linear, GELU, Linear: (R, D) -> (R, D), some frames at a time."""
    pieces = []
    for piece in x.split(rows.sizes if isinstance(part.output_dense, Int8Linear) else ROWS):
        (wide,) = linear(cache, key("wide"), [part.intermediate_dense], piece, gelu=True)
        pieces += linear(cache, key("narrow"), [part.output_dense], wide)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def attention_output(part, x, rows, bias, key, cache):
    """Self-attention within each row, (R, D) -> (R, D)."""
    heads = (part.num_heads, part.head_dim)
    projections = [part.q_proj, part.k_proj, part.v_proj]
    q, k, v = (y.unflatten(1, heads) for y in linear(cache, key("qkv"), projections, x, rows.sizes))
    gates = None if bias is None else gate(part, x)
    out = torch.empty_like(x).unflatten(1, heads)  # (R, H, D/H)
    for begin, end in rows.bounds:
        keys, values = (y[begin:end].transpose(0, 1).unsqueeze(0) for y in (k, v))
        for first in range(begin, end, QUERIES):
            last = min(first + QUERIES, end)
            queries = q[first:last].flip(0).transpose(0, 1).unsqueeze(0)  # (1, H, Q, D/H)
            mask = None
            if bias is not None:
                mask = bias.gated(gates[first:last], end - begin, first - begin).unsqueeze(0)
            y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            out[first:last] = y.squeeze(0).transpose(0, 1).flip(0)
    (out,) = linear(cache, key("out"), [part.out_proj], out.flatten(1), rows.sizes)
    return out


class PositionBias:
    """What WavLM adds to attention's scores, for some queries at a time and in memory used anew.

    (A mask of 50 MB in new memory each time takes longer than the attention it is for: the system
    hands memory out in pages of 4 KB.)

    Arguments
    ---------
    distances : torch.FloatTensor (H, 2W-1)
        By the distance key - query from -(W-1) to W-1.
    """

    def __init__(self, distances):
        self.distances = distances
        width = (distances.shape[1] + 1) // 2
        self.memory = distances.new_empty(distances.shape[0] * min(width, QUERIES) * width)

    @classmethod
    def of(cls, part, frames):
        """Of an attention part and as many frames; None for HuBERT, which has none."""
        if not hasattr(part, "rel_attn_embed"):
            return None
        sizes = part.num_buckets, part.max_distance
        buckets = attention.relative_position_buckets(frames, *sizes)
        return cls(part.rel_attn_embed.weight[buckets].T.contiguous())

    def gated(self, gates, frames, first):
        """Bias of the queries from `first` on, the latest first.

        Arguments
        ---------
        gates : torch.FloatTensor (Q, H)
            Of these queries, in order.
        frames : int
            T.
        first : int

        Returns
        -------
        torch.FloatTensor (H, Q, T)
            Overwritten by the next call.
        """
        queries, heads = gates.shape
        windows = bias_windows(self.distances, frames, first, first + queries)
        result = self.memory[: heads * queries * frames].view(heads, queries, frames)
        return torch.mul(gates.flip(0).T.unsqueeze(-1), windows, out=result)


def bias_windows(bias, frames, first, last):
    """Rows of a position bias, the latest query first, as a view.

    Query q needs the distances from -q to T-1-q: a window that moves back as q grows, hence the
    order.

    Arguments
    ---------
    bias : torch.Tensor (H, 2W-1)
        By distance, for W >= T frames.
    frames : int
        T.
    first, last : int
        Queries, the last exclusive.

    Returns
    -------
    torch.Tensor (H, last-first, T)

    Example
    -------
    >>> distances = torch.arange(-2, 3).unsqueeze(0)  # one head whose bias is the distance
    >>> bias_windows(distances, 3, 0, 3)
    tensor([[[-2, -1,  0],
             [-1,  0,  1],
             [ 0,  1,  2]]])
    """
    zero = bias.shape[1] // 2  # distance 0
    return bias[:, zero - last + 1 : zero - first + frames].unfold(1, frames, 1)


def gate(part, x):
    """How much of the position bias each query takes, (R, D) -> (R, H) float32.

    The four outputs that the plain path adds up are one output of added weights.
    """
    weight, bias = part.gru_rel_pos_linear.weight, part.gru_rel_pos_linear.bias
    weight, bias = weight.view(2, 4, -1).sum(1), bias.view(2, 4).sum(1)
    heads = x.reshape(-1, part.head_dim)
    update, reset = (
        F.linear(heads, weight.to(x.dtype), bias.to(x.dtype)).float().sigmoid().unbind(1)
    )
    update, reset = (y.view(-1, part.num_heads) for y in (update, reset))
    return update * (reset * part.gru_rel_pos_const.flatten() - 1.0) + 2.0


def positions(part, x, cache):
    """GELU of the positional convolution, by overlap-save with blocks of twice its kernel.

    One set of spectra serves every length (68 MB for Vesper-4).

    Arguments
    ---------
    part : PositionalConv
    x : torch.Tensor (B, T, D)
        float32, zero on padding.
    cache : WeightCache

    Returns
    -------
    torch.Tensor (B, T, D)
    """
    conv = part.conv
    kernel, groups = conv.kernel_size[0], conv.groups
    batch, frames, dim = x.shape
    block, hop = 2 * kernel, kernel + 1
    count = -(-frames // hop)
    parameters = list(conv.parameters())
    spectra = cache.get("positions", parameters, lambda: kernel_spectra(conv.weight, groups, block))
    before = kernel // 2
    after = (count - 1) * hop + block - frames - before
    windows = F.pad(x, (0, 0, before, after)).unfold(1, block, hop)  # (B, n, D, 2k)
    windows = windows.unflatten(2, (groups, -1)).permute(4, 2, 0, 1, 3).flatten(2, 3)
    products = torch.fft.rfft(windows, dim=0) @ spectra  # (k+1, G, B n, D/G)
    y = torch.fft.irfft(products, n=block, dim=0)[:hop]
    y = y.unflatten(2, (batch, count)).permute(2, 3, 0, 1, 4).reshape(batch, count * hop, dim)
    return gelu_(y[:, :frames] + conv.bias)


def kernel_spectra(weight, groups, block):
    """Conjugate spectra of a grouped weight (D, D/G, k): (block/2+1, G, D/G in, D/G out)."""
    weight = weight.detach().unflatten(0, (groups, -1)).permute(3, 0, 2, 1)  # (k, G, in, out)
    return torch.fft.rfft(weight.contiguous(), n=block, dim=0).conj().resolve_conj().contiguous()
