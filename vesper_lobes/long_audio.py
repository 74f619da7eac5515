"""Long recordings in windows: memory that does not grow with the square of their length (ours).

Attention over T frames takes memory in T squared (half a gigabyte for one minute of WavLM's 16
heads in float32, 58 GB for ten), and the conv front end 33 MB for each second. So a recording
longer than `LONG_SECONDS` is encoded in windows of 30 s, of which each sees 2 s more on both sides;
of those only its own frames are kept.

What that changes, and what it does not (Large type):

- nothing in the waveform's normalisation, which is over the whole recording, nor in the conv front
  end, whose frames see 25 ms and no more (chunked further here, exactly);
- nothing in the positional convolution (2.5 s wide, 1.3 s to each side) with this context;
- attention: a frame attends to its window and context, not to what is further away.

In Base types the front end's GroupNorm is over time, so its statistics are the window's. How far
the means of the states move is measured by ``benchmarks/growth.py``, with and without context.
"""

import logging

import torch

from vesper_lobes.conv import normalize_waveform
from vesper_lobes.encoder import EncoderOutput
from vesper_lobes.lengths import FIELD, HOP, SAMPLE_RATE, n_frames, sample_lengths

logger = logging.getLogger(__name__)

LONG_SECONDS = 60.0  # up to here in one pass
WINDOW_SECONDS, CONTEXT_SECONDS = 30.0, 2.0
FRONT_END_FRAMES = 500  # 10 s of the conv front end at a time


def frame_windows(frames, window, context):
    """The least number of equal windows that cover some frames, and what each sees.

    Arguments
    ---------
    frames, window, context : int
        T, the longest window, and frames seen beyond it on each side.

    Returns
    -------
    list of (first, start, stop, last)
        A window keeps frames ``start`` to ``stop`` and sees ``first`` to ``last``.

    Example
    -------
    >>> frame_windows(10, window=4, context=1)
    [(0, 0, 3, 4), (2, 3, 6, 7), (5, 6, 10, 10)]
    """
    count = -(-frames // window)
    edges = [frames * number // count for number in range(count + 1)]
    return [
        (max(0, start - context), start, stop, min(frames, stop + context))
        for start, stop in zip(edges, edges[1:], strict=False)
    ]


@torch.no_grad()
def window_states(
    encoder, wav, window_seconds=WINDOW_SECONDS, context_seconds=CONTEXT_SECONDS, name="audio"
):
    """States of a recording, one window after the other.

    Arguments
    ---------
    encoder : Encoder
        In eval mode; its device and any autocast are used.
    wav : torch.Tensor (S,)
        16 kHz, on any device.
    window_seconds, context_seconds : float
    name : str
        For the log.

    Yields
    ------
    tuple of N+1 torch.Tensor (t, D)
        The window's own frames; all windows together have the recording's T frames, in order.

    Raises
    ------
    ValueError
        Shorter than one frame.
    """
    frames = n_frames(len(wav))
    if not frames:
        raise ValueError(f"{name}: {len(wav)} samples are shorter than one frame ({FIELD})")
    per_second = SAMPLE_RATE / HOP
    windows = frame_windows(
        frames, max(1, round(window_seconds * per_second)), round(context_seconds * per_second)
    )
    logger.info(
        "%s: %.0f s are encoded in %d windows of %.1f s, each seeing %.1f s more on both sides",
        *(name, len(wav) / SAMPLE_RATE, len(windows), frames / per_second / len(windows)),
        context_seconds,
    )
    if encoder.config.do_normalize:
        wav = normalize_waveform(wav.unsqueeze(0), sample_lengths(wav.unsqueeze(0))).squeeze(0)
    device = next(encoder.parameters()).device
    for first, start, stop, last in windows:
        end = len(wav) if last == frames else (last - 1) * HOP + FIELD  # Base norms the rest too
        seen = wav[first * HOP : end].to(device)
        features = _front_end(encoder, seen)  # (1, last - first, C)
        length = torch.tensor([last - first], device=device)
        states = encoder.encode(features, length, padded=False).states
        yield tuple(state[0, start - first : stop - first] for state in states)


def _front_end(encoder, wav):
    """Features (1, t, C) of a normalised waveform; in parts where no norm is over time."""
    frames = n_frames(len(wav))
    local = encoder.config.feat_extract_norm == "layer"
    step = FRONT_END_FRAMES if local else frames
    parts = []
    for start in range(0, frames, step):
        stop = min(frames, start + step)
        end = (stop - 1) * HOP + FIELD if stop < frames else len(wav)
        part = wav[start * HOP : end].unsqueeze(0)
        parts.append(encoder.front_end(part, sample_lengths(part))[0])
    return torch.cat(parts, dim=1)


def encode_long(encoder, wav, **options):
    """A recording's states as `Encoder` returns them; memory is that of the states alone.

    Arguments
    ---------
    encoder, wav, **options
        As for `window_states`.

    Returns
    -------
    EncoderOutput
        states (1, T, D), lengths (1,).

    Example
    -------
    >>> from vesper_lobes.config import EncoderConfig
    >>> from vesper_lobes.encoder import Encoder
    >>> encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2)).freeze()
    >>> out = encode_long(encoder, torch.randn(48000), window_seconds=1.0, context_seconds=0.5)
    >>> out.states[-1].shape, out.lengths
    (torch.Size([1, 149, 192]), tensor([149]))
    """
    windows = list(window_states(encoder, wav, **options))
    states = [torch.cat(parts) for parts in zip(*windows, strict=True)]
    states = tuple(state.unsqueeze(0) for state in states)
    return EncoderOutput(states, torch.tensor([states[0].shape[1]], device=states[0].device))


def pool_long(encoder, wav, **options):
    """Means of a recording's states over all its frames, kept as a running sum.

    Arguments
    ---------
    encoder, wav, **options
        As for `window_states`.

    Returns
    -------
    torch.FloatTensor (N+1, D)
    """
    total, frames = 0.0, 0
    for states in window_states(encoder, wav, **options):
        total = total + torch.stack([state.sum(0, dtype=torch.float32) for state in states])
        frames += len(states[0])
    return total / frames
