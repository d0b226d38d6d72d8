#!/usr/bin/env bash
# Becomes one node. Run by daemons.sh in namespaces of the node's own:  node.sh DIR NODE USE_CGROUPS
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"
set_dir "$1"
node=$2 use_cgroups=$3
load_options

hostname "$node"
mount --bind "$dir/etc/hosts" /etc/hosts

# A node of a real cluster knows nothing of the others' cgroups: the lab's part of each hierarchy is the whole here.
if [ "$use_cgroups" = 1 ]; then
  while IFS= read -r root; do
    mount --bind "$root" "${root%/*}"
  done < <(cgroup_roots)
fi

# An empty /tmp, in which only the lab's own folder shows up again if that is where it is.
if [ "$private_tmp" = 1 ]; then
  mount -t tmpfs -o mode=1777 tmpfs "$dir/tmp"
  if [[ $dir = /tmp/* ]]; then
    mkdir -p "$dir/tmp/${dir#/tmp/}"
    mount --bind "$dir" "$dir/tmp/${dir#/tmp/}"
  fi
  mount --move "$dir/tmp" /tmp
fi

exec slurmd -N "$node"
