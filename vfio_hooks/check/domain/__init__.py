"""Rules about a domain's XML: its machine, processors, memory, devices, disks and clock.

They hold for domains of QEMU; of one for another hypervisor a single rule says so.
"""
