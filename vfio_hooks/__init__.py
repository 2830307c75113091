"""Prepare a host for a VM with passed-through devices, and undo exactly what was done."""

__version__ = "0.2.0"
