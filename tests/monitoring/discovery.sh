#!/bin/bash
# Proves the shipped discovery and its rights on a real API server: discovery.sh PROMETHEUS SERVER-ADDRESS.
#
# An API server and its etcd, without nodes, hold the manifests of k8s/monitoring and pods that exist on paper alone:
# discovery reads an address and annotations, and no more than that has to be true. One of the pods has the address of
# the running server. Prometheus asks with the token of its own service account, so a Role that lacks something shows as
# missing targets, and one that gives too much shows in `kubectl auth can-i --list`. A second apply must change nothing:
# manifests_settled.py predicts that, here it is seen.
# The programs are those of ../shared/cluster (get.sh there builds them); an older Kubernetes, but pods, roles and
# tokens are the same in it.
set -euo pipefail
cd "$(dirname "$0")/../.."

prometheus=$1 server=$2
bin=${CLUSTER_DIR:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/httpserver-cluster}/bin
compat=${CLUSTER_TOOLS:-../shared/cluster}/compat.py

say() { echo "monitoring: $*"; }
not_run() { echo "NOT RUN: Kubernetes discovery and its rights: $*"; exit 0; }
die() { echo "monitoring: discovery: $*" >&2; exit 1; }

[ -x "$prometheus" ] || not_run "no Prometheus that was built with it"
[ -x "$bin/kube-apiserver" ] || not_run "no kube-apiserver in $bin"
[ -x "$bin/etcd" ] || not_run "no etcd in $bin"
command -v kubectl > /dev/null || not_run "kubectl is not installed"
[ -f "$compat" ] || not_run "no $compat, which rewrites manifests for that API server"

