#!/bin/bash
# Does k8s/ do on a cluster what it promises? Above all: does a rollout, a
# drained node or a wrong setting lose a request? Two constant loads run
# meanwhile (cluster_load.py) and count every way to fail.
#
#   tests/cluster.sh                    on a cluster that ../shared/cluster starts (as root), with the image built here
#   tests/cluster.sh prepare            only builds the programs of that cluster: ten minutes of processor time, once
#   IMAGE_TAR=x.tar tests/cluster.sh    the same with this OCI archive, named httpserver:1.0.0
#   KUBECONFIG=… tests/cluster.sh       on that cluster, which must hold the image ($IMAGE, default httpserver:1.0.0)
#   ROLLOUTS=20                         rolling updates under load (default 2, about 26 s each; a setting and the Secret roll out under load too)
#
# Where k8s/watch.yaml is, the server's own client (`httpserver watch`) counts
# beside them in the cluster, and both have to agree that nothing was lost.
#
# Needs kubectl 1.30 or newer, curl, openssl, python3. It works in the namespace
# httpserver, which must not exist before and is gone afterwards, and cordons
# nodes for a while: not for a cluster that others use.
set -euo pipefail
cd "$(dirname "$0")/.."

rollouts=${ROLLOUTS:-2}
image=${IMAGE:-httpserver:1.0.0}
shared=$PWD/../shared/cluster
work=$(mktemp -d)
mkdir "$work/logs"
cordoned='' started='' ours='' near=() namespace='' load='' watch='' watches=0 own=''

say() { echo "[$((SECONDS / 60))m$((SECONDS % 60))s] $*"; }
ok() { say "ok: $*"; }
not_run() { echo "NOT RUN: $1: $2"; }
die() { say "FAILED: $*" >&2; exit 1; }
k() { kubectl -n httpserver "$@"; }

