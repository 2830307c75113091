#!/bin/bash
#op release
# They end what scripts go on doing; alone, they are told as ever.
cpupower frequency-set -g schedutil #> mistake governor
sysctl vm.swappiness=60 #> needless memory
systemctl start tlp #> keep
