#!/usr/bin/env bash
# Starts the lab's daemons. Run by start, inside a mount namespace of the lab's own:  daemons.sh DIR USE_CGROUPS
# Or one of them again, run by daemon inside that namespace:  daemons.sh DIR USE_CGROUPS slurmctld|slurmdbd|slurmd [NUMBER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=common.sh
. "$here/common.sh"
set_dir "$1"
use_cgroups=$2
load_options

# Nothing that goes on running may hold the caller's stdin, stdout or stderr, or it would wait for the lab's end.
quietly() { "$@" </dev/null >>"$dir/log/${1##*/}.out" 2>&1; }

start_munge() {
  quietly munged --force --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.socket" --pid-file="$dir/run/munged.pid" \
    --log-file="$dir/log/munged.log" --seed-file="$dir/etc/munge.seed"
}

# Made aside and moved when complete, so that a start killed in between leaves no half of a database.
make_database() {
  [ ! -d "$dir/db" ] || return 0
  rm -rf "$dir/db.new"
  mkdir -m 700 "$dir/db.new"
  quietly mariadb-install-db --no-defaults --user=root --datadir="$dir/db.new" --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve
  mv "$dir/db.new" "$dir/db"
}

sql() { mariadb --no-defaults --socket="$dir/db/socket" --user=root -e "$1" </dev/null >/dev/null 2>&1; }

# No network and no password: only root gets at the socket. A lab's records needn't survive a power cut.
start_database() {
  make_database
  setsid mariadbd --no-defaults --user=root --datadir="$dir/db" --socket="$dir/db/socket" --skip-networking \
    --pid-file="$dir/run/mariadbd.pid" --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 \
    --innodb-flush-log-at-trx-commit=0 </dev/null >>"$dir/log/mariadbd.out" 2>&1 &
  wait_for 20 sql 'create database if not exists slurm_acct'
  chmod 644 "$dir/run/mariadbd.pid" # status is for every user
}

start_slurmdbd() {
  MYSQL_UNIX_PORT=$dir/db/socket quietly slurmdbd
  wait_for 20 timeout 5 sacctmgr -n list cluster </dev/null >/dev/null 2>&1
}

# sacctmgr fails when there's nothing to change, too.
manage() { timeout 20 sacctmgr -iQ "$@" </dev/null >>"$dir/log/sacctmgr.out" 2>&1 || true; }

# Two accounts, so that both kinds of limit can be met: on the QOS of account lab, on the association in lab-assoc.
make_accounts() {
  manage add cluster lab
  manage add account lab,lab-assoc
  manage add user root,"$user" account=lab,lab-assoc defaultaccount=lab
  manage modify user root set defaultaccount=lab
  [ -n "$max_submit" ] || return 0
  manage add qos unlimited
  manage modify qos normal set MaxSubmitJobsPerUser="$max_submit"
  manage modify account lab-assoc set qos=unlimited defaultqos=unlimited
  manage modify user root,"$user" where account=lab-assoc set MaxSubmitJobs="$max_submit"
}

start_controller() {
  quietly slurmctld
  wait_for 20 controller_answers
}

# Cgroups of the lab's own keep labs apart that have the same node names and job numbers.
enter_cgroups() {
  local root
  while IFS= read -r root; do
    mkdir -p "$root"
    echo $BASHPID >"$root/cgroup.procs"
  done < <(cgroup_roots)
}

start_nodes() { # start_nodes NUMBER...
  local flags=(--uts --mount --propagation slave) started=() i
  if [ "$use_cgroups" = 1 ]; then
    enter_cgroups
    flags+=(--cgroup)
  fi
  for i; do
    unshare "${flags[@]}" "$here/node.sh" "$dir" "n$i" "$use_cgroups" </dev/null >>"$dir/log/slurmd.n$i.out" 2>&1 &
    started+=($!)
  done
  wait "${started[@]}"
}

case ${3-} in
  slurmctld) start_controller; exit ;;
  slurmdbd) start_slurmdbd; exit ;;
  slurmd) start_nodes "$4"; exit ;;
esac

mount --bind "$mark" "$mark" # the sign by which lab_pids knows the lab's processes
start_munge
if [ "$accounting" = 1 ]; then
  start_database
  start_slurmdbd
  make_accounts
fi
start_controller
cancel_jobs # a lab that was killed had jobs, perhaps, which would run again now
mapfile -t numbers < <(seq "$nodes")
start_nodes "${numbers[@]}"
