"""What a doctor would say of this host, of the hook on it, and of a domain.

A rule looks for one thing that is wrong or could be better. It reads, and changes nothing.
"""