clean_up() {
  local status=$?
  if [ $status != 0 ] && [ -n "$namespace" ]; then
    k get pods -o wide || true
    k get events --sort-by=.lastTimestamp | tail -20 || true
  fi
  [ -z "$cordoned" ] || uncordon || true
  mapfile -t running < <(jobs -pr)
  [ ${#running[@]} = 0 ] || kill "${running[@]}" || true
  if [ -n "$started" ]; then
    WIPE=1 "$shared/down.sh" || true
  elif [ -n "$namespace" ]; then
    kubectl delete namespace httpserver --wait=false > /dev/null || true
  fi
  rm -rf "$work"
  exit $status
}
trap clean_up EXIT

eventually() { # SECONDS WHAT COMMAND...: until the command succeeds
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > "$work/eventually" 2>&1; do
    [ $SECONDS -lt $until ] || { cat "$work/eventually" >&2; die "$what"; }
    sleep 0.5
  done
  ok "$what"
}

# ---- the cluster and the image

build_image() {
  local target=x86_64-unknown-linux-gnu
  say "building the static binary"
  RUSTFLAGS='-C target-feature=+crt-static' cargo build --quiet --release --target $target
  python3 "$shared/mkimage.py" "$work/image.tar" docker.io/library/httpserver:1.0.0 target/$target/release/httpserver --user 65532:65532 --port 8080
  IMAGE_TAR=$work/image.tar
}

get_programs() {
  [ -d "$shared" ] || { not_run "everything that needs a cluster" "no KUBECONFIG, and no ../shared/cluster"; exit 0; }
  [ "$(id -u)" = 0 ] || { not_run "everything that needs a cluster" "../shared/cluster needs root"; exit 0; }
  "$shared/get.sh"
}

start_cluster() {
  get_programs
  [ -n "${IMAGE_TAR:-}" ] || build_image
  [ ! -e /run/netns/kc-cp ] || die "the cluster of ../shared/cluster is already up: set KUBECONFIG to use it, or run its down.sh"
  started=1
  WIPE=1 "$shared/down.sh" # what an earlier cluster may have left
  NODES=3 "$shared/up.sh"
  "$shared/load.sh" "$IMAGE_TAR"
  KUBECONFIG=$("$shared/up.sh" kubeconfig)
  export KUBECONFIG
}

look_at_cluster() {
  minor=$(kubectl get --raw /version | python3 -c 'import json, re, sys; print(re.match(r"\d+", json.load(sys.stdin)["minor"])[0])')
  mapfile -t nodes < <(kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')
  mapfile -t addresses < <(kubectl get nodes -o jsonpath='{range .items[*].status.addresses[?(@.type=="InternalIP")]}{.address}{"\n"}{end}' | grep -F .)
  if [ -d "$shared" ] && [ "$KUBECONFIG" = "$("$shared/up.sh" kubeconfig)" ]; then
    ours=1
    # Beside the nodes: other tests on this machine may fill its connection
    # tracking table, and packets that it drops say nothing about a rollout.
    near=(ip netns exec kc-cp)
  fi
  say "Kubernetes 1.$minor, nodes ${nodes[*]} at ${addresses[*]}"
  [ "$minor" -ge 30 ] || [ -f "$shared/compat.py" ] || { not_run "everything that needs a cluster" "1.$minor is older than 1.30"; exit 0; }
  [ "$minor" -ge 30 ] || python3 -c 'import yaml' 2> /dev/null || { python3 -m venv "$work/venv"; "$work/venv/bin/pip" -q install pyyaml; PATH=$work/venv/bin:$PATH; }
  [ -z "$(kubectl get nodes -o jsonpath='{.items[?(@.spec.unschedulable)].metadata.name}')" ] || die "a node is cordoned already"
  ! kubectl get namespace httpserver > /dev/null 2>&1 || die "the namespace httpserver exists already"
}

# ---- manifests, as a user would edit them

apply() { # [NAME=VALUE]... [COMPONENT]...: k8s with these settings and components
  local word
  rm -rf "$work/k8s"
  cp -r k8s "$work/k8s"
  local file=$work/k8s/kustomization.yaml
  sed -i "s|newName: .*|newName: ${image%:*}|; s|newTag: .*|newTag: ${image##*:}|" "$file"
  for word; do
    case $word in
      *=*) sed -i "/^    literals:/a\      - $word" "$file" ;;
      *) sed -i "/^components:/a\  - components/$word" "$file" ;;
    esac
  done
  kubectl kustomize "$work/k8s" > "$work/rendered.yaml"
  if [ "$minor" -lt 30 ]; then
    python3 "$shared/compat.py" < "$work/rendered.yaml" > "$work/compat.yaml" 2>> "$work/compat.log"
    # A kubelet that old puts a / before the hook's path: with two it would be the echo.
    sed 's|path: /delay/|path: delay/|' "$work/compat.yaml" > "$work/rendered.yaml"
  fi
  kubectl apply -f "$work/rendered.yaml" > "$work/applied"
}

rolled_out() { k rollout status deployment/httpserver --timeout=300s > "$work/rollout" 2>&1 || { cat "$work/rollout"; die "the rollout did not finish"; }; }

pods() { # those that are to stay
  k get pods -l app.kubernetes.io/name=httpserver -o go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}'
}

all_gone() { [ "$(k get pods --no-headers | wc -l)" = 3 ]; }

# ---- what pods leave behind when they end

columns='NAME:.metadata.name,CONTAINER:.status.containerStatuses[0].containerID,STATUS:.status.containerStatuses[0].state.terminated.exitCode'

# The kubelet of 1.20 sometimes forgets a container before it has told how it
# ended (new ones do not); then its runtime's events know, where we reach them.
watch_runtime() {
  : > "$work/exits"
  [ -n "$ours" ] || return 0
  local file init
  for file in "${KUBECONFIG%/*}"/node*/pid; do
    init=$(cat "$file")
    nsenter -t "$(cut -d' ' -f1 "/proc/$init/task/$init/children")" -m "$("$shared/up.sh" path)/ctr" -n k8s.io events >> "$work/exits" &
  done
}

exit_status_of() { # POD
  local seen
  seen=$(awk -v pod="$1" '$1 == pod && $3 != "<none>" { status = $3 } END { print status }' "$work"/ends.*)
  if [ -z "$seen" ]; then
    local container
    container=$(awk -v pod="$1" '$1 == pod && $2 != "<none>" { print $2; exit }' "$work"/ends.*)
    seen=$(grep "/tasks/exit {\"container_id\":\"${container#*//}\"" "$work/exits" | sed 's/.*"exit_status":\([0-9]*\).*/\1/; s/.*exited_at.*/0/')
  fi
  echo "$seen"
}

