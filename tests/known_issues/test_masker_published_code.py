"""What else the published masker does: 19 and 3 spans by their starts, never the paper's 20 and 4.

The strategy that keeps it for comparison must show these traits, and the default must not.
"""

import torch

from vesper_lobes.masker import EmotionGuidedMasker, mask_noise


def masks_of(strategy, rows=64, samples=80000):
    generator = torch.Generator().manual_seed(0)
    wavs = torch.randn(rows, samples, generator=generator)
    wavs = wavs * torch.rand(rows, samples // 1600, generator=generator).repeat_interleave(1600, 1)
    noise = mask_noise(1, 1, [str(i) for i in range(rows)], 1 + (samples - 400) // 320)
    return EmotionGuidedMasker(strategy)(wavs, torch.full((rows,), samples), noise)


def subset_share(masks):
    inside = (masks.word_centres.unsqueeze(-1) == masks.phoneme_centres.unsqueeze(1)).any(-1)
    return inside[masks.word_centres >= 0].float().mean().item()


def test_published_numbers_and_starts():
    masks = masks_of("published_code")
    numbers = (masks.phoneme_centres >= 0).sum(1)
    assert numbers.max() == 19 and (masks.word_centres >= 0).sum(1).max() == 3
    starts = masks.phoneme_centres[masks.phoneme_centres >= 0]
    assert starts.max() <= 249 - 8
    for row in range(len(numbers)):  # each start opens a span of 8
        for start in masks.phoneme_centres[row][: numbers[row]].tolist():
            assert masks.phoneme[row, start : start + 8].all()
    assert subset_share(masks) < 0.8  # most rows need other frames for their word spans
    assert 0.42 < masks.phoneme.float().mean() < 0.52  # 47 % of the frames


def test_ours_has_20_and_4_inherited_centres():
    masks = masks_of("guided")
    assert (masks.phoneme_centres >= 0).sum(1).eq(20).all()
    assert (masks.word_centres >= 0).sum(1).eq(4).all()
    assert subset_share(masks) == 1.0
