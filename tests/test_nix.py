"""The flake: its files parse, and its module and package say what they have to, evaluated with
stand-ins for what they take from nixpkgs."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
NIX = ROOT / "packaging/nix"
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


def nix(tmp_path: Path, *words: str) -> str:
    if not shutil.which("nix-instantiate"):
        pytest.skip("nix-instantiate is not installed; tests/run --matrix installs it")
    folders = {f"NIX_{name}_DIR": str(tmp_path / name) for name in ("STATE", "STORE", "LOG")}
    done = subprocess.run(
        ["nix-instantiate", *words],
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