follow() { # each pod of now to its end, log and exit status; call it before something ends them
  local pod before=$watch
  # A new watch each time, since the API server ends an old one after half an hour or so.
  watches=$((watches + 1))
  kubectl -n httpserver get pods -w --no-headers -o "custom-columns=$columns" > "$work/ends.$watches" &
  watch=$!
  for pod in $(pods); do
    [ ! -e "$work/logs/$pod" ] || continue
    kubectl -n httpserver logs -f "$pod" > "$work/logs/$pod" 2>&1 &
  done
  [ -z "$before" ] || kill "$before" 2> /dev/null || true
}

# The drain's last line: every request has its line in the log, or was not logged on purpose (probes), or is missing.
all_accounted() { # POD
  local line
  line=$(grep -o 'drain finished: [^"]*' "$work/logs/$1" | tail -1)
  awk '{ for (i = 1; i <= NF; i++) if (split($i, pair, "=") == 2) n[pair[1]] = pair[2] }
    END { exit !(n["requests"] == n["log_lines"] + n["not_logged"]) }' <<< "$line" || die "pod $1 lost lines of its log: $line"
}

check_ends() { # every pod that was followed and is gone: exit status 0, a drain line, nothing cut
  eventually 90 "three pods are left" all_gone
  local pod status count=0 unread=0
  for pod in "$work"/logs/*; do
    pod=${pod##*/}
    ! k get pod "$pod" > /dev/null 2>&1 || continue
    status=$(exit_status_of "$pod")
    [ "$status" = 0 ] || die "pod $pod ended with exit status \"$status\""
    count=$((count + 1))
    if grep -q 'drain finished: .*cut=0 ' "$work/logs/$pod"; then
      all_accounted "$pod"
      continue
    fi
    # A kubelet may remove a container before it has sent its log to the end, and says so.
    if ! grep -q 'drain finished' "$work/logs/$pod" && tail -1 "$work/logs/$pod" | grep 'rpc error: code = NotFound' > /dev/null; then
      unread=$((unread + 1))
    else
      tail -3 "$work/logs/$pod"
      die "pod $pod has no drain line, or requests were cut"
    fi
  done
  ! grep -r "$token" "$work/logs" || die "a log holds the token"
  [ $count -ge "$1" ] || die "only $count pods ended"
  [ $((10 * unread)) -le $count ] || die "the logs of $unread of $count pods could not be read to the end"
  ok "$count pods ended with exit status 0, $((count - unread)) of them with a drain line that says nothing was cut"
  [ $unread = 0 ] || not_run "the drain line of $unread pods" "the kubelet removed the container before it had sent the log"
}

# ---- load

load_start() {
  "${near[@]}" python3 tests/cluster_load.py "${addresses[@]/%/:30080}" > "$work/load" 2> "$work/load-failures" &
  load=$!
}

load_stop() { # prints what it counted; fails if a request failed
  local status=0
  kill -TERM "$load"
  wait "$load" || status=$?
  load=
  sed 's/^/    /' "$work/load"
  return $status
}

# The server's own client, as a Job beside the pods: it goes through the Service, not through the nodes' ports.
own_watch() { # sets $own; nothing where there is no such Job
  [ -f k8s/watch.yaml ] || { not_run "httpserver watch in the cluster" "there is no k8s/watch.yaml"; return 0; }
  # This cluster has no DNS, so the Service's address stands for its name.
  local address
  address=$(k get service httpserver -o jsonpath='{.spec.clusterIP}')
  sed "s|image: .*|image: $image|; s|//httpserver.httpserver.svc|//$address|" k8s/watch.yaml | k apply -f - > "$work/applied"
  own=$(sed -n 's|^\(job[^ ]*\) .*|\1|p' "$work/applied" | head -1)
  eventually 60 "httpserver watch runs in the cluster" watch_runs
}

watch_runs() { [ "$(k get "$own" -o jsonpath='{.status.active}{.status.succeeded}{.status.failed}')" = 1 ]; }
watch_over() { [ -n "$(k get "$own" -o jsonpath='{.status.succeeded}{.status.failed}')" ]; }

own_verdict() { # its exit status 0 says that it lost nothing
  [ -n "$own" ] || return 0
  eventually 600 "httpserver watch has come to its end" watch_over
  k logs "$own" --tail=20 | sed 's/^/    /'
  [ "$(k get "$own" -o jsonpath='{.status.succeeded}')" = 1 ] || die "httpserver watch saw a loss where the other loads saw none"
  ok "httpserver watch saw no loss either"
  k delete "$own" > /dev/null
}

