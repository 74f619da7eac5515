"""Targets of masked prediction: k-means clusters of MFCCs at the encoder's own frames.

HuBERT's first iteration (Hsu et al., 2021, section IV-B) predicts clusters of 39-dimensional MFCCs
(13 coefficients with their first and second differences). The features here are computed on the
very grid of the encoder's convolutions (25 ms windows every 20 ms, 1 + (S - 400) // 320 of them),
so that target t belongs to state t without any resampling.
"""

import math
import os
from dataclasses import asdict, dataclass

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vesper_lobes.lengths import n_frames, sample_lengths

WINDOW, HOP, N_FFT, SAMPLE_RATE = 400, 320, 512, 16000


def mel_filters(num_mels, low_hz=20.0, high_hz=8000.0):
    """Triangular mel filters as a (N_FFT // 2 + 1, num_mels) matrix (HTK mel scale)."""

    def mel(hz):
        return 2595.0 * math.log10(1.0 + hz / 700.0)

    edges = torch.linspace(mel(low_hz), mel(high_hz), num_mels + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    bins = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)[:, None]
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return torch.minimum(rising, falling).clamp_min(0).float()


def dct_matrix(num_mels, num_coefficients):
    """Orthonormal DCT-II as a (num_mels, num_coefficients) matrix."""
    n = torch.arange(num_mels, dtype=torch.float64)[:, None] + 0.5
    k = torch.arange(num_coefficients, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi / num_mels * n * k) * math.sqrt(2.0 / num_mels)
    matrix[:, 0] *= math.sqrt(0.5)
    return matrix.float()


def deltas(features, lengths, reach=2):
    """Regression differences over +-`reach` frames; each row's edges are repeated, padding unread.

    Arguments
    ---------
    features : torch.Tensor
        (B, T, F).
    lengths : torch.Tensor
        (B,) real frames of each row.
    reach : int
        Frames on each side (2, as in HTK and Kaldi).

    Returns
    -------
    torch.Tensor
        (B, T, F).
    """
    steps = torch.arange(features.shape[1], device=features.device)[None]  # (1, T)
    last = (lengths.to(features.device)[:, None] - 1).clamp_min(0)  # (B, 1)
    total = torch.zeros_like(features)
    for k in range(1, reach + 1):
        after = torch.minimum(steps + k, last)  # (B, T)
        before = torch.minimum((steps - k).clamp_min(0), last)
        total += k * (_take(features, after) - _take(features, before))
    return total / (2 * sum(k * k for k in range(1, reach + 1)))


def _take(features, frames):
    return features.gather(1, frames[..., None].expand(-1, -1, features.shape[2]))


@dataclass
class MfccConfig:
    """Settings of the features; 13 coefficients with two differences are HuBERT's."""

    num_mels: int = 40
    num_coefficients: int = 13
    preemphasis: float = 0.97
    mean_norm: bool = False


