"""A client of the system bus, by libsystemd, which every host with systemd has: see sd-bus(3).

busctl(1) and gdbus(1) close their connection after a call, which ends what a daemon only does while
its client is connected. powerprofilesctl(1) needs PyGObject, and tuned has no such program.
"""

import os
from ctypes import (
    CDLL,
    POINTER,
    Structure,
    byref,
    c_char,
    c_char_p,
    c_int,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from typing import Any

from vfio_hooks.errors import HookError

BUS = "org.freedesktop.DBus"
UNKNOWN = (f"{BUS}.Error.ServiceUnknown", f"{BUS}.Error.NameHasNoOwner")
"""The bus's answer for a name that no program has and that it cannot start."""


@dataclass(frozen=True)
class Signal:
    """A signal; `values` are its first strings and numbers."""

    name: str
    values: tuple[str | int, ...]


class Refused(HookError):
    """An error that a daemon answers with; `name` is its name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class _Error(Structure):
    _fields_ = (("name", c_char_p), ("message", c_char_p), ("need_free", c_int))


class Bus:
    """One connection. Each method raises HookError."""

    def __init__(self) -> None:
        try:
            self._library = _library()
        except OSError as error:
            raise HookError(f"libsystemd.so.0: {error}") from None
        self._bus = c_void_p()
        self._check("open", self._library.sd_bus_open_system(byref(self._bus)))

    def fileno(self) -> int:
        """A descriptor that is readable when `signals` has something new."""
        return int(self._library.sd_bus_get_fd(self._bus))

    def close(self) -> None:
        self._library.sd_bus_flush_close_unref(self._bus)

    def call(self, service: str, method: str, *values: str | int) -> int:
        """Call a method of the interface with the service's name, on the object with that name.
        Returns the number in the answer, 0 for none. Raises Refused if the answer is an error."""
        path = "/" + service.replace(".", "/")
        message, answer, error = c_void_p(), c_void_p(), _Error()
        names = (text.encode() for text in (service, path, service, method))
        made = self._library.sd_bus_message_new_method_call(self._bus, byref(message), *names)
        self._check(method, made)
        try:
            put = self._library.sd_bus_message_append_basic
            for value in values:
                if isinstance(value, str):
                    self._check(method, put(message, b"s", c_char_p(value.encode())))
                else:
                    self._check(method, put(message, b"u", byref(c_uint32(value))))
            send = self._library.sd_bus_call
            done = send(self._bus, message, 0, byref(error), byref(answer))
            if done < 0 and error.name:
                told = (error.message or error.name).decode(errors="replace")
                raise Refused(error.name.decode(), f"{service}: {method}: {told}")
            self._check(method, done)
            return int(next(iter(self._values(answer)), 0))
        finally:
            self._library.sd_bus_error_free(byref(error))
            self._library.sd_bus_message_unref(message)
            self._library.sd_bus_message_unref(answer)

    def signals(self) -> list[Signal]:
        """Those that have come since the last time."""
        found = []
        while True:
            message = c_void_p()
            step = self._library.sd_bus_process(self._bus, byref(message))
            self._check("read", step)
            if message:
                name = self._library.sd_bus_message_get_member(message) or b""
                found.append(Signal(name.decode(), tuple(self._values(message))))
                self._library.sd_bus_message_unref(message)
            elif not step:
                return found

    def _values(self, message: c_void_p) -> list[str | int]:
        """The values of a message before the first one that is neither string nor number."""
        signature = self._library.sd_bus_message_get_signature(message, 1) or b""
        found: list[str | int] = []
        for letter in signature.decode():
            if letter not in "su":
                break
            value: Any = c_char_p() if letter == "s" else c_uint32()
            read = self._library.sd_bus_message_read_basic
            self._check("read", read(message, letter.encode(), byref(value)))
            found.append(value.value.decode() if letter == "s" else value.value)
        return found

    def _check(self, what: str, number: int) -> None:
        if number < 0:
            raise HookError(f"the system bus: {what}: {os.strerror(-number)}")


def _library() -> CDLL:
    """libsystemd, with the types of what is called. Raises OSError."""
    library = CDLL("libsystemd.so.0")
    pointer, error, text = POINTER(c_void_p), POINTER(_Error), c_char_p
    types: dict[str, tuple[Any, ...]] = {
        "sd_bus_open_system": (pointer,),
        "sd_bus_flush_close_unref": (c_void_p,),
        "sd_bus_get_fd": (c_void_p,),
        "sd_bus_process": (c_void_p, pointer),
        "sd_bus_message_new_method_call": (c_void_p, pointer, text, text, text, text),
        # The type is a char in C, which ctypes takes as a string of one byte.
        "sd_bus_message_append_basic": (c_void_p, c_char, c_void_p),
        "sd_bus_call": (c_void_p, c_void_p, c_uint64, error, pointer),
        "sd_bus_message_read_basic": (c_void_p, c_char, c_void_p),
        "sd_bus_message_get_member": (c_void_p,),
        "sd_bus_message_get_signature": (c_void_p, c_int),
        "sd_bus_error_free": (error,),
        "sd_bus_message_unref": (c_void_p,),
    }
    for name, arguments in types.items():
        function = getattr(library, name)
        function.argtypes = arguments
        if name.startswith("sd_bus_message_get"):
            function.restype = text
    # These return a null pointer.
    library.sd_bus_message_unref.restype = c_void_p
    library.sd_bus_flush_close_unref.restype = c_void_p
    return library
