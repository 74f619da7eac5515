"""The encoder: 16 kHz speech to the states of every layer, WavLM or HuBERT, Large or Base type.

Parameter names are transformers', so ``load_state_dict(strict=True)`` takes a WavLMModel's or
HubertModel's weights and an exported encoder opens there. Padding never changes an answer: the
waveform z-norm, Base's GroupNorm, the positional convolution and attention see real input only.
"""

import contextlib
import math
from typing import NamedTuple

import torch
from torch import nn

from vesper_lobes.conv import ConvFrontEnd, ConvLayer, normalize_waveform
from vesper_lobes.fast_conv import front_end_dtype, front_end_features
from vesper_lobes.fast_cpu import WeightCache
from vesper_lobes.fast_layers import layer_states, layers_dtype
from vesper_lobes.lengths import FIELD, sample_lengths
from vesper_lobes.transformer import FeatureProjection, PositionalConv, Transformer


class EncoderOutput(NamedTuple):
    """What an encoder returns.

    ``states``: tuple of N+1 tensors (B, T, D); 0 is projection + positional convolution, then the
    raw output of each layer. ``lengths``: (B,) real frames. What stands in a state beyond its
    row's length is unspecified.
    """

    states: tuple
    lengths: torch.Tensor


class Encoder(nn.Module):
    """A speech encoder with random weights (``load_encoder`` reads trained ones).

    Inference on a CPU takes a faster way to the same states where it can
    (:mod:`vesper_lobes.fast_cpu`); ``encoder.fast = False`` keeps to the plain one.

    Arguments
    ---------
    config : EncoderConfig
    mask_after_pos_conv : bool
        Where masked frames are replaced: before the positional convolution (default, eq. 9-10),
        or after it, as the paper's published code does, where content leaks to the neighbours.

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2)).eval()
    >>> out = encoder(torch.randn(2, 16000), torch.tensor([1.0, 0.5]))
    >>> len(out.states), out.states[0].shape, out.lengths
    (3, torch.Size([2, 49, 192]), tensor([49, 24]))
    """

    def __init__(self, config, mask_after_pos_conv=False):
        super().__init__()
        if config.num_hidden_layers < 2 or config.num_hidden_layers % 2:
            raise ValueError(
                f"{config.num_hidden_layers} layers: losses sit at layers N/2 and N, so N must be "
                "even and at least 2"
            )
        self.config = config
        self.mask_after_pos_conv = mask_after_pos_conv
        self.frozen = False
        self.fast = True
        self.weight_cache = WeightCache()
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size))
        self.feature_extractor = ConvFrontEnd(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Transformer(config)
        self.initialize()

    @property
    def num_layers(self):
        """N."""
        return self.config.num_hidden_layers

    @property
    def hidden_size(self):
        """D."""
        return self.config.hidden_size

    def forward(self, wavs, wav_lens=None):
        """Encode a padded batch.

        Arguments
        ---------
        wavs : torch.Tensor (B, S)
            16 kHz, as read: the encoder normalises where its type wants it.
        wav_lens : torch.Tensor (B,), optional
            Relative lengths.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            For a row shorter than one frame's 400 samples.
        """
        return self.encode(*self.cnn(wavs, wav_lens), padded=wav_lens is not None)

    def cnn(self, wavs, wav_lens=None):
        """Waveform z-norm and conv front end: (B, S) -> (B, T, C), frame lengths (B,)."""
        lengths = sample_lengths(wavs, wav_lens)
        # a length check waits for the device, so on an accelerator only the width is checked
        shortest = int(lengths.min()) if lengths.device.type == "cpu" else wavs.shape[1]
        if shortest < FIELD:
            raise ValueError(
                f"a waveform of {shortest} samples ({1000 * shortest / 16000:.1f} ms) is shorter "
                f"than one frame ({FIELD} samples, 25 ms at 16 kHz)"
            )
        cnn_is_frozen = not any(p.requires_grad for p in self.feature_extractor.parameters())
        with torch.no_grad() if cnn_is_frozen else contextlib.nullcontext():
            if self.config.do_normalize:
                wavs = normalize_waveform(wavs, lengths)
            return self.front_end(wavs, lengths)

    def front_end(self, wavs, lengths):
        """The conv front end alone, in its faster way where that can be.

        Arguments
        ---------
        wavs : torch.Tensor (B, S)
            Normalised already, where the type wants it.
        lengths : torch.LongTensor (B,)
            Real samples.

        Returns
        -------
        features : torch.Tensor (B, T, C)
        frames : torch.LongTensor (B,)
        """
        dtype = front_end_dtype(self.feature_extractor, wavs) if self.fast else None
        if dtype is None:
            return self.feature_extractor(wavs, lengths)
        return front_end_features(self.feature_extractor, wavs, lengths, dtype, self.weight_cache)

    def encode(self, features, lengths, phoneme_mask=None, word_mask=None, padded=True):
        """From the front end's output to all states.

        Arguments
        ---------
        features : torch.Tensor (B, T, C)
        lengths : torch.LongTensor (B,)
            Real frames.
        phoneme_mask : torch.BoolTensor (B, T), optional
            Frames masked on the input of layer 1.
        word_mask : torch.BoolTensor (B, T), optional
            Frames masked on the input of layer N/2 + 1; state N/2 is taken before.
        padded : bool
            False promises that every row is whole, and saves the padding mask.
        """
        dtype = layers_dtype(self, features) if self.fast else None
        real_lengths = lengths if padded else None
        if dtype is not None:
            masks = (phoneme_mask, word_mask)
            states = layer_states(self, features, real_lengths, masks, dtype, self.weight_cache)
            return EncoderOutput(states, lengths)
        states = self.encoder(
            self.feature_projection(features),
            real_lengths,
            phoneme_mask,
            word_mask,
            self.masked_spec_embed,
            self.mask_after_pos_conv,
        )
        return EncoderOutput(states, lengths)

    def freeze(self):
        """No gradients and no dropout, for ever: ``train()`` cannot undo it. Returns self."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def freeze_cnn(self):
        """The front end stays as it is (it has no dropout); the rest trains. Returns self."""
        self.feature_extractor.requires_grad_(False)
        return self

    def _apply(self, fn, recurse=True):
        """As nn.Module (``to``, ``half``, ``cuda``), letting go what was made from old weights."""
        self.weight_cache.clear()
        return super()._apply(fn, recurse)

    def train(self, mode=True):
        """As nn.Module, except that a frozen encoder stays in eval."""
        return super().train(mode and not self.frozen)

    def num_parameters(self):
        """Parameters that take part in a forward pass (masked_spec_embed included).

        The paper's counts: the Large type's final LayerNorm is held, but unused and not counted.
        """
        unused = self.encoder.layer_norm if self.config.is_large_type else nn.Identity()
        return sum(p.numel() for p in self.parameters()) - sum(
            p.numel() for p in unused.parameters()
        )

    @torch.no_grad()
    def initialize(self):
        """Random weights by the rules of the transformers classes."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, ConvLayer):
                nn.init.kaiming_normal_(module.conv.weight)
        projection = self.feature_projection.projection
        bound = math.sqrt(1 / projection.in_features)
        nn.init.uniform_(projection.weight, -bound, bound)
        nn.init.uniform_(projection.bias, -bound, bound)
        nn.init.uniform_(self.masked_spec_embed)
        for module in self.modules():
            if isinstance(module, PositionalConv):
                conv = module.conv
                std = 2 * math.sqrt(1 / (conv.kernel_size[0] * conv.in_channels))
                conv.weight = torch.randn_like(conv.weight) * std  # through the parametrization
                nn.init.zeros_(conv.bias)
