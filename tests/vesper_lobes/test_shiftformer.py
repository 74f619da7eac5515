"""ShiftFormer against its description: shift, blocks, masking of features."""

import pytest
import torch
from torch import nn

from vesper_lobes.shiftformer import ShiftFormerHead, span_mask


def reference(head, frames):
    """Logits of one utterance (T, D), written frame by frame as the guide describes the head."""
    quarter = frames.shape[1] // 4
    for block in head.blocks:
        shifted = frames.clone()
        for t in range(len(frames)):
            before = frames[t - 1] if t > 0 else torch.zeros_like(frames[0])
            after = frames[t + 1] if t + 1 < len(frames) else torch.zeros_like(frames[0])
            shifted[t, :quarter] = before[:quarter]
            shifted[t, quarter : 2 * quarter] = after[quarter : 2 * quarter]
        wide, _, narrow = block.mlp
        mlp = narrow(nn.functional.gelu(wide(shifted)))
        frames = nn.functional.layer_norm(
            shifted + mlp, mlp.shape[-1:], block.norm.weight, block.norm.bias
        )
    return head.classifier(frames.mean(0))


def test_equals_its_description_frame_by_frame():
    head = ShiftFormerHead(16, 4).double().eval()
    x, lengths = torch.randn(3, 9, 16).double(), torch.tensor([9, 1, 4])
    for row, n, logits in zip(x, lengths, head(x, lengths), strict=True):
        torch.testing.assert_close(logits, reference(head, row[:n]))


def test_spans_are_as_many_and_as_long_as_asked_for():
    lengths = torch.tensor([324, 100, 30, 29, 14])
    counts = torch.stack(
        [span_mask(lengths, 324, prob=0.08, span=15, least=2).sum(1) for _ in range(300)]
    )
    assert counts[:, :3].min() >= 16  # no two begin at the same place
    assert counts[:, 0].max() == 30  # two spans that may overlap
    assert (counts[:, 3] == 15).all()  # room for one only
    assert (counts[:, 4] == 0).all()  # shorter than a span


def test_spans_stay_on_real_frames_and_begin_anywhere():
    lengths = torch.tensor([40])
    masks = torch.cat([span_mask(lengths, 60, 0.1, 8, 1) for _ in range(500)])
    assert not masks[:, 40:].any()
    shares = masks[:, :40].float().mean(0)
    assert shares.min() > 0
    assert shares[7:33].max() < 2 * shares[7:33].min()  # even, but near the ends


def test_share_of_long_rows():
    spans = span_mask(torch.full((400,), 2000), 2000, prob=0.08, span=15, least=2)
    covered = 1 - (1 - 0.08 / 15) ** 15  # 15 places at which a span over this one may begin
    assert spans.float().mean() == pytest.approx(covered, abs=0.004)


def test_masked_frames_are_the_learned_vector_and_masked_channels_zero():
    head = ShiftFormerHead(128, 4).train()
    with torch.no_grad():
        head.mask_vector.fill_(7.0)
    seen = []
    head.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    x = torch.full((2, 60, 128), 3.0)
    head(x, torch.tensor([60, 50])).sum().backward()
    assert head.mask_vector.grad.abs().sum() > 0
    for row in seen[0].split([60, 50]):
        assert set(row.unique().tolist()) == {0.0, 3.0, 7.0}
        zeroed = (row == 0).all(0)
        assert zeroed.sum() == 64 and (row[:, ~zeroed] != 0).all()  # whole channels, one span
        learned = (row == 7).any(1)
        assert 16 <= learned.sum() <= 30 and (row[learned][:, ~zeroed] == 7).all()
