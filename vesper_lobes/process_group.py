"""How the processes of a run part."""

import torch.distributed as dist


def leave_together():
    """Wait for all processes of the run, then close what connects them; alone, do nothing.

    A process that ends with connections open may abort instead, and torchrun then ends the others,
    such as the one that is still writing the export.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
