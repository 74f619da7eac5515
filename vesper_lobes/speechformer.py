"""SpeechFormer-S: attention in growing units of speech, frame to utterance (Table IV).

Chen et al., "SpeechFormer: A Hierarchical Efficient Framework Incorporating the Characteristics of
Speech", Interspeech 2022, in the size the paper calls S. Written from the description: windows and
merges are those for features at 50 Hz. Lengths are ours: windows, merges and means count real
tokens only.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vesper_lobes.packing import Packing
from vesper_lobes.pooling import masked_mean


class SpeechFormerHead(nn.Module):
    """Four stages (frame, phoneme, word, utterance), mean over real tokens, three Linears.

    37,629,508 parameters at 768 inputs and 4 classes, 66,851,588 at 1024: more than Vesper-4. At
    50 Hz and the published windows, 6.5 s are 324 frames, 162 phoneme, 27 word and 7 utterance
    tokens.

    Arguments
    ---------
    input_dim : int
        D of the features, kept throughout; a multiple of `num_heads` and of 4.
    num_classes : int
    layers : tuple of int
        Of each stage (2, 2, 4, 4).
    windows : tuple of int
        Odd widths of the local attention of all stages but the last, which is global (3, 11, 9).
    merges : tuple of int
        Tokens that become one after each stage but the last (2, 6, 4).
    num_heads : int
    dropout : float
        On each branch of a layer.
    classifier_dropout : float
        Between the classifier's Linears.

    Example
    -------
    >>> head = SpeechFormerHead(input_dim=16, num_classes=4).eval()
    >>> head(torch.rand(2, 70, 16), torch.tensor([70, 3])).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        input_dim,
        num_classes,
        layers=(2, 2, 4, 4),
        windows=(3, 11, 9),
        merges=(2, 6, 4),
        num_heads=8,
        dropout=0.1,
        classifier_dropout=0.5,
    ):
        super().__init__()
        if input_dim % num_heads or input_dim % 4:
            raise ValueError(f"{input_dim} inputs are not a multiple of 4 and {num_heads} heads")
        if any(window < 3 or window % 2 == 0 for window in windows):
            raise ValueError(f"windows are centred, so odd and at least 3, not {windows}")
        sizes = zip(layers, [*windows, None], [*merges, None], strict=True)
        self.stages = nn.ModuleList(
            Stage(input_dim, count, num_heads, window, merge, dropout)
            for count, window, merge in sizes
        )
        self.classifier = nn.Sequential(
            nn.Linear(input_dim, input_dim // 2),
            nn.ReLU(),
            nn.Dropout(classifier_dropout),
            nn.Linear(input_dim // 2, input_dim // 4),
            nn.ReLU(),
            nn.Dropout(classifier_dropout),
            nn.Linear(input_dim // 4, num_classes),
        )

    def forward(self, x, lengths=None):
        """Logits of each row.

        Arguments
        ---------
        x : torch.Tensor (B, T, D)
            What lies beyond a row's length counts for nothing.
        lengths : torch.LongTensor (B,), optional
            Real frames of each row; None: all of them.

        Returns
        -------
        torch.Tensor (B, C)
            Not normalised.
        """
        batch, width, dim = x.shape
        if lengths is None:
            lengths = torch.full((batch,), width, device=x.device)
        packing = Packing(lengths.to(x.device), width)
        tokens = packing.pack(x)  # (N, D), N = sum of lengths
        positions = sinusoids(width, dim, x.device)[packing.places].to(x.dtype)  # stage 1 only
        for stage in self.stages:
            tokens, packing = stage(tokens, packing, positions)
            positions = None
        return self.classifier(masked_mean(packing.unpack(tokens), packing.lengths))


class Stage(nn.Module):
    """LayerNorm, transformer layers, and a merge of neighbouring tokens.

    Arguments
    ---------
    dim, num_layers, num_heads : int
    window : int or None
        Width of local attention; None: global.
    merge : int or None
        Tokens that become one; None: no merge.
    dropout : float
    """

    def __init__(self, dim, num_layers, num_heads, window, merge, dropout):
        super().__init__()
        self.window = window
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(Layer(dim, num_heads, dropout) for _ in range(num_layers))
        self.merge = None if merge is None else Merge(dim, merge)

    def forward(self, tokens, packing, positions=None):
        """Tokens (N, D) and their packing -> tokens and packing after the merge."""
        tokens = self.norm(tokens)
        attend = GlobalAttention(packing)
        if self.window is not None and packing.width > 1:
            attend = LocalAttention(packing, self.window)
        for layer in self.layers:
            tokens = layer(tokens, attend, positions)
        return (tokens, packing) if self.merge is None else self.merge(tokens, packing)


class Layer(nn.Module):
    """``x = LN(x + drop(MSA(x + pos)))``, ``x = LN(x + drop(FFN(x)))``; the FFN is D/2 wide.

    Weights are Xavier-uniform, those of queries, keys and values each by itself. Positions are
    computed, never stored among the parameters, where an initialisation could reach them.

    Arguments
    ---------
    dim, num_heads : int
    dropout : float
    """

    def __init__(self, dim, num_heads, dropout):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim))
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.dropout = nn.Dropout(dropout)
        matrices = [*self.qkv.weight.chunk(3), self.out.weight, *(m.weight for m in self.ffn[::2])]
        with torch.no_grad():
            for weight in matrices:
                nn.init.xavier_uniform_(weight)

    def forward(self, x, attend, positions=None):
        """Tokens (N, D) -> (N, D); `attend` maps q, k, v (N, H, D/H) to one such tensor."""
        inputs = x if positions is None else x + positions
        q, k, v = self.qkv(inputs).unflatten(-1, (3, self.num_heads, -1)).unbind(1)
        attended = self.out(attend(q, k, v).flatten(1))
        x = self.norms[0](x + self.dropout(attended))
        return self.norms[1](x + self.dropout(self.ffn(x)))


class LocalAttention:
    """Each token sees a centred window of its own utterance; linear in the number of tokens.

    The packed tokens of all utterances are cut into blocks of queries, each with the keys its
    windows reach; a mask keeps the band, and tokens of other utterances out.

    Arguments
    ---------
    packing : Packing
    window : int
        Odd.
    """

    def __init__(self, packing, window):
        self.reach = window // 2
        keys = 8 * math.ceil(window / 2)  # four windows; fused kernels like multiples of 8
        self.block = keys - 2 * self.reach
        self.spare = -len(packing.rows) % self.block  # empty places that fill the last block
        places = F.pad(packing.rows + 1, (0, self.spare))  # row of each token, from 1; 0: none
        queries = places.unflatten(0, (-1, self.block))  # (blocks, block)
        keys = self._with_neighbours(queries)  # (blocks, keys)
        device = keys.device
        ahead = torch.arange(keys.shape[1], device=device)
        ahead = ahead - torch.arange(self.block, device=device).unsqueeze(1)
        band = (ahead >= 0) & (ahead < window)  # (block, keys)
        # a token sees itself at least, empty places see each other: no row of the mask is empty
        self.mask = (band & (queries[:, :, None] == keys[:, None, :])).unsqueeze(1)

    def __call__(self, q, k, v):
        """q, k, v (N, H, D/H) -> (N, H, D/H)."""
        filling = (0, 0, 0, 0, 0, self.spare)
        q, k, v = (F.pad(x, filling).unflatten(0, (-1, self.block)) for x in (q, k, v))
        k, v = self._with_neighbours(k), self._with_neighbours(v)  # (blocks, keys, H, d)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = attention(q, k, v, self.mask)  # (blocks, H, block, d)
        out = out.transpose(1, 2).flatten(0, 1)
        return out[: len(out) - self.spare]

    def _with_neighbours(self, blocks):
        """(blocks, block, ...) -> (blocks, reach + block + reach, ...), zeros at both ends."""
        ends = [0, 0] * (blocks.dim() - 1)
        before = F.pad(blocks[:-1, -self.reach :], (*ends, 1, 0))
        after = F.pad(blocks[1:, : self.reach], (*ends, 0, 1))
        return torch.cat([before, blocks, after], dim=1)


class GlobalAttention:
    """Each token sees its whole utterance.

    Arguments
    ---------
    packing : Packing
    """

    def __init__(self, packing):
        self.packing = packing

    def __call__(self, q, k, v):
        """q, k, v (N, H, D/H) -> (N, H, D/H)."""
        heads, packing = q.shape[1], self.packing
        q, k, v = (
            packing.unpack(x.flatten(1)).unflatten(-1, (heads, -1)).transpose(1, 2)
            for x in (q, k, v)
        )  # (B, H, T, d)
        real = torch.arange(packing.width, device=q.device) < packing.lengths.clamp(min=1)[:, None]
        out = attention(q, k, v, real[:, None, None, :])
        return packing.pack(out.transpose(1, 2))


def attention(q, k, v, mask):
    """Scaled dot-product attention, on the CPU always in float32.

    Under autocast to bf16 the CPU's masked kernel takes ten times as long backwards (torch 2.11).
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        q, k, v = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Merge(nn.Module):
    """Mean of every `count` tokens, of the real ones at an utterance's end; Linear; LayerNorm.

    Arguments
    ---------
    dim, count : int
    """

    def __init__(self, dim, count):
        super().__init__()
        self.count = count
        self.linear = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens, packing):
        """Tokens (N, D) and their packing -> fewer tokens and theirs."""
        width = math.ceil(packing.width / self.count)
        merged = Packing(-(-packing.lengths // self.count), width)
        groups = packing.unpack(tokens, width * self.count).unflatten(1, (width, self.count))
        total = merged.pack(groups.sum(2))  # (M, D)
        left = packing.lengths[merged.rows] - merged.places * self.count
        means = total / left.clamp(max=self.count).unsqueeze(-1)
        return self.norm(self.linear(means)), merged


def sinusoids(length, dim, device=None):
    """Sinusoidal positions (Vaswani et al., 2017): sines in even channels, cosines in odd ones.

    Arguments
    ---------
    length, dim : int

    Returns
    -------
    torch.Tensor (length, dim)

    Example
    -------
    >>> sinusoids(2, 4)[0]
    tensor([0., 1., 0., 1.])
    """
    places = torch.arange(length, device=device).unsqueeze(1)
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = places * rates  # (length, dim/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
