#!/bin/bash
#op release
echo 0 > /proc/sys/vm/nr_hugepages #> needless hugepages
