"""A VM's start and end, rehearsed: what the host is before and after."""
