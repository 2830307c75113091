#!/bin/bash
#op prepare
systemctl stop gdm #> table session
select one in a b; do #> unread
    systemctl stop ollama
done
