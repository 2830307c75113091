#!/bin/bash
#op prepare
PF=enp3s0f0
echo 4 > /sys/class/net/$PF/device/sriov_numvfs #> table sriov
ip link set dev $PF vf 0 vlan 10 spoofchk off trust on #> table sriov
ip link set $PF vf 1 state enable #> table sriov
ip link set $PF vf 1 rss_query on #> keep
ip link set $PF up #> keep
