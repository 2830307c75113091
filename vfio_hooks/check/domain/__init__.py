"""Rules about a domain's XML: its machine, processors, memory, devices, disks and clock.

They are about domains of QEMU; for one of another hypervisor, a single rule says so.
"""
