"""Any bytes in place of what the hook reads: `python3 -m tests.fuzz xml 600`, with atheris.

A target takes bytes and returns; anything but a HookError of one line is a find. What was found,
and one input for each piece of behaviour on the way there, is kept in tests/corpus, as text whose
characters are bytes, and run through the targets again by tests/test_corpus.py.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vfio_hooks import config
from vfio_hooks.domain import identify, parse
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError

CORPUS = Path(__file__).parent / "corpus"
VM = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"


@contextmanager
def told() -> Iterator[None]:
    """A HookError of one line, which `virsh start` could show, is as good as none."""
    try:
        yield
    except HookError as error:
        if "\n" in str(error) or "\x1b" in str(error):
            raise AssertionError(f"not one plain line: {error!s}") from error


def xml(data: bytes) -> None:
    """The domain XML on standard input."""
    identify(data)
    with told():
        parse(data)


def toml(data: bytes) -> None:
    """A VM's vm.toml."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        home = Path(folder) / "qemu.d/vm"
        home.mkdir(parents=True)
        (home / "vm.toml").write_bytes(data)
        found, problems = config.examine(folder, "vm")
        assert (found is None) == bool(problems)
        for problem in problems:
            with told():
                raise problem


def journal(data: bytes) -> None:
    """A journal in /run/vfio-hooks."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        state = StateFolder(folder)
        path = Path(folder) / f"{VM}.journal"
        path.write_bytes(data)
        path.chmod(0o600)
        with told():
            for claim in state.load(VM).live():
                assert claim.step.from_json(claim.step.as_json()) == claim.step
        state.find("vm")


TARGETS: dict[str, Callable[[bytes], None]] = {"xml": xml, "toml": toml, "journal": journal}


def inputs(target: str) -> list[bytes]:
    """What was kept for a target."""
    kept: list[str] = json.loads((CORPUS / f"{target}.json").read_text())
    return [text.encode("latin-1") for text in kept]


def keep(target: str, found: set[bytes]) -> None:
    texts = [data.decode("latin-1") for data in sorted(found)]
    (CORPUS / f"{target}.json").write_text(json.dumps(texts, indent=0) + "\n")


def search(target: str, seconds: int) -> int:
    """Look for new behaviour and finds, and keep one input for each; the fuzzer's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        start.mkdir()
        for number, data in enumerate(inputs(target)):
            (start / str(number)).write_bytes(data)
        fuzzer = [sys.executable, "-m", "tests.fuzz", target, "--"]
        limits = [f"-max_total_time={seconds}", "-max_len=2048", "-timeout=10"]
        crash = f"-artifact_prefix={folder}/find-"
        code = subprocess.run([*fuzzer, *limits, crash, str(start)]).returncode
        finds = Path(folder).glob("find-*")
        keep(target, {path.read_bytes() for path in [*start.iterdir(), *finds]})
        return code


def fuzz(target: str, options: list[str]) -> None:
    """Be libFuzzer, with its own options; this does not return."""
    import atheris

    atheris.instrument_all()
    atheris.Setup(["fuzz", *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[2:3] == ["--"]:
        fuzz(sys.argv[1], sys.argv[3:])
    sys.exit(search(sys.argv[1], int(sys.argv[2])))
