"""Stand-ins for what tests cannot have for real: a kernel that answers writes, and death."""
