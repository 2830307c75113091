"""How quiet a VM's CPUs are, measured by the kernel's own trace events and not by sampling."""
