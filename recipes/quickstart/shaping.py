"""What the synthesiser cannot do itself: level, dynamics, brilliance and channel of an utterance.

Plain numpy on one utterance (S,) at a time; deterministic.
"""

import numpy as np

SAMPLE_RATE = 16000
SPEECH_FLOOR = 30.0  # dB under the loudest frame: what lies above counts as speech (ours)
ENVELOPE_SECONDS = 0.04  # window of the level: under a syllable, over a glottal period (ours)


def padded(samples):
    """With zeros at the end, up to a length that the FFT is quick at."""
    return np.pad(samples, (0, -len(samples) % 2048))


def resample(samples, rate_in, rate_out=SAMPLE_RATE):
    """(S,) at `rate_in` -> (S rate_out / rate_in,), rounded, by cutting the spectrum."""
    samples = padded(samples)
    size = round(len(samples) * rate_out / rate_in)
    bins = min(len(samples), size) // 2 + 1
    spectrum = np.zeros(size // 2 + 1, dtype=complex)
    spectrum[:bins] = np.fft.rfft(samples)[:bins]
    return np.fft.irfft(spectrum, size) * (size / len(samples))


def envelope(samples):
    """Level in dB around every sample, (S,): RMS over 40 ms, never under -120 dB."""
    half = int(ENVELOPE_SECONDS * SAMPLE_RATE) // 2
    power = np.square(samples)
    for _ in range(2):  # two means over 20 ms: a triangle of 40 ms
        total = np.cumsum(np.pad(power, (half // 2 + 1, half // 2)))
        power = (total[half:] - total[:-half])[: len(samples)] / half
    return 10 * np.log10(np.maximum(power, 1e-12))


def speech_level(samples):
    """RMS in dB over speech: samples whose level is within 30 dB of the loudest."""
    level = envelope(samples)
    speech = level > level.max() - SPEECH_FLOOR
    return 10 * np.log10(np.mean(np.square(samples[speech])))


def set_level(samples, level):
    """Scaled to a speech level in dB of full scale."""
    return samples * 10 ** ((level - speech_level(samples)) / 20)


def trim(samples):
    """Without the silence before and after the speech."""
    level = envelope(samples)
    speech = np.flatnonzero(level > level.max() - 1.5 * SPEECH_FLOOR)
    return samples[speech[0] : speech[-1] + 1]


def scale_dynamics(samples, factor):
    """The level's excursions (dB) around its mean over speech, times `factor`."""
    level = envelope(samples)
    speech = level > level.max() - SPEECH_FLOOR
    excursion = np.clip(level - level[speech].mean(), -SPEECH_FLOOR, SPEECH_FLOOR)
    return samples * 10 ** ((factor - 1) * excursion / 20)


def tilt_level(samples, decibels):
    """A level that changes evenly by `decibels` from the first to the last sample."""
    return samples * 10 ** (np.linspace(-decibels / 2, decibels / 2, len(samples)) / 20)


def shelve(samples, decibels, corner=1000.0):
    """Everything above `corner` Hz raised by `decibels`, over an octave or so."""
    spectrum = np.fft.rfft(padded(samples))
    frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    share = frequency**4 / (frequency**4 + corner**4)  # 0 below, 1 above
    return np.fft.irfft(spectrum * 10 ** (decibels * share / 20))[: len(samples)]


def breathe(samples, share, generator):
    """With noise above 1 kHz that follows the voice's level, `share` times its amplitude."""
    if share == 0:
        return samples
    noise = generator.standard_normal(len(samples))
    noise = shelve(noise, 40.0) / 100  # 40 dB under itself below the corner
    return samples + share * noise * 10 ** (envelope(samples) / 20)


def fade(samples, onset, offset=0.01):
    """Raised-cosine rise over `onset` seconds and fall over `offset` seconds."""
    samples = samples.copy()
    for seconds, part in ((onset, samples), (offset, samples[::-1])):
        size = min(int(seconds * SAMPLE_RATE), len(part))
        part[:size] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(size) / max(size, 1))
    return samples


def room_noise(size, level, generator):
    """(size,) of noise falling by 3 dB an octave above 50 Hz, its RMS at `level` dB."""
    spectrum = np.fft.rfft(padded(generator.standard_normal(size)))
    frequency = np.linspace(0, SAMPLE_RATE / 2, len(spectrum))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 50.0)))[:size]
    return noise * 10 ** (level / 20) / np.sqrt(np.mean(np.square(noise)))
