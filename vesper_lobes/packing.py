"""The real frames of a padded batch, one after the other: what padding is never computed on.

Most layers of a head treat each frame by itself (Linear, LayerNorm, GELU). Fed with the packed
frames (N, D) of a batch, N the sum of its lengths, they cost nothing for padding, and what lies
there, NaN included, cannot reach result or gradient.
"""

from vesper_lobes.lengths import frame_mask


class Packing:
    """Where the real frames of a batch are.

    Arguments
    ---------
    lengths : torch.LongTensor (B,)
        Real frames of each row, on the device of the frames.
    width : int
        T of the padded batch.

    Attributes
    ----------
    rows, places : torch.LongTensor (N,)
        Row of each packed frame, and its place in the row, from 0.

    Example
    -------
    >>> import torch
    >>> packing = Packing(torch.tensor([1, 2]), width=3)
    >>> packing.pack(torch.tensor([[[1.0], [9.0], [9.0]], [[2.0], [3.0], [9.0]]])).flatten()
    tensor([1., 2., 3.])
    >>> packing.places
    tensor([0, 0, 1])
    """

    def __init__(self, lengths, width):
        if int(lengths.max()) > width:
            raise ValueError(f"a length of {int(lengths.max())} in a batch of {width} frames")
        self.lengths, self.width = lengths, width
        self.index = frame_mask(lengths, width).flatten().nonzero().squeeze(1)  # (N,)
        self.rows = self.index // width
        self.places = self.index % width

    def pack(self, x):
        """Padded (B, T, ...) -> packed (N, ...)."""
        return x.flatten(0, 1).index_select(0, self.index)

    def unpack(self, tokens, width=None):
        """Packed (N, D) -> padded (B, T, D) with zeros beyond each row's end.

        Arguments
        ---------
        tokens : torch.Tensor (N, D)
        width : int, optional
            Another T than that of the batch, at least the longest length.
        """
        width = width or self.width
        out = tokens.new_zeros(len(self.lengths) * width, tokens.shape[-1])
        index = self.rows * width + self.places
        return out.index_copy(0, index, tokens).unflatten(0, (-1, width))
