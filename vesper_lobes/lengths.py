"""Frame arithmetic: how many 20 ms frames a waveform gives, and which frames of a batch are real.

The conv front end of WavLM and HuBERT sees 400 samples (25 ms at 16 kHz) and hops by 320 (20 ms),
so ``S`` samples give ``1 + (S - 400) // 320`` frames. The rule is the convolutions' own; the usual
shortcut ``S // 320`` exceeds it by one or two frames and shifts losses into the padding.
"""

import torch

SAMPLE_RATE = 16000  # Hz, of every encoder in the family
HOP = 320  # samples between frames: product of the strides 5, 2, 2, 2, 2, 2, 2
FIELD = 400  # samples one frame sees: kernels 10, 3, 3, 3, 3, 2, 2 at those strides


def n_frames(samples):
    """Frames of a waveform.

    Arguments
    ---------
    samples : int or torch.Tensor
        Number of samples at 16 kHz.

    Returns
    -------
    int or torch.Tensor
        ``1 + (S - 400) // 320``, 0 below 400 samples; the same type as given.

    Example
    -------
    >>> n_frames(80000)  # five seconds
    249
    >>> n_frames(399)
    0
    """
    if isinstance(samples, torch.Tensor):
        frames = torch.div(samples - FIELD, HOP, rounding_mode="floor") + 1
        return frames.clamp(min=0)
    return max(0, 1 + (samples - FIELD) // HOP)


def sample_lengths(wavs, wav_lens=None):
    """Real samples of each row.

    Arguments
    ---------
    wavs : torch.Tensor (B, S)
        Padded waveforms.
    wav_lens : torch.Tensor (B,), optional
        Relative lengths, as SpeechBrain gives them; None: every row is whole.

    Returns
    -------
    torch.LongTensor (B,)
        Rounded, because relative lengths are float32: 32-bit rounding must not lose a sample.

    Example
    -------
    >>> sample_lengths(torch.zeros(2, 1000), torch.tensor([1.0, 0.5]))
    tensor([1000,  500])
    """
    batch, samples = wavs.shape
    if wav_lens is None:
        return torch.full((batch,), samples, dtype=torch.long, device=wavs.device)
    lengths = (wav_lens.to(wavs.device, torch.float64) * samples).round().long()
    return lengths.clamp(max=samples)


def frame_mask(lengths, num_frames):
    """True on real positions.

    Arguments
    ---------
    lengths : torch.LongTensor (B,)
    num_frames : int
        Width T of the padded batch.

    Returns
    -------
    torch.BoolTensor (B, T)

    Example
    -------
    >>> frame_mask(torch.tensor([1, 3]), 3).int()
    tensor([[1, 0, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.arange(num_frames, device=lengths.device) < lengths.unsqueeze(-1)
