"""The SUPERB head: affine, masked, the same on frames and on pooled features."""

import pytest
import torch

from vesper_lobes.heads import SuperbHead
from vesper_lobes.pooling import masked_mean


def frame_wise(head, x, lengths):
    """The head as SUPERB writes it: project every frame, then average the real ones."""
    return head.classifier(masked_mean(head.projector(x), lengths))


def test_equals_projecting_every_frame_in_outputs_and_gradients():
    torch.manual_seed(0)
    head = SuperbHead(24, 4)
    lengths, results = torch.tensor([50, 7, 31]), []
    x = torch.randn(3, 50, 24, requires_grad=True)
    for logits in (head(x, lengths), frame_wise(head, x, lengths)):
        wanted = [x, *head.parameters()]
        results.append([logits, *torch.autograd.grad(logits.square().sum(), wanted)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pooled_features_give_the_same_logits():
    head = SuperbHead(8, 3)
    x, lengths = torch.randn(2, 9, 8), torch.tensor([9, 4])
    torch.testing.assert_close(head(masked_mean(x, lengths)), head(x, lengths))
    torch.testing.assert_close(head(x), head(x, torch.tensor([9, 9])))


def test_is_affine():
    head = SuperbHead(8, 3)
    a, b = torch.randn(2, 1, 8).unbind(0)
    middle = (head(a) + head(b)) / 2
    torch.testing.assert_close(head((a + b) / 2), middle, rtol=1e-5, atol=1e-6)


def test_parameter_count_and_misuse():
    head = SuperbHead(1024, 4)
    assert sum(p.numel() for p in head.parameters()) == 1024 * 256 + 256 + 256 * 4 + 4
    with pytest.raises(ValueError, match="already pooled"):
        head(torch.randn(2, 1024), torch.tensor([1, 1]))
