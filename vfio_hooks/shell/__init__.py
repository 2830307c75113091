"""Shell scripts, read without being run: which commands they would run, with which words.

Enough of sh and bash is read for the scripts that people have as hooks: simple commands, pipes,
assignments, redirections, `if`, `case`, `for` over words, `while`, functions and files that are
sourced. Variables are followed as far as their values are constants.
"""
