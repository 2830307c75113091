"""The flake: its files parse, and its module and package say what they have to, evaluated with
stand-ins for what they take from nixpkgs."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vfio_hooks import __version__

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
NIX = ROOT / "packaging/nix"
# The part of nixpkgs that the flake takes: its tools are those of the machine.
NIXPKGS = """{
  outputs = { self }: {
    lib.genAttrs = names: f:
      builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
    legacyPackages.x86_64-linux.callPackage = path: extra: import path {
      lib = { cleanSource = path: path; licenses.mit = "MIT"; platforms.linux = [ ]; };
      python3.withPackages = modules: "PYTHON";
      stdenvNoCC.mkDerivation = package: derivation {
        name = "${package.pname}-${package.version}";
        system = "x86_64-linux";
        builder = "/bin/bash";
        args = [ "-ec" ''
          export PATH=/usr/bin:/bin
          runHook() { :; }
          patchShebangs() { :; }
          cp -r ${package.src} source; chmod -R u+w source; cd source
          ${package.installPhase}
        '' ];
      };
    };
  };
}
"""
SOURCES = (
    *("vfio_hooks", "hooks", "packaging", "install.sh", "tests"),
    *("README.md", "CHANGELOG.md", "LICENSE"),
)
MODULE = """
let
  lib = {
    mkEnableOption = text: text;
    mkOption = option: option;
    literalExpression = text: text;
    types = { package = 1; attrsOf = type: type; };
    mkIf = condition: value: if condition then value else { };
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: builtins.listToAttrs (map (n: f n set.${n}) (builtins.attrNames set));
    optionalAttrs = condition: value: if condition then value else { };
  };
  pkgs = { formats.toml = _: { type = 1; generate = name: tables: { inherit name tables; }; }; };
  config.services.vfio-hooks = {
    enable = true; package = "/p"; defaults = { }; vms.win11 = { pci = { }; };
  };
in (import FOLDER/module.nix { }) { inherit config lib pkgs; }
"""
PACKAGE = """
import FOLDER/package.nix {
  lib = { cleanSource = path: path; licenses.mit = "MIT"; platforms.linux = [ ]; };
  stdenvNoCC.mkDerivation = package: package;
  python3.withPackages = modules:
    "/python" + toString (modules { lxml = "-lxml"; sh = "-sh"; libvirt = "-libvirt"; });
}
"""


def nix(tmp_path: Path, *words: str, program: str = "nix-instantiate") -> str:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed; tests/run --matrix installs it")
    folders = {f"NIX_{name}_DIR": str(tmp_path / name) for name in ("STATE", "STORE", "LOG")}
    done = subprocess.run(
        [program, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **folders, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluated(tmp_path: Path, text: str, *words: str) -> Any:
    expression = tmp_path / "expression.nix"
    expression.write_text(text.replace("FOLDER", str(NIX)))
    return json.loads(nix(tmp_path, "--eval", "--strict", "--json", *words, str(expression)))


@pytest.mark.matrix_only
@pytest.mark.parametrize(
    "name", ["flake.nix", "packaging/nix/module.nix", "packaging/nix/package.nix"]
)
def test_each_file_parses(tmp_path: Path, name: str) -> None:
    assert nix(tmp_path, "--parse", str(ROOT / name))


@pytest.mark.matrix_only
def test_the_module_gives_libvirtd_the_hook_and_root_the_files(tmp_path: Path) -> None:
    config = evaluated(tmp_path, MODULE, "-A", "config")
    hooks = config["virtualisation"]["libvirtd"]["hooks"]
    assert hooks == {"qemu": {"vfio-hooks": "/p/lib/vfio-hooks/hook"}}
    assert config["environment"]["etc"] == {
        "libvirt/hooks/qemu.d/win11/vm.toml": {
            "mode": "0644",
            "source": {"name": "win11.toml", "tables": {"pci": {}}},
        }
    }


@pytest.mark.matrix_only
def test_the_package_has_a_python_with_the_modules(tmp_path: Path) -> None:
    package = evaluated(tmp_path, PACKAGE)
    assert package["version"][0].isdigit()
    assert "--python /python-lxml -sh -libvirt/bin/python3\n" in package["installPhase"]


@pytest.mark.matrix_only
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the stand-in is for one machine")
def test_the_flake_is_built_by_nix(tmp_path: Path) -> None:
    stub, source = tmp_path / "nixpkgs", tmp_path / "source"
    stub.mkdir()
    (stub / "flake.nix").write_text(NIXPKGS.replace("PYTHON", sys.prefix))
    source.mkdir()
    for name in (*SOURCES, "flake.nix"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    options = ("--offline", "--extra-experimental-features", "nix-command flakes")
    settings = {"sandbox": "false", "build-users-group": "", "substitute": "false"}
    given = [word for pair in settings.items() for word in ("--option", *pair)]
    result = tmp_path / "result"
    build = ("build", "--no-write-lock-file", "--out-link", str(result), f"path:{source}")
    replaced = ("--override-input", "nixpkgs", f"path:{stub}")
    nix(tmp_path, *options, *given, *build, *replaced, program="nix")
    out = result.resolve()
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"lib/vfio-hooks/hook", "share/man/man1/vfio-hooks.1"} <= {
        name.removesuffix(".gz") for name in names
    }
    command = out / "bin/vfio-hooks"
    told = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert told.stdout == f"vfio-hooks {__version__}\n"
    assert str(out) in command.read_text()


def test_a_package_may_have_a_prefix_and_a_python_of_its_own(tmp_path: Path) -> None:
    """In the store nothing is in /usr, and no other Python than the package's has the modules."""
    store = "/nix/store/abc-vfio-hooks"
    python = tmp_path / "python3"
    python.symlink_to("/usr/bin/python3")
    subprocess.run(
        [str(ROOT / "install.sh"), "--package", "--destdir", str(tmp_path / "root")]
        + ["--prefix", store, "--python", str(python)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    out = tmp_path / f"root{store}"
    for name in ("lib/vfio-hooks/hook", "lib/vfio-hooks/switch", "bin/vfio-hooks"):
        text = (out / name).read_text()
        assert str(python) in text
        assert "/usr/bin/python3" not in text
        assert f"{store}/lib/vfio-hooks" in text
