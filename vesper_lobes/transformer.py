"""The transformer above the front end: positional convolution and N pre- or post-norm layers."""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from vesper_lobes.attention import SelfAttention
from vesper_lobes.lengths import frame_mask


class FeatureProjection(nn.Module):
    """LayerNorm and Linear from the front end's channels to the model's width."""

    def __init__(self, config):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim[-1], eps=config.layer_norm_eps)
        self.projection = nn.Linear(config.conv_dim[-1], config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, x):
        """(B, T, C) -> (B, T, D)."""
        return self.dropout(self.projection(self.layer_norm(x)))


class PositionalConv(nn.Module):
    """Relative positions by a wide grouped convolution; an even kernel loses its last output."""

    def __init__(self, config):
        super().__init__()
        kernel = config.num_conv_pos_embeddings
        self.conv = weight_norm(
            nn.Conv1d(
                config.hidden_size,
                config.hidden_size,
                kernel,
                padding=kernel // 2,
                groups=config.num_conv_pos_embedding_groups,
            ),
            name="weight",
            dim=2,
        )

    def forward(self, x):
        """(B, T, D), zero on padding -> (B, T, D)."""
        # oneDNN's bf16 kernel is wrong (by 100 %) below 16 channels a group: float32 there
        narrow = x.device.type == "cpu" and self.conv.in_channels < 16 * self.conv.groups
        with torch.autocast(x.device.type, enabled=False) if narrow else contextlib.nullcontext():
            x = x.float() if narrow and x.dtype == torch.bfloat16 else x
            out = self.conv(x.transpose(1, 2))[..., : x.shape[1]]
        return F.gelu(out).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, config):
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output_dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.intermediate_dropout = nn.Dropout(config.activation_dropout)
        self.output_dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x):
        """(B, T, D) -> (B, T, D)."""
        x = self.intermediate_dropout(F.gelu(self.intermediate_dense(x)))
        return self.output_dropout(self.output_dense(x))


class Layer(nn.Module):
    """One transformer layer; normalises before its parts (Large type) or after them (Base)."""

    def __init__(self, config, index):
        super().__init__()
        self.pre_norm = config.do_stable_layer_norm
        self.attention = SelfAttention(config, has_bucket_table=index == 0)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x, padding=None, bias=None):
        """(B, T, D) -> (B, T, D)."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.layer_norm(x), padding, bias))
            return x + self.feed_forward(self.final_layer_norm(x))
        x = self.layer_norm(x + self.dropout(self.attention(x, padding, bias)))
        return self.final_layer_norm(x + self.feed_forward(x))


class Transformer(nn.Module):
    """Positional convolution and layers; keeps every state.

    ``layer_norm`` follows the positional convolution in Base types. In Large types it would come
    after the last layer, where Vesper takes raw outputs: it is loaded, kept, saved and unused.
    """

    def __init__(self, config):
        super().__init__()
        self.post_norm = not config.do_stable_layer_norm
        self.pos_conv_embed = PositionalConv(config)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layer_norm.requires_grad_(self.post_norm)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.num_hidden_layers))

    def embed(self, x, real=None, mask=None, token=None, mask_after=False):
        """State 0: projected frames plus positions.

        Arguments
        ---------
        x : torch.Tensor (B, T, D)
        real : torch.BoolTensor (B, T), optional
            False on padding; None: all real.
        mask : torch.BoolTensor (B, T), optional
            Frames replaced by ``token``: before the positional convolution (eq. 9-10; nothing
            of a masked frame reaches its neighbours), or after it with ``mask_after``.
        token : torch.Tensor (D,)
        """
        if mask is not None and not mask_after:
            x = replace_frames(x, mask, token)
        if real is not None:
            x = x.masked_fill(~real.unsqueeze(-1), 0)
        x = x + self.pos_conv_embed(x)
        if mask is not None and mask_after:
            x = replace_frames(x, mask, token)
        if self.post_norm:
            x = self.layer_norm(x)
        return self.dropout(x)

    def forward(self, x, lengths=None, phoneme_mask=None, word_mask=None, token=None, after=False):
        """All states.

        Arguments
        ---------
        x : torch.Tensor (B, T, D)
        lengths : torch.LongTensor (B,), optional
            Real frames; None: every row is whole.
        phoneme_mask, word_mask : torch.BoolTensor (B, T), optional
            Masked on the input of layer 1 and of layer N/2 + 1.

        Returns
        -------
        tuple of N+1 torch.Tensor (B, T, D)
            State N/2 as it was before the word mask.
        """
        real = padding = None
        if lengths is not None:
            real = frame_mask(lengths, x.shape[1])
            padding = torch.zeros(real.shape, dtype=x.dtype, device=x.device)
            padding = padding.masked_fill(~real, float("-inf"))[:, None, None, :]
        x = self.embed(x, real, phoneme_mask, token, after)
        attention = self.layers[0].attention
        bias = attention.position_bias(x.shape[1]) if hasattr(attention, "rel_attn_embed") else None
        states = [x]
        for index, layer in enumerate(self.layers):
            if word_mask is not None and index == len(self.layers) // 2:
                x = replace_frames(x, word_mask, token)
            x = layer(x, padding, bias)
            states.append(x)
        return tuple(states)


def replace_frames(x, mask, token):
    """x (B, T, D) with ``token`` (D,) where ``mask`` (B, T) is True; never in place."""
    return torch.where(mask.unsqueeze(-1), token.to(x.dtype), x)
