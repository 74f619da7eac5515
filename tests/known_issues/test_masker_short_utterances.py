"""Utterances of 8 frames or fewer crash the published masker, and below 63 the word mask runs on.

Ours defines every length: at most as many positions as frames, spans clipped to the row.
"""

import pytest
import torch

from vesper_lobes.lengths import n_frames
from vesper_lobes.masker import STRATEGIES, EmotionGuidedMasker, mask_noise


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("frames", range(13))
def test_every_short_length_has_a_mask(strategy, frames):
    samples = 80 + 320 * frames if frames else 399
    wavs = torch.randn(2, samples, generator=torch.Generator().manual_seed(frames))
    noise = mask_noise(1, 1, ["a", "b"], n_frames(samples))
    masks = EmotionGuidedMasker(strategy)(wavs, torch.tensor([samples, samples]), noise)
    assert masks.phoneme.shape == (2, frames)
    if strategy == "guided":
        assert masks.phoneme.all() and masks.word.all()  # 20 positions: every frame is a centre
        scaled = EmotionGuidedMasker(positions="scaled")(wavs, torch.tensor([samples] * 2), noise)
        assert (scaled.phoneme_centres >= 0).sum(1).tolist() == [min(1, frames)] * 2


def test_the_word_mask_of_62_frames_is_one_span_of_40():
    wavs = torch.randn(32, 80 + 320 * 62, generator=torch.Generator().manual_seed(0))
    noise = mask_noise(1, 1, [str(i) for i in range(32)], 62)
    masks = EmotionGuidedMasker(positions="scaled")(wavs, torch.full((32,), wavs.shape[1]), noise)
    assert (masks.word_centres >= 0).sum(1).eq(1).all()
    assert masks.word.sum(1).max() == 40 and masks.word.sum(1).min() >= 20
