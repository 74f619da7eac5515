"""What the processes of a run agree on: how many they are, what they count, when to part."""

import torch.distributed as dist


def world_size():
    """Processes of the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def mean_over_processes(amounts):
    """What each process counted, averaged over all; alone, as it is.

    Divisors of sums over a process's frames are made of it: with the counts averaged, the mean over
    processes, which DDP takes of gradients, is the mean over the frames of all their utterances as
    one batch. Every process must call it at every step.

    Arguments
    ---------
    amounts : torch.FloatTensor
        Without gradient; overwritten.

    Returns
    -------
    torch.FloatTensor
        Of the same shape.
    """
    if world_size() > 1:
        dist.all_reduce(amounts)
        amounts /= world_size()
    return amounts


def leave_together():
    """Wait for all processes of the run, then close what connects them; alone, do nothing.

    A process that ends with connections open may abort instead, and torchrun then ends the others,
    such as the one that is still writing the export.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
