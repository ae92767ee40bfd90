#!/usr/bin/env bash
# Two hosts in network namespaces of this machine (root, iproute2, Open MPI): two ranks train across them and equal one process,
# one host is cut off in the middle of a run, which ends with one line, and the same command goes on; the first process of
# each host says as much as rank 0, unless --log_on_each_node is false.
# The argument is a run_mlm built with --features mpi; without it, target/release/run_mlm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=$(realpath "${1-target/release/run_mlm}")
work=$(mktemp -d)
trap 'ip netns del lm-a 2>/dev/null || true; ip netns del lm-b 2>/dev/null || true; rm -rf "$work"' EXIT

# lm-a (10.77.0.1) and lm-b (10.77.0.2), joined by a cable.
ip netns add lm-a && ip netns add lm-b
ip link add lm-a0 type veth peer name lm-b0
for side in a b; do
    ip link set lm-${side}0 netns lm-$side
    ip -n lm-$side addr add 10.77.0.$([[ $side == a ]] && echo 1 || echo 2)/24 dev lm-${side}0
    ip -n lm-$side link set lm-${side}0 up
    ip -n lm-$side link set lo up
done

# What mpirun starts a process on another host by: there is no ssh, but another namespace and host name.
cat >"$work/agent" <<'AGENT'
#!/bin/sh
shift
exec ip netns exec lm-b unshare --uts sh -c "hostname lm-b; $*"
AGENT
chmod +x "$work/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
network=(--mca plm_rsh_agent "$work/agent" --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24
    --mca oob_tcp_if_include 10.77.0.0/24
    # mpirun itself asks after five minutes whether a host is still there; now after seconds.
    --mca oob_tcp_keepalive_time 3 --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3)

on_two_hosts() {
    ip netns exec lm-a unshare --uts sh -c 'hostname lm-a; exec "$@"' - \
        mpirun --host 10.77.0.1,10.77.0.2 -n 2 --bind-to none "${network[@]}" "$program" "${arguments[@]}" "$@"
}

arguments=(--config_name crates/lm-models/tests/fixtures/models/bert/config.json
    --tokenizer_name crates/lm-data/tests/fixtures/tokenizers/bert-cased-small --line_by_line --max_seq_length 32
    --train_file samples/valid.txt --do_train --per_device_train_batch_size 2 --report_to none
    --logging_steps 100 --save_steps 20 --ddp_timeout 5 --data_cache_dir "$work/cache")

echo '=== two hosts equal one process'
"$program" "${arguments[@]}" --max_steps 100 --gradient_accumulation_steps 2 --output_dir "$work/one"
on_two_hosts --max_steps 100 --output_dir "$work/two"
cmp "$work/one/model.safetensors" "$work/two/model.safetensors"

echo '=== what the first process of another host says'
# Other lines than warnings, which every rank says.
said() { sed -n 's/^rank 1: //p' "$1" | grep -cv '^warning: '; }
on_two_hosts --max_steps 1 --output_dir "$work/each" 2>"$work/each.log"
on_two_hosts --max_steps 1 --log_on_each_node false --output_dir "$work/first" 2>"$work/first.log"
(($(said "$work/each.log") > 0)) || { cat "$work/each.log"; exit 1; }
(($(said "$work/first.log") == 0)) || { cat "$work/first.log"; exit 1; }

echo '=== one host is cut off'
on_two_hosts --max_steps 100000 --output_dir "$work/cut" >"$work/log" 2>&1 &
job=$!
until compgen -G "$work/cut/checkpoint-*/run_state.json" >/dev/null; do
    kill -0 $job || { cat "$work/log"; exit 1; }
    sleep 0.1
done
ip -n lm-a link set lm-a0 down
began=$SECONDS
wait $job && { echo 'the run did not end' >&2; exit 1; }
echo "ended after $((SECONDS - began)) s:"
cat "$work/log"
grep -qE 'has waited . s for the others \(--ddp_timeout\)|has lost communication' "$work/log"
((SECONDS - began < 30))
# The processes of a host that is cut off end by themselves as well.
for _ in {1..300}; do pgrep -f "$work/cut" >/dev/null || break; sleep 0.1; done
! pgrep -f "$work/cut"

echo '=== the same command goes on'
ip -n lm-a link set lm-a0 up
last=$(ls "$work/cut" | sed -n 's/^checkpoint-//p' | sort -n | tail -1)
on_two_hosts --max_steps $((last + 20)) --output_dir "$work/cut"
echo '=== all is well'