work=$(mktemp -d) started=()
clean_up() {
  [ ${#started[@]} = 0 ] || { kill "${started[@]}" 2> /dev/null; wait "${started[@]}"; } || true
  rm -rf "$work"
}
trap clean_up EXIT

background() { local name=$1; shift; "$@" > "$work/$name.log" 2>&1 & started+=($!); }
wait_until() {
  local what=$1 end=$((SECONDS + 60)); shift
  until "$@"; do [ $SECONDS -lt $end ] || { tail -n 3 "$work"/*.log >&2; die "$what: not within 60 s"; }; sleep 0.2; done
}
free_ports() {
  python3 -c 'import socket; s = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]; print(*(x.getsockname()[1] for x in s))'
}
k() { kubectl --kubeconfig "$work/kubeconfig" "$@"; }

start_api() {
  openssl genrsa -out "$work/sa.key" 2048 2> /dev/null
  echo "admin,admin,admin,system:masters" > "$work/tokens"
  background etcd "$bin/etcd" --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$etcd_port" \
    --advertise-client-urls "http://127.0.0.1:$etcd_port" --listen-peer-urls "http://127.0.0.1:$peer_port" --unsafe-no-fsync
  background api "$bin/kube-apiserver" --etcd-servers="http://127.0.0.1:$etcd_port" --bind-address=127.0.0.1 \
    --secure-port="$api_port" --cert-dir="$work/certs" --token-auth-file="$work/tokens" --authorization-mode=RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$work/sa.key" \
    --service-account-signing-key-file="$work/sa.key" --disable-admission-plugins=ServiceAccount --service-cluster-ip-range=10.0.0.0/24
  cat > "$work/kubeconfig" <<C
{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
 clusters: [{name: c, cluster: {server: "https://127.0.0.1:$api_port", insecure-skip-tls-verify: true}}],
 users: [{name: u, user: {token: admin}}]}
C
  wait_until "the API server is ready" k get --raw /readyz > "$work/ready" 2>&1
}

apply() { # FOLDER...: what the API server says to each object
  local folder
  for folder; do kubectl kustomize "$folder" | python3 "$compat" 2> /dev/null | k apply -f -; done
}

apply_twice() {
  apply k8s/monitoring k8s > "$work/applied"
  say "a real API server has taken the $(wc -l < "$work/applied") objects of k8s and k8s/monitoring"
  apply k8s/monitoring k8s > "$work/again"
  ! grep -v ' unchanged$' "$work/again" || die "the second apply changed what stands above"
  say "and a second apply changes none of them"
}

# Without its controllers this API server never ends a namespace, so the test removes what would end with it.
end_with_the_namespace() {
  k -n httpserver delete role,rolebinding --all > /dev/null
  expect_rights prometheus httpserver ''
  apply k8s > /dev/null
}

# pod NAME ANNOTATED PHASE ADDRESS: two declared ports, of which one is annotated
pod() {
  k create -f - > /dev/null <<C
apiVersion: v1
kind: Pod
metadata:
  name: $1
  namespace: httpserver
  labels: {app.kubernetes.io/name: httpserver}
  annotations: {prometheus.io/scrape: "$2", prometheus.io/port: "${server##*:}", prometheus.io/path: /metrics}
spec:
  nodeName: node1
  containers:
    - {name: httpserver, image: httpserver, ports: [{name: http, containerPort: ${server##*:}}, {name: other, containerPort: 9}]}
C
  k -n httpserver patch pod "$1" --subresource=status --type=merge \
    -p "{\"status\": {\"phase\": \"$3\", \"podIP\": \"$4\", \"podIPs\": [{\"ip\": \"$4\"}]}}" > /dev/null
}

start_prometheus() {
  k -n monitoring create token prometheus > "$work/token"
  cp k8s/monitoring/prometheus/rules.yml "$work/"
  local credentials="authorization: {credentials_file: $work/token}\\n\\1  tls_config: {insecure_skip_verify: true}"
  sed "s/_interval: 15s/_interval: 1s/; s/_timeout: 10s/_timeout: 1s/
    s|^\( *\)- role: pod|&\n\1  api_server: https://127.0.0.1:$api_port\n\1  $credentials|" \
    k8s/monitoring/prometheus/prometheus.yml > "$work/prometheus.yml"
  background prometheus "$prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address="127.0.0.1:$prom_port"
}

ask() { curl -sf "http://127.0.0.1:$prom_port/api/v1/$1" "${@:2}"; }
scraped() { [ "$(ask query --data-urlencode 'query=sum(up{instance="runs"})' | jq -r '.data.result[0].value[1]')" = 1 ]; }
# One line for each target: its address, then its labels.
targets() {
  ask 'targets?state=active' |
    jq -r '.data.activeTargets[] | [.scrapeUrl, (.labels | to_entries | map("\(.key)=\(.value)") | sort[])] | join(" ")' | sort
}

check_targets() {
  wait_until "the pod that runs is found and scraped" scraped
  local want
  want="http://$server/metrics instance=runs job=httpserver namespace=httpserver node=node1 pod=runs
http://[fd00::7]:${server##*:}/metrics instance=sixth job=httpserver namespace=httpserver node=node1 pod=sixth"
  [ "$(targets)" = "$want" ] || die "the targets are:"$'\n'"$(targets)"$'\n'"expected:"$'\n'"$want"
  say "discovery finds the annotated pods, once each, IPv6 too, and no others"
}

# All that an account may do in a namespace, but for what every account may (to ask who it is and what it may do).
rights() { # ACCOUNT NAMESPACE
  k auth can-i --list --no-headers -n "$2" --as "system:serviceaccount:monitoring:$1" | grep -v -e '^ ' -e '^selfsubject' | tr -s ' ' | sort
}

expect_rights() { # ACCOUNT NAMESPACE RIGHTS
  local got; got=$(rights "$1" "$2" || true)
  [ "$got" = "$3" ] || die "in the namespace $2 $1 may: ${got:-nothing}; expected: ${3:-nothing}"
}

check_rights() {
  local pods='pods [] [] [get list watch]'
  expect_rights prometheus httpserver "$pods"
  expect_rights alloy httpserver "$pods"$'\n''pods/log [] [] [get]'
  expect_rights prometheus monitoring ''
  expect_rights alloy monitoring ''
  expect_rights grafana monitoring ''
  expect_rights loki monitoring ''
  say "Prometheus may read the pods of one namespace, Alloy their logs too, and nobody anything else"
}

read -r etcd_port peer_port api_port prom_port <<< "$(free_ports)"
start_api
apply_twice
end_with_the_namespace
pod runs true Running "${server%:*}"
pod sixth true Running fd00::7
pod quiet false Running 127.0.0.1
pod ended true Succeeded 127.0.0.1
start_prometheus
check_targets
check_rights
