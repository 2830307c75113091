"""A host in one file: what the program reads of it, for reports of defects and for tests.

`files` says what is taken, `private` what is taken out of that, `archive` packs and unpacks.
"""
