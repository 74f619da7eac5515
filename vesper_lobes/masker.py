"""The emotion-guided masker: which frames the student must predict, chosen where speech is loud.

The paper's rule (arXiv 2307.10757, section III-C). RMS energy per 25 ms frame, divided by the
utterance's maximum, cuts the real frames into zones: high (0.5, 1], low (0.2, 0.5], noise
[0, 0.2]. Half of the mask positions come from the high zone and half from the low zone. Each
position is the *centre* of a span: 20 spans of 8 frames (phoneme level, on the input of layer 1),
and 4 of those 20 again as spans of 40 frames (word level, on the input of layer N/2+1).

What the paper leaves open is decided here (ours):

- An odd number of positions gives the high zone the one more. A zone with too few frames is
  completed from the other one, then from any real frame, so a silent utterance (all noise) is
  masked at random. No frame is a centre twice: a row of T frames has at most T positions.
- Spans may overlap, and are clipped to the real frames. Padding is never masked.
- The absolute 20 and 4 suit 5 s (249 frames). On short rows they cover nearly everything, and a
  row of one frame is masked whole; ``positions="scaled"`` keeps the density of a 5 s crop, with at
  least one position of each kind. A row without a frame (below 400 samples) gets no mask.
- The word centres are drawn without regard to zones or to the order that ranked the phoneme ones.

Everything is a pure function of waveform, lengths and noise, row by row independent, in batched
tensor operations without a host synchronisation. A batch of 32 x 5 s takes 8 ms on one CPU core
(Xeon, Emerald Rapids; ``random_matched`` 13 ms), most of it for the energy of 2.6 M samples.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from vesper_lobes.lengths import FIELD, HOP, frame_mask, n_frames
from vesper_lobes.mask_spans import centre_list, dilate, first_members, lay_spans
from vesper_lobes.masker_published import published_masks

HIGH, LOW, NOISE, PADDING = 2, 1, 0, -1
ZONES = {"high": HIGH, "low": LOW, "noise": NOISE}
HIGH_ABOVE, LOW_ABOVE = 0.5, 0.2  # the paper, section III-C
REFERENCE_FRAMES = 249  # frames of 5 s, for which the paper's 20 and 4 are meant

STRATEGIES = ("guided", "random", "random_matched", "published_code")
POSITIONS = ("paper", "scaled")


class Masks(NamedTuple):
    """What the masker returns, for B rows of T frames (padding included).

    ``phoneme`` and ``word`` are bool (B, T), True where the mask embedding goes.
    ``phoneme_centres`` (B, P) and ``word_centres`` (B, W) are the spans' centre frames in ascending
    order, then -1 (P = T for ``random_matched``, whose number of spans varies).
    ``energy`` (B, T) is in [0, 1], 0 on padding. ``zones`` int8 (B, T): 2 high, 1 low, 0 noise,
    -1 padding.
    """

    phoneme: torch.Tensor
    word: torch.Tensor
    phoneme_centres: torch.Tensor
    word_centres: torch.Tensor
    energy: torch.Tensor
    zones: torch.Tensor


class EmotionGuidedMasker:
    """Masks of a batch, from its waveforms and one uniform number per frame.

    Arguments
    ---------
    strategy : str
        ``guided`` is the paper's rule. ``random`` (Table VI) draws the positions from all real
        frames; its spans clump less, so it masks more frames than ``guided`` does.
        ``random_matched`` is the fair ablation: random spans are laid down until exactly the
        number of frames is masked that ``guided`` masks in the same utterance with the same noise,
        at both levels; the last span is cut to its frames nearest to the centre. Word centres are
        drawn from the phoneme centres used, and from other frames only if those do not suffice.
        ``published_code`` is for comparison only, see `published_masks`: it depends on the batch.
    positions : str
        ``paper``: the same number in every row. ``scaled``: ``max(1, round(number * T / 249))``
        with T the row's real frames, for crops other than 5 s.
    phoneme_positions, word_positions : int
        Number of spans (the paper: 20 and 4).
    phoneme_span, word_span : int
        Frames per span (the paper: 8 = 160 ms and 40 = 800 ms). Centre c of a span of n frames
        covers c - n//2 ... c - n//2 + n - 1: c-4..c+3 and c-20..c+19.
    share_cap : float, optional
        Upper bound of the masked share of a row's real frames, kept by drawing at most
        ``floor(share_cap * T / span)`` positions, which may be none (a word span needs 63 frames
        at 0.64, the published code's value). Off by default.

    Example
    -------
    >>> noise = mask_noise(seed=1, epoch=1, ids=["a", "b"], num_frames=249)
    >>> masker = EmotionGuidedMasker()
    >>> masks = masker(torch.randn(2, 80000), torch.tensor([80000, 40000]), noise)
    >>> masks.phoneme.shape, (masks.phoneme_centres >= 0).sum(1).tolist()
    (torch.Size([2, 249]), [20, 20])
    >>> bool(masks.phoneme[1, 124:].any())  # the second row has 124 real frames
    False
    """

    def __init__(
        self,
        strategy="guided",
        positions="paper",
        phoneme_positions=20,
        word_positions=4,
        phoneme_span=8,
        word_span=40,
        share_cap=None,
    ):
        if strategy not in STRATEGIES:
            raise ValueError(f"strategy must be one of {STRATEGIES}, not {strategy!r}")
        if positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, not {positions!r}")
        if not 1 <= word_positions <= phoneme_positions or min(phoneme_span, word_span) < 1:
            raise ValueError(
                "need 1 <= word_positions <= phoneme_positions and spans of >= 1 frame"
            )
        if share_cap is not None and not 0 < share_cap <= 1:
            raise ValueError(f"share_cap must be in (0, 1] or None, not {share_cap!r}")
        self.strategy = strategy
        self.positions = positions
        self.phoneme_positions = phoneme_positions
        self.word_positions = word_positions
        self.phoneme_span = phoneme_span
        self.word_span = word_span
        self.share_cap = share_cap

    @torch.no_grad()
    def __call__(self, wavs, sample_lengths, noise):
        """Draw the masks.

        Arguments
        ---------
        wavs : torch.Tensor (B, S)
            Waveforms at 16 kHz, before any normalisation. What stands in the padding is ignored.
        sample_lengths : torch.LongTensor (B,)
            Real samples of each row.
        noise : torch.Tensor (B, T)
            Uniform in [0, 1), float32 of full resolution, T = 1 + (S - 400) // 320. See
            `mask_noise`.

        Returns
        -------
        Masks

        Raises
        ------
        ValueError
            If the shape of the noise does not fit the waveforms.
        """
        num_frames = n_frames(wavs.shape[1])
        if noise.shape != (len(wavs), num_frames):
            expected = (len(wavs), num_frames)
            raise ValueError(f"noise must be of shape {expected}, not {tuple(noise.shape)}")
        noise = noise.to(wavs.device)
        lengths = n_frames(sample_lengths.to(wavs.device).clamp(max=wavs.shape[1]))
        energy = frame_energy(wavs, lengths)
        zones = energy_zones(energy, lengths)
        if self.strategy == "published_code":
            drawn = self._published(wavs, lengths, noise)
        elif self.strategy == "random_matched":
            drawn = self._random_matched(zones, lengths, noise)
        else:
            drawn = self._spans(zones, lengths, noise)
        return Masks(*drawn, energy, zones)

    def _spans(self, zones, lengths, noise):
        """``guided`` and ``random``: masks and centre lists of both levels."""
        real = zones != PADDING
        num_phoneme, num_word = self._numbers(lengths)
        order = noise.argsort(dim=1, stable=True)
        if self.strategy == "random":
            phoneme_centres = first_members(order, real, num_phoneme)
        else:
            phoneme_centres = _guided_centres(order, zones, num_phoneme)
        # without zone quota, by a second uniform number: the first one ranked the phoneme centres
        word_order = _another_uniform(noise, 1).argsort(dim=1, stable=True)
        word_centres = first_members(word_order, phoneme_centres, num_word)
        phoneme = dilate(phoneme_centres, self.phoneme_span) & real
        word = dilate(word_centres, self.word_span) & real
        widest = self._widths(zones.shape[1])
        return (
            phoneme,
            word,
            centre_list(phoneme_centres, widest[0]),
            centre_list(word_centres, widest[1]),
        )

    def _random_matched(self, zones, lengths, noise):
        """Random spans that mask as many frames as the guided ones, level by level."""
        num_frames = zones.shape[1]
        if num_frames == 0:
            return self._spans(zones, lengths, noise)
        real = zones != PADDING
        guided = EmotionGuidedMasker(**{**vars(self), "strategy": "guided"})
        guided_phoneme, guided_word, *_ = guided._spans(zones, lengths, noise)
        # numbers of their own: the random positions owe nothing to the guided ones
        order = _another_uniform(noise, 2).argsort(dim=1, stable=True)
        phoneme, phoneme_centres = lay_spans(order, guided_phoneme.sum(1), self.phoneme_span, real)
        keys = _another_uniform(noise, 3) + 2**24 * (~phoneme_centres)  # phoneme centres first
        word_order = keys.argsort(dim=1, stable=True)
        word, word_centres = lay_spans(word_order, guided_word.sum(1), self.word_span, real)
        return (
            phoneme,
            word,
            centre_list(phoneme_centres, num_frames),
            centre_list(word_centres, num_frames),
        )

    def _published(self, wavs, lengths, noise):
        """The published code's masks; its "centres" are the spans' first frames."""
        uniforms = [noise] + [_another_uniform(noise, stream) for stream in (1, 2, 3)]
        return published_masks(
            wavs,
            lengths,
            uniforms,
            numbers=(self.phoneme_positions, self.word_positions),
            spans=(self.phoneme_span, self.word_span),
            share_cap=0.64 if self.share_cap is None else self.share_cap,
        )

    def _numbers(self, lengths):
        """Positions of each row, at both levels: two LongTensors (B,)."""
        num_phoneme = self._number(self.phoneme_positions, self.phoneme_span, lengths)
        num_word = self._number(self.word_positions, self.word_span, lengths)
        return num_phoneme, torch.minimum(num_word, num_phoneme)

    def _number(self, number, span, lengths):
        wanted = torch.full_like(lengths, number)
        if self.positions == "scaled":
            wanted = _scaled(number, lengths).clamp(min=1)
        if self.share_cap is not None:
            capped = (self.share_cap * lengths.double() / span + 1e-9).floor().long()
            wanted = torch.minimum(wanted, capped)
        return torch.minimum(wanted, lengths)

    def _widths(self, num_frames):
        """Columns of the centre lists: the most positions a row of this batch can have."""
        numbers = self.phoneme_positions, self.word_positions
        if self.positions == "scaled":
            numbers = tuple(max(1, _scaled(number, num_frames)) for number in numbers)
        return numbers


def frame_energy(wavs, lengths):
    """RMS energy of each frame, divided by the row's maximum (eq. 6).

    Arguments
    ---------
    wavs : torch.Tensor (B, S)
        Raw waveforms. Samples that are not finite count as 0.
    lengths : torch.LongTensor (B,)
        Real frames.

    Returns
    -------
    torch.Tensor (B, T)
        float32 in [0, 1]; all 0 for a silent row, 0 on padding. In float64 inside: no level of
        recording overflows or underflows.
    """
    num_frames = n_frames(wavs.shape[1])
    if num_frames == 0 or len(wavs) == 0:
        return torch.zeros(len(wavs), num_frames, device=wavs.device)
    samples = torch.nan_to_num(wavs.detach().float(), nan=0.0, posinf=0.0, neginf=0.0)
    power = samples.double().square_().unsqueeze(1)  # (B, 1, S)
    rms = F.avg_pool1d(power, FIELD, HOP).squeeze(1).sqrt()  # (B, T)
    rms = rms.masked_fill(~frame_mask(lengths, num_frames), 0.0)
    loudest = rms.amax(1, keepdim=True)
    return (rms / torch.where(loudest > 0, loudest, 1.0)).float()


def energy_zones(energy, lengths):
    """Zones of the frames: int8 (B, T), 2 high (0.5, 1], 1 low (0.2, 0.5], 0 noise, -1 padding."""
    zones = (energy > HIGH_ABOVE).to(torch.int8) + (energy > LOW_ABOVE).to(torch.int8)
    return zones.masked_fill(~frame_mask(lengths, energy.shape[1]), PADDING)


def mask_noise(seed, epoch, ids, num_frames):
    """Noise for the masker, keyed by (seed, epoch, utterance).

    A row depends on nothing else: not on the batch, its order, the process or the library's
    version, because the numbers are the output of SHAKE-128 over the key. A longer ``num_frames``
    only appends.

    Arguments
    ---------
    seed, epoch : int
    ids : list of str
    num_frames : int

    Returns
    -------
    torch.FloatTensor (B, num_frames)
        On the CPU, uniform in [0, 1), multiples of 2**-24.

    Example
    -------
    >>> noise = mask_noise(1986, 3, ["utt1", "utt2"], 249)
    >>> bool((noise[1:, :100] == mask_noise(1986, 3, ["utt2"], 100)).all())
    True
    """
    keys = (f"{int(seed)}/{int(epoch)}/{name}".encode() for name in ids)
    digests = b"".join(hashlib.shake_128(key).digest(4 * num_frames) for key in keys)
    bits = np.frombuffer(digests, dtype="<u4").reshape(len(ids), num_frames) >> 8  # 24 bits
    return torch.from_numpy(bits.astype(np.float32) * np.float32(2**-24))


def mask_counts(masks, lengths):
    """Real, phoneme-masked and word-masked frames (rows) in the high, low and noise zone (columns).

    A LongTensor (3, 3) on the masks' device: add up over batches without waiting for the device,
    then call `shares_of_counts` once.
    """
    real = frame_mask(lengths.to(masks.zones.device), masks.zones.shape[1])
    zones = torch.stack([masks.zones == zone for zone in ZONES.values()])  # (3, B, T)
    levels = torch.stack([real, real & masks.phoneme, real & masks.word])
    return (levels.unsqueeze(1) & zones.unsqueeze(0)).sum((2, 3))


def shares_of_counts(counts):
    """Shares, as floats, from the sums of `mask_counts`; 0 where nothing was counted.

    ``high``, ``low``, ``noise``: share of the real frames in each zone. With ``phoneme`` and
    likewise ``word``: ``phoneme``, share of the real frames that are masked; ``phoneme_of_high``,
    share of the high zone that is masked; ``phoneme_in_high``, share of the masked frames that
    lie in the high zone; and so for ``low`` and ``noise``.
    """
    real, *levels = counts.tolist()
    shares = {zone: count / max(1, sum(real)) for zone, count in zip(ZONES, real, strict=True)}
    for level, masked in zip(("phoneme", "word"), levels, strict=True):
        shares[level] = sum(masked) / max(1, sum(real))
        for zone, inside, available in zip(ZONES, masked, real, strict=True):
            shares[f"{level}_of_{zone}"] = inside / max(1, available)
            shares[f"{level}_in_{zone}"] = inside / max(1, sum(masked))
    return shares


def mask_shares(masks, lengths):
    """Masked shares of one batch, overall and by zone: a dict of floats, see `shares_of_counts`.

    Example
    -------
    >>> noise = mask_noise(1, 1, ["a"], 249)
    >>> masks = EmotionGuidedMasker()(torch.ones(1, 80000), torch.tensor([80000]), noise)
    >>> shares = mask_shares(masks, torch.tensor([249]))
    >>> shares["high"], shares["phoneme_in_high"], 0.3 < shares["phoneme"] < 0.65
    (1.0, 1.0, True)
    """
    return shares_of_counts(mask_counts(masks, lengths))


def _scaled(number, frames):
    """``round(number * frames / 249)`` in integers, for an int or a LongTensor."""
    return (2 * number * frames + REFERENCE_FRAMES) // (2 * REFERENCE_FRAMES)


def _guided_centres(order, zones, numbers):
    """Centres by the paper's rule, bool (B, T): half high, half low, shortages filled."""
    high, low, noise = ((zones == zone) for zone in ZONES.values())
    num_high, num_low, num_noise = high.sum(1), low.sum(1), noise.sum(1)
    take_high = torch.minimum((numbers + 1) // 2, num_high)
    take_low = torch.minimum(numbers - take_high, num_low)  # its half, and what high lacks
    take_high = torch.minimum(numbers - take_low, num_high)  # and what low lacks
    take_noise = torch.minimum(numbers - take_high - take_low, num_noise)
    return (
        first_members(order, high, take_high)
        | first_members(order, low, take_low)
        | first_members(order, noise, take_noise)
    )


def _another_uniform(noise, stream):
    """A further uniform number per frame, independent of the first for every practical purpose.

    A float32 uniform carries 24 random bits. Their order of magnitude ranks the frames; a
    bijective mixing of all 24 bits (multiply and xor-shift, as hash functions end), different for
    each stream, gives integers in [0, 2**24) that rank them anew, without ties where the noise has
    none. Noise of lower resolution would still work, less independently.
    """
    last_24 = 2**24 - 1
    bits = ((noise.float() * 2**24).long() + stream * 0x9E3779) & last_24
    bits = ((bits ^ (bits >> 12)) * 0xC2B2AF) & last_24
    bits = ((bits ^ (bits >> 11)) * 0x85EBCB) & last_24
    return bits ^ (bits >> 12)
