"""Mutation testing: break the code in small ways, one at a time, and see whether a test notices.

    python3 -m tests.mutation --minutes 30 engine sharing.py    modules or folders below vfio_hooks
    python3 -m tests.mutation --again --slow engine    the survivors once more, with slow tests, too
    python3 -m tests.mutation --list                   what is known, and what survived

Cosmic Ray makes the mutants. Each is tried in a child that has pytest loaded already and the mutant
in place of one module; nothing on disk is changed. What came of a mutant is kept in the cache, so a
run that is stopped goes on where it was; a module that has changed begins anew. The order of the
mutants is random but always the same, so that some of them stand for all. survivors.md judges
those that no test notices.
"""
