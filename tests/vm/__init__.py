"""The emulated host: a Debian passthrough host in QEMU, built, booted and entered by code.

`python3 -m tests.vm --help` is the command line; `image.build`, `machine.Machine` and
`guest.Guest` are the library that the tests and the demo use.
"""