nothing_lost() { load_stop || { head -20 "$work/load-failures"; die "$1: requests were lost"; }; ok "$1: not one request failed"; }

# ---- the checks

check_start() {
  namespace=1 # ours from here on
  apply
  rolled_out
  ok "applied, and three pods are ready"
  kubectl apply -f "$work/rendered.yaml" > "$work/applied"
  ! grep -v ' unchanged$' "$work/applied" || die "a second apply changed what stands above"
  ok "a second apply changes nothing"
  local pod
  for pod in $(pods); do
    k logs "$pod" | grep > /dev/null 'admin is off: no token is set' || die "pod $pod does not say that admin is off without the Secret"
  done
  ok "without the Secret each pod's log says that admin is off"
  [ "$(k get pods -o jsonpath='{.items[*].status.qosClass}')" = "Burstable Burstable Burstable" ] || die "QoS class is not Burstable"
  ok "QoS class Burstable"
  local used
  used=$(k get pods -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | sort -u | wc -l)
  [ "$used" = $((${#nodes[@]} < 3 ? ${#nodes[@]} : 3)) ] || die "three pods on $used of ${#nodes[@]} nodes"
  ok "spread over $used nodes"
}

check_requests() {
  local version address
  version=$(k get deployment httpserver -o jsonpath='{.metadata.labels.app\.kubernetes\.io/version}')
  for address in "${addresses[@]}"; do
    curl -sS -m 10 -D "$work/head" "http://$address:30080/through-$address" > "$work/body"
    grep -qi "^Version: $version"$'\r$' "$work/head" || { cat "$work/head"; die "no Version: $version header from $address"; }
    for line in '^pod: httpserver-' '^namespace: httpserver$' '^node: .' "^version: $version\$"; do
      grep -q "$line" "$work/body" || { cat "$work/body"; die "the echo has no line $line"; }
    done
    k logs -l app.kubernetes.io/name=httpserver --tail=-1 | grep > /dev/null "^{.*\"target\":\"/through-$address\"" || die "the log is not JSON, as the ConfigMap says"
  done
  ok "each node's port answers: Version $version, pod, namespace and node; the log is JSON as the ConfigMap says"
}

process_of() { # POD: its process id, where the node's processes are visible on this machine
  local uid process
  uid=$(k get pod "$1" -o jsonpath='{.metadata.uid}')
  { grep -ls -e "pod$uid" -e "pod${uid//-/_}" /proc/[0-9]*/cgroup || true; } | cut -d/ -f3 | while read -r process; do
    [ "$(cat "/proc/$process/comm" 2> /dev/null)" != httpserver ] || echo "$process"
  done
}

check_process() {
  local process status
  process=$(process_of "$(pods | sed -n 1p)")
  [ -n "$process" ] || { not_run "uid, capabilities, NoNewPrivs and seccomp of the process" "the nodes' processes are not visible here"; return; }
  status=$(tr '\t' ' ' < "/proc/$process/status" | tr -s ' ')
  for line in "Uid: 65532 65532 65532 65532" "NoNewPrivs: 1" "Seccomp: 2" Cap{Inh,Prm,Eff,Bnd,Amb}": 0000000000000000"; do
    grep -qx "$line" <<< "$status" || die "/proc/$process/status lacks \"$line\""
  done
  awk '$5 == "/" && $6 ~ /^ro/ { found = 1 } END { exit !found }' "/proc/$process/mountinfo" || die "the root file system is writable"
  ok "/proc/$process/status: uid 65532, no capabilities, NoNewPrivs, seccomp filter; the root is read-only"
}

check_setting() {
  local before after
  before=$(k get deployment httpserver -o jsonpath='{..configMapRef.name}')
  follow
  apply DELAY_MIN=300ms DELAY_MAX=300ms
  rolled_out
  after=$(k get deployment httpserver -o jsonpath='{..configMapRef.name}')
  [ "$before" != "$after" ] || die "the ConfigMap kept its name"
  curl -sS -m 10 -o /dev/null -D "$work/head" "http://${addresses[0]}:30080/"
  grep -qiE '^Server-Timing: delay;dur=300(\.0*)?'$'\r$' "$work/head" || { cat "$work/head"; die "the changed delay is not in force"; }
  ok "a changed setting rolled out ($before to $after) and is in force"
}

wrong_delay_told() {
  local pod
  for pod in $(pods); do
    k logs "$pod" 2> /dev/null | grep 'DELAY_MAX.*"banana"' || k logs --previous "$pod" 2> /dev/null | grep 'DELAY_MAX.*"banana"' || continue
    return 0
  done
  return 1
}

check_wrong_setting() {
  apply DELAY_MAX=banana
  eventually 60 "a wrong delay in the ConfigMap: the new pod says so in its log" wrong_delay_told
  say "    $(cat "$work/eventually")"
  ! k rollout status deployment/httpserver --timeout=10s > /dev/null 2>&1 || die "a wrong setting rolled out"
  [ "$(k get deployment httpserver -o jsonpath='{.status.availableReplicas}')" = 3 ] || die "the old pods do not all serve"
  ok "the rollout stalls and the three old pods serve on"
  apply
  rolled_out
}

endpoints() { k get endpoints httpserver -o jsonpath='{.subsets[*].addresses[*].targetRef.name}' 2> /dev/null; }
in_service() { grep -qw "$1" <<< "$(endpoints)"; }
out_of_service() { ! in_service "$1"; }

admin() { # METHOD PATH [BODY], to the forwarded pod
  curl -sS --fail-with-body -m 10 -X "$1" -H "Authorization: Bearer $token" ${3:+--data-binary "$3"} "http://127.0.0.1:$forwarded$2"
}

check_readiness() {
  token=$(openssl rand -hex 32)
  k create secret generic httpserver-admin --from-literal=ADMIN_TOKEN="$token" > /dev/null
  follow
  apply # back to the defaults, which also lets the pods see the Secret
  rolled_out
  local pod
  pod=$(pods | sed -n 1p)
  kubectl -n httpserver port-forward "pod/$pod" :8080 > "$work/forward" 2>&1 &
  eventually 20 "a port is forwarded to $pod" grep -q 'Forwarding from 127' "$work/forward"
  forwarded=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward")
  admin GET /admin/settings | grep > /dev/null 2s || die "/admin/settings does not show the ConfigMap's delay"
  admin PUT /admin/settings/ready false > /dev/null || die "/admin refuses ready=false"
  eventually 30 "readiness switched off: the endpoint leaves the Service" out_of_service "$pod"
  # A restart takes six failed liveness probes, a minute; one that fails is an event at once.
  sleep 15
  ! k get events --field-selector "involvedObject.name=$pod" | grep 'Liveness probe failed: HTTP' || die "readiness has a hold on liveness"
  [ "$(k get pod "$pod" -o jsonpath='{.status.containerStatuses[0].restartCount}')" = 0 ] || die "the pod was restarted"
  ok "and the pod is not restarted, nor does its liveness probe fail"
  admin PUT /admin/settings/ready true > /dev/null
  eventually 30 "readiness switched on: the endpoint is back" in_service "$pod"
}

drain_nodes() { # TIME-OUT NODE...
  cordoned=1
  kubectl drain "${@:2}" --timeout="$1" --ignore-daemonsets --delete-emptydir-data --pod-selector=app.kubernetes.io/instance=httpserver > "$work/drain" 2>&1
}

uncordon() { # all, since look_at_cluster saw none cordoned
  kubectl uncordon "${nodes[@]}" > /dev/null
  cordoned=''
}

check_drain() {
  [ ${#nodes[@]} -ge 3 ] || { not_run "a drained node against the PodDisruptionBudget" "it needs three nodes"; return; }
  follow
  drain_nodes 120s "${nodes[0]}" || { cat "$work/drain"; die "the first node does not drain"; }
  rolled_out
  ok "a node drained, and its pods are ready elsewhere"
  # With every node cordoned the next pod finds no other place: that spends the budget.
  local node
  for node in "${nodes[@]}"; do kubectl cordon "$node" > /dev/null; done
  follow
  ! drain_nodes 15s "${nodes[@]}" || die "all nodes drained, against the PodDisruptionBudget"
  grep -q "disruption budget" "$work/drain" || { cat "$work/drain"; die "the drain failed for another reason"; }
  [ "$(k get deployment httpserver -o jsonpath='{.status.availableReplicas}')" = 2 ] || die "the PodDisruptionBudget did not keep two pods"
  ok "all nodes drained at once: the PodDisruptionBudget kept two pods"
  uncordon
  rolled_out
}

restarted() { [ "$(k get pod "$1" -o jsonpath='{.status.containerStatuses[0].restartCount}')" = 1 ] && in_service "$1"; }

check_kill() {
  local pod process
  pod=$(pods | sed -n 1p)
  process=$(process_of "$pod")
  [ -n "$process" ] || { not_run "a killed process" "the nodes' processes are not visible here"; return; }
  load_start
  sleep 5
  kill -KILL "$process"
  eventually 60 "killed the process of $pod: the kubelet starts it again, and it serves" restarted "$pod"
  # The control of all that the load says elsewhere: here requests were lost.
  ! load_stop || die "a killed process lost no request: the load does not see what it should"
  ok "and the load saw the requests that died with it"
}

check_local() {
  local source name=/local-$RANDOM
  source=$(ip -4 route get "${addresses[0]}" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  apply local-traffic
  client_seen() {
    curl -sS -m 10 -o /dev/null "http://${addresses[0]}:30080$name"
    k logs -l app.kubernetes.io/name=httpserver --tail=-1 --max-log-requests=20 | grep "\"client\":\"$source\".*\"target\":\"$name\""
  }
  eventually 60 "with the component local-traffic the log has the client's own address, $source" client_seen
  rolled_out
}

roll() {
  local number begun
  own_watch
  load_start
  for number in $(seq "$rollouts"); do
    begun=$SECONDS
    follow
    k rollout restart deployment/httpserver > /dev/null
    rolled_out
    say "rolling update $number of $rollouts: $((SECONDS - begun)) s"
  done
  nothing_lost "$rollouts rolling updates under load"
  own_verdict
}

may_read() { # ACCOUNT [--subresource=log]
  [ "$(kubectl auth can-i get pods "${@:2}" -n httpserver --as="system:serviceaccount:monitoring:$1" 2> /dev/null)" = yes ]
}

# The README: monitoring needs no second apply after the server was removed and applied again.
check_removal() {
  kubectl delete -f "$work/rendered.yaml" --timeout=180s > "$work/deleted" 2>&1 || { cat "$work/deleted"; die "the server cannot be removed"; }
  ! may_read prometheus || die "Prometheus may still read a namespace that is gone"
  apply
  rolled_out
  may_read prometheus && may_read alloy && may_read alloy --subresource=log || die "applied again, and Prometheus and Alloy may not read the pods"
  ! may_read prometheus --subresource=log || die "Prometheus may read logs"
  ok "removed and applied again: Prometheus and Alloy may read the pods as before"
}

check_admission() {
  if [ "$minor" -ge 25 ]; then
    local refusal
    refusal=$(k run privileged --image="$image" --privileged --restart=Never 2>&1 || true)
    grep -q 'violates PodSecurity' <<< "$refusal" || die "a privileged pod was not refused: $refusal"
    ok "a privileged pod is refused by the namespace"
  else
    not_run "a privileged pod is refused" "1.$minor has no Pod Security admission; manifests.py checks the standard's fields"
  fi
  not_run "kubectl debug" "it needs ephemeral containers (1.25) and an image with a shell"
  if [ "$minor" -lt 30 ]; then
    sed 's/^compat: //' "$work/compat.log" | sort -u | while read -r change; do not_run "$change" "rewritten for 1.$minor; checked against the schemas by manifests.sh"; done
  fi
  not_run "the NetworkPolicy" "it would need a peer to refuse and a network plugin that enforces; manifests.py checks selector and port"
  not_run "scaling" "it needs metrics-server or prometheus-adapter; manifests.sh checks the autoscalers"
}

case ${1:-check} in
  prepare) get_programs; exit ;;
  check) ;;
  *) die "unknown word \"$1\": expected check or prepare" ;;
esac
command -v kubectl > /dev/null || { not_run "everything that needs a cluster" "kubectl is not installed"; exit 0; }
[ -n "${KUBECONFIG:-}" ] || start_cluster
look_at_cluster
watch_runtime
check_start
check_requests
check_process
load_start
check_wrong_setting
check_setting
check_readiness
check_drain
nothing_lost "settings, a wrong setting, readiness and a drained node under load"
roll
check_ends $((3 * rollouts))
check_kill
check_local
check_removal
check_admission
ok "all of it, in $SECONDS s"
