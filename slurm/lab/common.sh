# shellcheck shell=bash
# What start, stop, status, daemons.sh and debian13 share. Sourced, never run.

lab_name=nornir-pools-lab
dir=/tmp/$lab_name
# The options of start; a lab's own are in DIR/options.
# shellcheck disable=SC2034  # not every script looks at all of them
nodes=4 cpus=8 accounting=1 cgroup=1 private_tmp=0 max_array_size=1001 max_submit='' user=nplab port_base=26800

fail() { echo "${0##*/}: $*" >&2; exit 1; }

usage_error() { echo "${0##*/}: $* (see --help)" >&2; exit 2; }

# The text of --help is the comment at the top of the script itself.
show_help() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"; }

# The value of option $1, out of the arguments that are left: need_value "$@"
need_value() { [ $# -ge 2 ] || usage_error "$1 needs a value"; }

need_number() { [[ $2 =~ ^[1-9][0-9]{0,8}$ ]] || usage_error "$1 needs a number above 0, not $2"; }

need_root() { [ "$(id -u)" = 0 ] || fail "the lab runs daemons and mounts of its own, so this must be run as root"; }

# The packages' own programs tell whether they are there; this is for when they are not: install PACKAGE...
install() {
  command -v apt-get >/dev/null || fail "there is no apt-get to install $* with: the lab is for Debian and Ubuntu"
  echo "installing $* ..." >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    </dev/null >/dev/null 9>&- || fail "apt-get couldn't install $*"
}

# Sets the paths that follow from DIR. slurm.conf, mountinfo and sockets can't take every path.
set_dir() {
  dir=$(realpath -m -- "$1")
  [[ $dir =~ ^/[A-Za-z0-9._/-]+$ ]] || fail "DIR may hold only letters, digits and . _ - / but is $dir"
  [ ${#dir} -le 80 ] || fail "DIR must be at most 80 characters long, a socket's path can't be longer: $dir"
  options=$dir/options
  mark=$dir/mark
  export SLURM_CONF=$dir/etc/slurm.conf
}

# shellcheck source=/dev/null
load_options() { . "$options"; }

# A folder that holds something else, or that another user put there, is none of ours.
is_lab() { [ ! -L "$dir" ] && [ -O "$dir" ] && [ -f "$options" ]; }

# One start or stop at a time; daemons must not inherit the lock (they are started with 9>&-).
lock() { exec 9>"$dir/lock"; flock -w 120 9 || fail "another start or stop of $dir is still busy"; }

# Every process of the lab (daemons, jobs, whatever jobs left behind) lives in a mount namespace in which $mark is a mount
# point, and nothing else does. So this finds all of them and nobody else's, without pid files: lab_pids [COMMAND]
# (A lab may have the same folder in a system of its own, see debian13; there, its root is another.)
lab_pids() {
  local file pid
  while IFS= read -r file; do
    pid=${file#/proc/} pid=${pid%%/*}
    [ "/proc/$pid/root" -ef / ] || continue
    [ $# = 0 ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || continue
    echo "$pid"
  done < <(grep -lsF -- " $mark " /proc/[0-9]*/mountinfo)
}

signal() { # signal SIGNAL [COMMAND]
  local pids
  mapfile -t pids < <(lab_pids "${@:2}")
  [ ${#pids[@]} = 0 ] || kill -s "$1" "${pids[@]}" 2>/dev/null || true
}

# What jobs run, that is neither a daemon nor slurmstepd, which will then report the job's end.
kill_tasks() {
  local pid
  while read -r pid; do
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
      munged | mariadbd | slurm*) ;;
      *) kill -s KILL "$pid" 2>/dev/null || true ;;
    esac
  done < <(lab_pids)
}

# wait_for SECONDS COMMAND...: until the command succeeds; fails when it hasn't in time
wait_for() {
  local end=$((${EPOCHREALTIME//[.,]/} + $1 * 1000000))
  shift
  until "$@"; do
    [ "${EPOCHREALTIME//[.,]/}" -lt "$end" ] || return 1
    sleep 0.05
  done
}

gone() { [ -z "$(lab_pids "$1")" ]; }

all_gone() { [ -z "$(lab_pids)" ]; }

# By pid file and name, so that any user can ask; a zombie isn't up: is_up DAEMON [NODE]
is_up() {
  local pid
  pid=$(cat "$dir/run/$1${2:+.$2}.pid" 2>/dev/null) || return 1
  [[ $(cat "/proc/${pid:-none}/stat" 2>/dev/null) = "$pid ($1) "[!ZX]* ]]
}

# The daemons that the saved options call for, one "DAEMON [NODE]" a line.
wanted_daemons() {
  echo munged
  [ "$accounting" = 0 ] || printf '%s\n' mariadbd slurmdbd
  echo slurmctld
  local i
  for ((i = 1; i <= nodes; i++)); do echo "slurmd n$i"; done
}

all_up() {
  local daemon node
  while read -r daemon node; do
    is_up "$daemon" "$node" || return 1
  done < <(wanted_daemons)
}

controller_answers() { timeout 5 scontrol ping 2>/dev/null | grep -q ' UP$\| is UP'; }

# How many nodes could take a job (idle, or busy with jobs), of those that have reported to the controller.
usable_nodes() {
  timeout 5 sinfo -h -N -o '%N %T' 2>/dev/null | sort -u | grep -cE ' (idle|planned|mixed|allocated|completing)$' || true
}

usable() { all_up && controller_answers && [ "$(usable_nodes)" = "$nodes" ]; }

# Ends every job in the queue, running or waiting.
cancel_jobs() { timeout 5 squeue -h -o %F 2>/dev/null | sort -u | timeout 5 xargs -r scancel 2>/dev/null || true; }

queue_empty() { [ -z "$(timeout 5 squeue -h 2>/dev/null)" ]; }

# Ends all there is of the lab. Daemons go in an order that lets each write down what the one before told it.
end_lab() {
  ! grep -qF -- " $mark " /proc/self/mountinfo || fail "a job of the lab can't stop the lab"
  signal KILL daemons.sh # of a start that was killed, it would start more of them
  signal KILL node.sh
  if [ -n "$(lab_pids slurmctld)" ] && controller_answers; then
    cancel_jobs
    wait_for 1 queue_empty || true # jobs have that long to end by themselves
  fi
  kill_tasks
  local daemon
  for daemon in slurmd slurmctld slurmdbd mariadbd munged; do
    signal TERM "$daemon"
    wait_for 5 gone "$daemon" || true
  done
  while ! all_gone; do # jobs that outlived their slurmd, and daemons that hang
    signal KILL
    sleep 0.05
  done
  remove_cgroups
  rm -f "$dir"/run/*.pid
}

# The lab's own part of each cgroup v1 hierarchy; the nodes see it as if it were the whole.
cgroup_roots() { printf '/sys/fs/cgroup/%s/'"$lab_name-$port_base"'\n' memory freezer; }

remove_cgroups() {
  local root
  while IFS= read -r root; do
    [ ! -d "$root" ] || find "$root" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done < <(cgroup_roots)
}
