#!/usr/bin/env bash
# A SLURM of two nodes on one machine, without systemd and control groups (Debian's slurm-wlm and munge), for one command:
# cluster.sh FOLDER COMMAND... Needs root. Nothing of it is left afterwards.
set -euo pipefail
scratch="$1"
shift
mkdir -p "$scratch"/{state,spool1,spool2,munge,pids}
scratch="$(cd "$scratch" && pwd)"
chmod 755 "$scratch"
dd if=/dev/urandom of="$scratch/munge/key" bs=1024 count=1 2>/dev/null
chmod 600 "$scratch/munge/key"
host="$(hostname -s)"
cat >"$scratch/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$scratch/munge/socket
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool-%n
SlurmctldPidFile=$scratch/pids/ctld
SlurmdPidFile=$scratch/pids/slurmd-%n
SlurmctldLogFile=$scratch/ctld.log
SlurmdLogFile=$scratch/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=600
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=16821 CPUs=2
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=16822 CPUs=2
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$scratch/slurm.conf"
pids=()
cleanup() {
  set +e
  scancel --state=PENDING,RUNNING --quiet --user=root 2>/dev/null
  sleep 2
  for file in "$scratch"/pids/*; do kill "$(cat "$file")" 2>/dev/null; done
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
  wait
}
trap cleanup EXIT
munged --foreground --force --key-file="$scratch/munge/key" --socket="$scratch/munge/socket" \
  --pid-file="$scratch/munge/pid" --log-file="$scratch/munge/log" --seed-file="$scratch/munge/seed" &
pids+=($!)
for _ in $(seq 50); do [ -S "$scratch/munge/socket" ] && break; sleep 0.1; done
slurmctld -D >/dev/null 2>"$scratch/ctld.err" &
pids+=($!)
for node in node1 node2; do
  slurmd -D -N "$node" >/dev/null 2>"$scratch/$node.err" &
  pids+=($!)
done
for _ in $(seq 100); do
  [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -eq 2 ] && break
  sleep 0.2
done
if [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" -ne 2 ]; then
  echo "cluster.sh: got no two idle nodes after 20 s; see the logs in $scratch" >&2
  exit 77
fi
"$@"
