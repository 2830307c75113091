"""A firmware for test domains that does the least a guest can do and be one that answers ACPI.

It powers its VM off when somebody presses the power button (`virsh shutdown`), and lets a device
that is to be unplugged go (`virsh detach-device`). A real system takes minutes of emulated work.
"""

from __future__ import annotations

PATH = "/var/tmp/acpi.bin"
"""Where tests put it in a guest."""
_SIZE = 65536
_START = _SIZE - 256  # where the code is
_RESET = _SIZE - 16  # where the CPU begins
# The chipset's ACPI registers, once they are told to be there, and QEMU's of PCI hotplug.
_ACPI, _HOTPLUG = 0x600, 0xCC0
_IRQ9 = 0x71 * 4  # its vector, below


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _out8(port: int, value: int) -> bytes:
    return bytes((0xB0, value, 0xBA)) + _word(port) + b"\xee"


def _out16(port: int, value: int) -> bytes:
    return b"\xb8" + _word(value) + b"\xba" + _word(port) + b"\xef"


def _out32(port: int, value: int) -> bytes:
    return b"\x66\xb8" + value.to_bytes(4, "little") + b"\xba" + _word(port) + b"\x66\xef"


def _interrupts() -> bytes:
    """Both interrupt controllers: their vectors, and no line but 9, that of ACPI."""
    first, second = (0x11, 0x08, 0x04, 0x01, 0xFB), (0x11, 0x70, 0x02, 0x01, 0xFD)
    ports = (0x20, 0x21, 0x21, 0x21, 0x21)
    lines = zip(ports, first, second, strict=True)
    return b"".join(_out8(port, one) + _out8(port + 0x80, two) for port, one, two in lines)


def rom() -> bytes:
    """What a <loader type='rom'> takes."""
    begin = (
        b"\xfa\x31\xc0\x8e\xd8\x8e\xd0\xbc\x00\x70"  # cli; ds = ss = 0; sp = 0x7000
        + _out32(0xCF8, 0x8000F840)  # the chipset's registers of ACPI are at ...
        + _out32(0xCFC, _ACPI | 1)
        + _out32(0xCF8, 0x8000F844)  # ... and on
        + _out32(0xCFC, 0x80)
        + _out16(_ACPI + 0x02, 0x100)  # an interrupt for the power button
        + _out8(_ACPI + 0x28, 0x02)  # and for what is plugged and unplugged
        + _interrupts()
        # ecx = 0x1b; rdmsr; ah &= ~8; wrmsr: without a local APIC the CPU hears the controllers
        + b"\x66\xb9\x1b\x00\x00\x00\x0f\x32\x80\xe4\xf7\x0f\x30"
    )
    handler = (
        b"\xba" + _word(_ACPI) + b"\xed\xf6\xc4\x01\x74\x07"  # ax = status; no button: not off
        + _out16(_ACPI + 0x04, 0x2000)  # off
        + _out8(_ACPI + 0x20, 0x02)
        + b"\x66\x31\xc9\xb1\x10"  # ecx = 16, of as many slots: select it, read what is to go, ...
        + b"\x66\x89\xc8\xba" + _word(_HOTPLUG + 0x10) + b"\x66\xef"
        + b"\xba" + _word(_HOTPLUG + 0x04) + b"\x66\xed"
        + b"\xba" + _word(_HOTPLUG + 0x08) + b"\x66\xef"  # ... let it go; next one
        + b"\xfe\xc9\x79\xea"
        + _out8(0xA0, 0x20) + _out8(0x20, 0x20)  # end of interrupt
        + b"\xcf"
    )  # fmt: skip
    rest = b"\xfb\xf4\xeb\xfd"  # sti; hlt; back to the hlt
    entry = (_START + len(begin) + 12 + len(rest)) & 0xFFFF
    # Where the handler is: two stores of 6 bytes.
    vector = b"\xc7\x06" + _word(_IRQ9) + _word(entry)
    vector += b"\xc7\x06" + _word(_IRQ9 + 2) + _word(0xF000)
    code = begin + vector + rest + handler
    image = bytearray(_SIZE)
    image[_START : _START + len(code)] = code
    image[_RESET : _RESET + 3] = b"\xe9" + _word((_START - _RESET - 3) & 0xFFFF)
    return bytes(image)
