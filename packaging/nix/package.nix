# The files that install.sh lays out, below the store's folder of this package.
{ lib, stdenvNoCC, python3 }:

let
  python = python3.withPackages (modules: [ modules.lxml modules.sh modules.libvirt ]);
  init = builtins.readFile ../../vfio_hooks/__init__.py;
in
stdenvNoCC.mkDerivation {
  pname = "vfio-hooks";
  version = builtins.head (builtins.match ".*__version__ = \"([^\"]+)\".*" init);

  src = lib.cleanSource ../..;
  dontBuild = true;

  installPhase = ''
    runHook preInstall
    patchShebangs install.sh packaging/switch
    ./install.sh --package --destdir "$PWD/root" --prefix "$out" --python ${python}/bin/python3
    mkdir -p "$(dirname "$out")"
    mv "root$out" "$out"
    chmod 755 "$out/lib/vfio-hooks/hook"
    runHook postInstall
  '';

  meta = {
    description = "Prepare a host for VMs with passed-through devices, and undo it";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "vfio-hooks";
  };
}
