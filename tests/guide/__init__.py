"""The host of "VFIO: Tuning your Windows gaming VM for optimal performance", for tests."""

PAUSES = 39.5
"""How many seconds the guide's scripts sleep in one start and stop of the VM."""
