"""Edits of a domain: what is shown is what is done, and what is gone is left alone."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_hooks.domain.editing import Edit, drop, put
from vfio_hooks.domain.shown import shown
from vfio_hooks.domain.text import editable, written

XML = b"""<domain type='qemu'>
  <name>a</name>
  <features>
    <acpi/>
  </features>
  <devices>
    <disk type='file'>
      <target dev='vda' bus='virtio'/>
    </disk>
    <hostdev mode='subsystem' type='pci'>
      <source>
        <address bus='0x0b' slot='0x00' function='0x0'/>
      </source>
      <rom bar='off'/>
    </hostdev>
    <input type='tablet' bus='usb'/>
    <memballoon model='virtio'>
      <stats period='5'/>
    </memballoon>
  </devices>
</domain>
"""
CARD = "devices/hostdev(0000:0b:00.0)"


@pytest.mark.parametrize(
    ("edits", "told", "done"),
    [
        ([put("", type="kvm")], "<domain type='kvm'>", "<domain type='kvm'>"),
        (
            [put("clock/timer[@name='hpet']", present="no"), put("clock", offset="utc")],
            "<clock offset='utc'><timer name='hpet' present='no'/></clock>",
            "<clock offset='utc'>\n    <timer name='hpet' present='no'/>\n  </clock>",
        ),
        (
            [put("features/hyperv/relaxed", state="on"), put("features/hyperv/vapic", state="on")],
            "<features><hyperv><relaxed state='on'/><vapic state='on'/></hyperv></features>",
            "<hyperv>\n      <relaxed state='on'/>\n      <vapic state='on'/>\n    </hyperv>",
        ),
        (
            [put("devices/disk(vda)/driver", cache="none")],
            "in the <disk> of vda: <driver cache='none'/>",
            "<driver cache='none'/>\n    </disk>",
        ),
        (
            [put(CARD, managed="yes")],
            "in the <hostdev> of 0000:0b:00.0: <hostdev … managed='yes'>",
            "<hostdev mode='subsystem' type='pci' managed='yes'>",
        ),
        (
            [drop("devices/input[@type='tablet'][@bus='usb']")],
            "remove <input type='tablet' bus='usb'>",
            "</hostdev>\n    <memballoon model='virtio'>",
        ),
        (
            [Edit("devices/memballoon", {"model": "none"}, only=True)],
            "<devices><memballoon model='none'/></devices>",
            "<memballoon model='none'/>\n  </devices>",
        ),
        ([Edit("iothreads", text="2")], "<iothreads>2</iothreads>", "<iothreads>2</iothreads>"),
        ([Edit(f"{CARD}/rom", {"bar": None})], None, "<rom/>"),
    ],
)
def test_what_is_shown_is_done(edits: Sequence[Edit], told: str | None, done: str) -> None:
    root = editable(XML)
    for edit in edits:
        edit.apply(root)
    assert done in written(root, XML).decode()
    if told is not None:
        assert shown(edits) == told


PLACES = st.sampled_from(
    ["devices/disk(vdz)/driver", "devices/disk(vdz)", "devices/hostdev(0000:77:00.0)/address"]
)


@given(PLACES, st.booleans(), st.booleans())
def test_where_nothing_is_nothing_is_done(path: str, only: bool, gone: bool) -> None:
    root = editable(XML)
    Edit(path, {"a": "b"}, only=only, gone=gone).apply(root)
    assert written(root, XML) == XML


@given(st.lists(st.sampled_from(["a", "b/c", "b/d", "b/c/e"]), min_size=1, unique=True))
def test_every_edit_is_shown(paths: list[str]) -> None:
    text = shown([put(path, name=path) for path in paths])
    assert all(f"name='{path}'" in text for path in paths)
