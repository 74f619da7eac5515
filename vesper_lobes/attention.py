"""Self-attention of WavLM (gated relative position bias) and HuBERT (none), by fused kernels.

Transformers runs WavLM's attention eagerly, repeats the bias over the batch and averages the
weights of all heads in every layer. Nothing here needs the weights, so the gated bias goes into
``scaled_dot_product_attention`` as an additive mask and the T x T weights never leave the kernel.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def relative_position_buckets(num_frames, num_buckets, max_distance, device=None):
    """Bucket of every distance between two frames (T5's scheme, as in WavLM, section III-B).

    Half the buckets are for keys after the query. In each half the first half is exact, the rest
    grows logarithmically up to ``max_distance``.

    Arguments
    ---------
    num_frames : int
        T.
    num_buckets, max_distance : int
        320 and 800 in every WavLM release.

    Returns
    -------
    torch.LongTensor (2T-1,)
        For distances ``key - query`` from -(T-1) to T-1.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = torch.arange(1 - num_frames, num_frames, device=device)
    size = distance.abs()
    growth = torch.log(size.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + growth * (half - exact)).long().clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(size < exact, size, far)


class SelfAttention(nn.Module):
    """Multi-head attention with parameter names as in transformers.

    Arguments
    ---------
    config : EncoderConfig
    has_bucket_table : bool
        Layer 0 of a WavLM holds the table that all layers share.
    """

    def __init__(self, config, has_bucket_table):
        super().__init__()
        dim, self.num_heads = config.hidden_size, config.num_attention_heads
        self.head_dim = dim // self.num_heads
        self.dropout = config.attention_dropout
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.num_buckets, self.max_distance = config.num_buckets, config.max_bucket_distance
        if config.model_type == "wavlm":
            self.gru_rel_pos_const = nn.Parameter(torch.ones(1, self.num_heads, 1, 1))
            self.gru_rel_pos_linear = nn.Linear(self.head_dim, 8)
            if has_bucket_table:
                self.rel_attn_embed = nn.Embedding(self.num_buckets, self.num_heads)

    def position_bias(self, num_frames):
        """The ungated bias of all layers, (H, T, T), from layer 0's table."""
        table = self.rel_attn_embed.weight
        buckets = relative_position_buckets(
            num_frames, self.num_buckets, self.max_distance, table.device
        )
        by_distance = table[buckets].T  # (H, 2T-1)
        # row q of the bias is the window of distances -q .. T-1-q
        return by_distance.unfold(1, num_frames, 1).flip(1)

    def gate(self, x):
        """How much of the position bias each query takes: (B, T, D) -> (B, H, T, 1)."""
        batch, frames, _ = x.shape
        heads = x.view(batch, frames, self.num_heads, self.head_dim).transpose(1, 2)
        update, reset = (
            self.gru_rel_pos_linear(heads)  # (B, H, T, 8)
            .view(batch, self.num_heads, frames, 2, 4)
            .sum(-1)
            .sigmoid()
            .chunk(2, dim=-1)
        )
        return update * (reset * self.gru_rel_pos_const - 1.0) + 2.0

    def forward(self, x, padding=None, bias=None):
        """Attend.

        Arguments
        ---------
        x : torch.Tensor (B, T, D)
        padding : torch.Tensor (B, 1, 1, T), optional
            0 at real keys, -inf at padded ones.
        bias : torch.Tensor (H, T, T), optional
            The ungated position bias; None for HuBERT.

        Returns
        -------
        torch.Tensor (B, T, D)
        """
        batch, frames, dim = x.shape

        def split(projected):  # (B, T, D) -> (B, H, T, D/H)
            return projected.view(batch, frames, self.num_heads, self.head_dim).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        mask = padding
        if bias is not None:
            gate = self.gate(x)
            mask = gate * bias if padding is None else torch.addcmul(padding, gate, bias)
        if mask is not None:
            mask = mask.to(q.dtype)
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).reshape(batch, frames, dim))
