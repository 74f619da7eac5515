"""The head that reads emotions out of pooled states, or frames.

Those of Table IV, which need every frame, are :mod:`vesper_lobes.shiftformer` and
:mod:`vesper_lobes.speechformer`.
"""

from torch import nn

from vesper_lobes.pooling import masked_mean


class SuperbHead(nn.Module):
    """SUPERB's emotion head (Table III): Linear -> mean over real frames -> Linear.

    There is no activation, so the head is affine in the pooled feature and pooling may come first:
    the same function, at a ``1/T`` of the cost, and exact on cached pooled states too. Padded
    frames count for nothing; the published code lets each add the first layer's bias to the mean.

    Arguments
    ---------
    input_dim : int
        D of the features.
    num_classes : int
    hidden : int
        Width between the two layers (256 in SUPERB and the paper).

    Example
    -------
    >>> import torch
    >>> head = SuperbHead(input_dim=16, num_classes=4)
    >>> head(torch.rand(2, 7, 16), torch.tensor([7, 3])).shape  # frames and their counts
    torch.Size([2, 4])
    >>> head(torch.rand(2, 16)).shape  # pooled features
    torch.Size([2, 4])
    """

    def __init__(self, input_dim, num_classes, hidden=256):
        super().__init__()
        self.projector = nn.Linear(input_dim, hidden)
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, x, lengths=None):
        """Logits of each row.

        Arguments
        ---------
        x : torch.Tensor (B, T, D) frames, or (B, D) pooled over real frames
        lengths : torch.LongTensor (B,), optional
            Real frames of each row; None: all of them. Not taken with pooled features.

        Returns
        -------
        torch.Tensor (B, C)
            Not normalised.
        """
        if x.dim() == 3:
            x = x.mean(1) if lengths is None else masked_mean(x, lengths)  # (B, D)
        elif lengths is not None:
            raise ValueError("lengths were given with features that are already pooled")
        return self.classifier(self.projector(x))
