"""What `vfio-hooks init` chooses for a VM: its first vm.toml, and CPUs for its threads."""
