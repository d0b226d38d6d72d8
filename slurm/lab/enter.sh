#!/usr/bin/env bash
# Runs a command with TREE as its root folder. Run by debian13, in a mount namespace of the command's own:  enter.sh TREE COMMAND...
set -euo pipefail
tree=$1
shift
checkout=$(cd "$(dirname "$0")/../.." && pwd)

# What is at PATH on this machine is seen at the same place in there: show PATH
show() {
  [ -e "$1" ] || return 0
  if [ ! -e "$tree$1" ]; then
    mkdir -p -- "$(dirname "$tree$1")"
    if [ -d "$1" ]; then mkdir -- "$tree$1"; else : >"$tree$1"; fi
  fi
  mount --rbind -- "$1" "$tree$1"
}

# The files and folders that pip's settings name. A package index, .../simple, has the packages beside it.
named_for_pip() {
  {
    cat /etc/pip.conf /etc/xdg/pip/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" 2>/dev/null || true
    env | grep '^PIP_' || true
  } | grep -oE '(^|[ =]|file://)/[^ ]+' | sed -E 's,^(file://|[ =]),,; s,/simple/?$,,'
}

mount --rbind "$tree" "$tree" # as a root folder must be a mount point
for path in /proc /sys /dev /etc/hosts /etc/resolv.conf "$checkout" /etc/ssl/certs /usr/share/ca-certificates \
  /usr/local/share/ca-certificates /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" "$HOME/.pip"; do
  show "$path"
done
while IFS= read -r path; do show "$path"; done < <(named_for_pip)

unset TMPDIR # which there may be none in there
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
folder=$PWD
[ -d "$tree$folder" ] || folder=/
cd "$tree"
pivot_root . mnt # rather than chroot: whoever enters the namespace later (nsenter) is in there, too
umount --lazy /mnt
cd "$folder"
exec "$@"
