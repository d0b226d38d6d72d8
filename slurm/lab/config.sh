# shellcheck shell=bash disable=SC2154  # variables are of common.sh and start, which sources this
# Writes the lab's configuration below DIR/etc. Sourced by start.

ctld_port() { echo "$((port_base + 1))"; }
dbd_port() { echo "$((port_base + 2))"; }
node_port() { echo "$((port_base + 10 + $1))"; }

# Users of the machine read etc and run, their jobs' scripts lie in spool; the rest is root's alone.
make_folders() {
  mkdir -p "$dir"/{etc,log,run,state,spool,tmp,mark}
  chmod 755 "$dir" "$dir"/{etc,run,spool,tmp,mark}
  chmod 700 "$dir"/{log,state}
  local i
  for ((i = 1; i <= nodes; i++)); do mkdir -p "$dir/spool/n$i"; done
}

write_munge_key() {
  local key=$dir/etc/munge.key
  [ "$(stat -c %s "$key" 2>/dev/null)" = 1024 ] || (umask 277; rm -f "$key"; head -c 1024 /dev/urandom >"$key")
}

# Real nodes know each other's names.
write_hosts() {
  cat /etc/hosts
  local i
  for ((i = 1; i <= nodes; i++)); do echo "127.0.0.1 n$i"; done
}

# No StoragePass: the database listens on a socket in a folder of root's only (see daemons.sh).
slurmdbd_conf() {
  cat <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.socket
DbdHost=localhost
DbdPort=$(dbd_port)
SlurmUser=root
LogFile=$dir/log/slurmdbd.log
PidFile=$dir/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
CONF
}

cgroup_conf() {
  cat <<CONF
CgroupPlugin=cgroup/v1
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainCores=no
CONF
}

accounting_lines() {
  if [ "$accounting" = 0 ]; then
    echo AccountingStorageType=accounting_storage/none
    return
  fi
  cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$(dbd_port)
AccountingStoragePass=$dir/run/munge.socket
CONF
  [ -z "$max_submit" ] || echo AccountingStorageEnforce=associations,limits,qos
}

memory_lines() {
  if [ "$use_cgroups" = 1 ]; then
    printf '%s\n' ProctrackType=proctrack/cgroup TaskPlugin=task/cgroup
  else # slurmd itself looks every second how much its jobs use
    printf '%s\n' ProctrackType=proctrack/linuxproc JobAcctGatherParams=OverMemoryKill
  fi
}

slurm_conf() {
  cat <<CONF
ClusterName=lab
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job must wait, two minutes if left out
AuthInfo=socket=$dir/run/munge.socket,cred_expire=10
SlurmctldPort=$(ctld_port)
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
# look for jobs to start as often as slurmctld can: it wakes up once a second
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=10000
# the nodes claim more processors and memory than the machine may have
SlurmdParameters=config_overrides
ReturnToService=2
MaxArraySize=$max_array_size
MaxJobCount=$((10000 + max_array_size))
DefMemPerCPU=100
KillWait=3
# seconds of silence until a node counts as down: a task is tried elsewhere no sooner
SlurmdTimeout=20
MinJobAge=60
InactiveLimit=0
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
$(memory_lines)
$(accounting_lines)
NodeName=n[1-$nodes] NodeAddr=127.0.0.1 Port=[$(node_port 1)-$(node_port "$nodes")] CPUs=$cpus \
  Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1 RealMemory=4000 State=UNKNOWN
PartitionName=DEFAULT Nodes=ALL MaxTime=01:00:00 DefaultTime=00:10:00 State=UP PriorityTier=1
PartitionName=debug Default=YES
PartitionName=urgent PriorityTier=10
PartitionName=cancel PreemptMode=CANCEL
PartitionName=tiny Nodes=n1 MaxTime=00:01:00 DefaultTime=00:01:00
CONF
}

write_config() {
  make_folders
  write_munge_key
  write_hosts >"$dir/etc/hosts"
  slurm_conf >"$dir/etc/slurm.conf"
  cgroup_conf >"$dir/etc/cgroup.conf"
  (umask 077; rm -f "$dir/etc/slurmdbd.conf"; [ "$accounting" = 0 ] || slurmdbd_conf >"$dir/etc/slurmdbd.conf")
}