def mfcc(wavs, lengths, config=None):
    """MFCCs with first and second differences at the encoder's frames.

    Arguments
    ---------
    wavs : torch.Tensor
        (B, S) raw samples at 16 kHz.
    lengths : torch.Tensor
        (B,) real samples of each row.
    config : MfccConfig
        With `mean_norm`, the mean over each row's real frames is taken off.

    Returns
    -------
    tuple
        (B, T, 3 * num_coefficients) features, T = 1 + (S - 400) // 320, and (B,) real frames.

    Example
    -------
    >>> features, frames = mfcc(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> features.shape, frames.tolist()
    (torch.Size([2, 49, 39]), [49, 24])
    """
    config = config or MfccConfig()
    frames = n_frames(lengths)
    windows = wavs.float().unfold(-1, WINDOW, HOP)  # (B, T, 400)
    windows = windows - windows.mean(-1, keepdim=True)
    previous = torch.cat([windows[..., :1], windows[..., :-1]], -1)
    windows = windows - config.preemphasis * previous
    windows = windows * torch.hamming_window(WINDOW, periodic=False, device=wavs.device)
    power = torch.fft.rfft(windows, N_FFT).abs().square()  # (B, T, 257)
    mels = (power @ mel_filters(config.num_mels).to(wavs.device)).clamp_min(1e-8).log()
    static = mels @ dct_matrix(config.num_mels, config.num_coefficients).to(wavs.device)
    first = deltas(static, frames)
    features = torch.cat([static, first, deltas(first, frames)], -1)
    if config.mean_norm:
        real = torch.arange(features.shape[1], device=wavs.device)[None] < frames[:, None]
        real = real[..., None].to(features)
        mean = (features * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
        features = features - mean
    return features, frames


class MfccClusters:
    """Nearest-centroid labels of MFCC frames.

    Arguments
    ---------
    centroids : torch.Tensor
        (K, F) in standardised units.
    mean, std : torch.Tensor
        (F,) statistics of the fitting data, by which features are standardised (ours: without it
        the coefficients of large range decide alone).
    config : MfccConfig
        Settings of the features.

    Example
    -------
    >>> clusters = fit_clusters([torch.randn(16000) for _ in range(4)], num_clusters=5)
    >>> labels, frames = clusters(torch.randn(2, 8000))
    >>> labels.shape, int(labels.max()) < 5
    (torch.Size([2, 24]), True)
    """

    def __init__(self, centroids, mean, std, config=None):
        self.centroids, self.mean, self.std = centroids.float(), mean.float(), std.float()
        self.config = config or MfccConfig()

    @property
    def num_clusters(self):
        """K, the number of labels."""
        return self.centroids.shape[0]

    def to(self, device):
        """Move the centroids and statistics to a device."""
        self.centroids, self.mean = self.centroids.to(device), self.mean.to(device)
        self.std = self.std.to(device)
        return self

    @torch.no_grad()
    def __call__(self, wavs, wav_lens=None):
        """Labels of (B, S) raw waveforms: ((B, T) long, (B,) real frames).

        Computed in float32 whatever autocast is on: half precision would move frames between
        neighbouring clusters.
        """
        with torch.autocast(wavs.device.type, enabled=False):
            features, frames = mfcc(wavs, sample_lengths(wavs, wav_lens), self.config)
            features = (features - self.mean) / self.std
            return torch.cdist(features, self.centroids).argmin(-1), frames

    def save(self, path):
        """Write everything to one safetensors file, atomically."""
        tensors = {"centroids": self.centroids, "mean": self.mean, "std": self.std}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        settings = {name: str(float(value)) for name, value in asdict(self.config).items()}
        temporary = f"{path}.{os.getpid()}.tmp"
        save_file(tensors, temporary, metadata=settings)
        os.replace(temporary, path)

    @classmethod
    def load(cls, path):
        """Read a file of `save`."""
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in ("centroids", "mean", "std")}
            settings = stored.metadata()
        config = MfccConfig()
        for name, value in asdict(config).items():
            setattr(config, name, type(value)(float(settings[name])))
        return cls(**tensors, config=config)


def fit_clusters(wavs, num_clusters, config=None, seed=0, max_frames=200_000):
    """Fit k-means on the MFCC frames of an iterable of (S,) waveforms.

    Arguments
    ---------
    wavs : iterable
        (S,) raw float waveforms at 16 kHz; those under 400 samples are passed over.
    num_clusters : int
        K (HuBERT: 100).
    config : MfccConfig
        Settings of the features.
    seed : int
        Of the k-means initialisation.
    max_frames : int
        Frames used at most; reading stops there (200,000 frames = 67 min, ours).

    Returns
    -------
    MfccClusters

    Raises
    ------
    ValueError
        If there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    config, features, count = config or MfccConfig(), [], 0
    for wav in wavs:
        if wav.shape[-1] < WINDOW:
            continue
        features.append(mfcc(wav[None], torch.tensor([wav.shape[-1]]), config)[0][0])
        count += len(features[-1])
        if count >= max_frames:
            break
    if count < num_clusters:
        raise ValueError(f"{count} frames of speech are too few for {num_clusters} clusters.")
    features = torch.cat(features)
    mean, std = features.mean(0), features.std(0).clamp_min(1e-5)
    # 20 initialisations, batches of 10,000 frames: fairseq's learn_kmeans.py, which made HuBERT's.
    kmeans = MiniBatchKMeans(
        num_clusters, batch_size=10_000, n_init=20, max_iter=100, random_state=seed
    )
    kmeans.fit(((features - mean) / std).numpy())
    return MfccClusters(torch.from_numpy(kmeans.cluster_centers_), mean, std, config)
