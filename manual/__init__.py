"""The manual: pages are text files, and what the program knows itself is filled into them.

`python3 -m manual` makes the finished pages, vfio_hooks/man, from pages/*.md, the command line's
parser, the tables' keys and the rules of `check`. A page cannot describe an option that does not
exist, nor leave one out.
"""
