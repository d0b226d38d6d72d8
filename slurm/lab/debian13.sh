#!/usr/bin/env bash
# Enters a system and runs a command in it. Run by debian13, in a mount namespace of its own:  debian13.sh TREE COMMAND...
set -euo pipefail
tree=$1
shift
checkout=$(cd "$(dirname "$0")/../.." && pwd)

# show PATH: the machine's own PATH is seen in the system, too.
show() {
  [ -e "$1" ] || return 0
  if [ ! -e "$tree$1" ]; then
    mkdir -p "$tree${1%/*}"
    if [ -d "$1" ]; then mkdir "$tree$1"; else : >"$tree$1"; fi
  fi
  mount --rbind "$1" "$tree$1"
}

# The certificates, files and folders that pip's settings name. An index, .../simple, has its files beside it.
named_by_pip() {
  {
    cat /etc/pip.conf /etc/xdg/pip/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" 2>/dev/null || true
    env | grep '^PIP_' || true
  } | grep -oE '(^|[ =]|file://)/[^ ]+' | sed -E 's,^(file://|[ =]),,; s,/simple/?$,,'
}

mount --bind "$tree" "$tree" # a root that is a mount: only then can namespaces be made in there
for path in /proc /sys /dev /etc/hosts /etc/resolv.conf /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates \
  /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" "$HOME/.pip" "$checkout"; do
  show "$path"
done
named_by_pip | while IFS= read -r path; do show "$path"; done

unset TMPDIR # there may be no such folder in there
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
[ -d "$tree$PWD" ] || cd /
exec unshare --root="$tree" --wd="$PWD" -- "$@"
