"""Notices when devices come and go, by messages of the kernel and of udev. Only their arrival
counts, as their content could be forged. udev(7), and the kernel's lib/kobject_uevent.c."""

import socket

_UEVENT = 15  # NETLINK_KOBJECT_UEVENT of linux/netlink.h
_KERNEL, _UDEV = 1, 2  # the groups: at once, and when udev's rules have run
_OF_USB = b"SUBSYSTEM=usb\0"
_LONGEST = 1 << 16


def listen() -> socket.socket | None:
    """A socket that can be read when a device has come or gone; None if that is not allowed, as in
    some containers."""
    try:
        heard = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _UEVENT)
        heard.bind((0, _KERNEL | _UDEV))
    except OSError:
        return None
    return heard


def of_usb(heard: socket.socket) -> bool:
    """Read all messages that have come. Returns whether one was about USB, or some were lost."""
    found = False
    while True:
        try:
            found |= _OF_USB in heard.recv(_LONGEST)
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: more came than there is room for.
            found = True
