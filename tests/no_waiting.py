"""A guard for code that runs on a GPU: what would wait for the device raises, on any machine."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoWaiting(TorchDispatchMode):
    """Raises where an operation would have to wait for a device to know a value or a shape."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aten = torch.ops.aten
        waits = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal)
        by_mask = func.overloadpacket in (aten.index, aten.index_put) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if func.overloadpacket in waits or by_mask:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))
