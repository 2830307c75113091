"""A host and its VMs as one picture: what is where, and what is wrong, marked in place.

`scene` gathers it as data, `wrong` finds what is wrong, `text` and `svg` draw it.
"""
