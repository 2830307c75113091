# services.vfio-hooks, for NixOS. Its libvirt looks for hooks in /var/lib/libvirt/hooks, and the
# module of libvirtd empties the folders in there, so what VMs want is in /etc/libvirt/hooks, where
# vfio-hooks reads it on every distribution.
self:
{ config, lib, pkgs, ... }:

let
  cfg = config.services.vfio-hooks;
  toml = pkgs.formats.toml { };
  # A copy with a time of its own: all files of the store have the same, and the hook tells by a
  # file's time whether it was changed while a VM runs.
  file = source: { inherit source; mode = "0644"; };
in
{
  options.services.vfio-hooks = {
    enable = lib.mkEnableOption "the libvirt hook for VMs with passed-through devices";

    package = lib.mkOption {
      type = lib.types.package;
      default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      defaultText = lib.literalExpression "the flake's package";
      description = "The package of vfio-hooks.";
    };

    defaults = lib.mkOption {
      type = toml.type;
      default = { };
      example = lib.literalExpression ''{ governor.governor = "performance"; }'';
      description = "Defaults for all VMs: the tables of vfio-hooks.toml(5).";
    };

    vms = lib.mkOption {
      type = lib.types.attrsOf toml.type;
      default = { };
      example = lib.literalExpression ''{ win11 = { pci = { }; cpus = { }; irqs = { }; }; }'';
      description = "The tables of each VM's vm.toml, by the VM's name.";
    };
  };

  config = lib.mkIf cfg.enable {
    virtualisation.libvirtd.enable = true;
    virtualisation.libvirtd.hooks.qemu.vfio-hooks = "${cfg.package}/lib/vfio-hooks/hook";
    environment.systemPackages = [ cfg.package ];
    environment.etc =
      lib.mapAttrs'
        (vm: tables: lib.nameValuePair "libvirt/hooks/qemu.d/${vm}/vm.toml"
          (file (toml.generate "${vm}.toml" tables)))
        cfg.vms
      // lib.optionalAttrs (cfg.defaults != { }) {
        "libvirt/hooks/vfio-hooks.toml" = file (toml.generate "vfio-hooks.toml" cfg.defaults);
      };
  };
}
