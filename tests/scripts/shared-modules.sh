#!/bin/bash
#op prepare
rsm stop sddm #> table session
modprobe -r nvidia_modeset drm_kms_helper #> table session
modprobe -r i915 #> table session
modprobe -r intel_gtt #> needless session
modprobe -r video wmi #> needless session
modprobe -r drm_panel_orientation_quirks #> needless session
modprobe -r igc #> table pci
rmmod iwlmvm #> table pci
modprobe igc #> needless session
modprobe -a nvidia-drm i915 enable_guc=3 #> needless session
modprobe v4l2loopback devices=1 video_nr=10 #> keep
modprobe igb_uio #> keep
modprobe kvm_intel #> needless
modprobe -r kvm_intel #> keep
chown -R root:kvm /dev/vfio #> needless pci
chmod 660 /dev/vfio/12 #> needless pci
# Sums are not commands, and << in them shifts bits.
for ((i = 0; i < (4 + (2)); i++)); do
    echo 0 > /sys/class/vtconsole/vtcon$i/bind #> table session
done
(( mask = 1 << 3 ))
echo $mask > /sys/bus/workqueue/devices/writeback/cpumask #> table cpus
# What a function sets that is only called for what it prints is no misspelling.
pages_of() {
    pages=$[$1 / 2]
    echo $pages
}
page_size=2048
sysctl vm.nr_hugepages=$(pages_of 8192) #> table hugepages
