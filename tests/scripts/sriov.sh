#!/bin/sh
#op prepare
pf=enp7s0f1
echo 2 > /sys/class/net/$pf/device/sriov_numvfs #> table sriov
ip link set $pf vf 1 vlan 5 #> table sriov
ip link set $pf vf 1 vlan 69 #> table sriov
ip link set dev $pf vf 0 mac 52:54:00:11:22:33 #> table sriov
ip link set $pf up #> keep
