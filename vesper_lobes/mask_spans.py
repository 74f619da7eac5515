"""Spans of masked frames: picking their centres, covering frames, laying them to a number.

Batched, without a Python loop over rows. Centre c of a span of n frames covers
c - n//2 ... c - n//2 + n - 1.
"""

import torch
import torch.nn.functional as F


def first_members(order, members, numbers):
    """The first so many members of each row, in a given order.

    Arguments
    ---------
    order : torch.LongTensor (B, T)
        A permutation of the frames of each row.
    members : torch.BoolTensor (B, T)
    numbers : torch.LongTensor (B,)

    Returns
    -------
    torch.BoolTensor (B, T)

    Example
    -------
    >>> order = torch.tensor([[3, 1, 0, 2]])
    >>> first_members(order, torch.tensor([[True, True, True, False]]), torch.tensor([2]))
    tensor([[ True,  True, False, False]])
    """
    in_order = members.gather(1, order)
    chosen = in_order & (in_order.cumsum(1) <= numbers.unsqueeze(1))
    return torch.zeros_like(members).scatter(1, order, chosen)


def _windows(values, span, fill):
    """Values at the centres whose span covers each frame: (B, T) -> view (B, T, span)."""
    # frame t is covered by c when c - span//2 <= t <= c - span//2 + span - 1
    before, after = span - 1 - span // 2, span // 2
    return F.pad(values, (before, after), value=fill).unfold(1, span, 1)


def dilate(centres, span):
    """Frames covered by the spans around the centres: bool (B, T) -> bool (B, T).

    Example
    -------
    >>> dilate(torch.tensor([[0, 0, 1, 0, 0]]).bool(), span=2).int()
    tensor([[0, 1, 1, 0, 0]], dtype=torch.int32)
    """
    if centres.shape[1] == 0:
        return centres
    return _windows(centres, span, False).any(-1)


def lay_spans(order, targets, span, real):
    """Lay spans down, in the order of centres given, until ``targets`` (B,) frames are masked.

    The number is met exactly: the last span is cut to its frames nearest to the centre. Any target
    up to the row's length is reached, since every real frame can be a centre.

    Returns the mask and the centres used, both bool (B, T).
    """
    num_frames = order.shape[1]
    # ranks leave gaps where the order names padded frames; only their order matters
    rank = order.argsort(1).masked_fill(~real, num_frames)
    covered_by = _windows(rank, span, num_frames).amin(-1)  # rank of the first centre to cover t
    centre = order.gather(1, covered_by.clamp(max=num_frames - 1))
    frames = torch.arange(num_frames, device=order.device)
    distance = (frames - centre).abs()  # the last span is cut from its ends
    reached = (covered_by * (num_frames + 1) + distance).argsort(dim=1, stable=True)
    mask = first_members(reached, real, targets)
    last_used = covered_by.masked_fill(~mask, -1).amax(1, keepdim=True)
    return mask, real & (rank <= last_used)


def centre_list(centres, width):
    """Ascending centre frames, then -1: bool (B, T) -> LongTensor (B, width)."""
    batch, num_frames = centres.shape
    frames = torch.arange(num_frames, device=centres.device).expand(batch, -1)
    listed = torch.where(centres, frames, num_frames).sort(1).values[:, :width]
    listed = F.pad(listed, (0, width - listed.shape[1]), value=num_frames)
    return listed.masked_fill(listed == num_frames, -1)
