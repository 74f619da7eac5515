"""Vesper's building blocks: everything with a forward pass, or that serves one."""
