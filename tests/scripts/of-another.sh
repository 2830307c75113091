#!/bin/bash
#op
if [[ "$1" != "ubuntu" ]]; then
    exit 0
fi
systemctl stop ollama
