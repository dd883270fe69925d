#!/bin/bash
# Proves k8s/monitoring with the real programs, as far as they can be had: about a minute and a half, and as long again
# the first time, to get them.
#
#   tests/monitoring.sh            check
#   tests/monitoring.sh picture    draw k8s/monitoring/latency.svg anew from a run of its own
#
# Starts the server with its default delay of 0 to 2 s, puts load on it, lets Prometheus scrape it, and then asks that
# Prometheus everything the dashboard and the rules ask. Prometheus comes from Debian: its newest, of the same version
# as the image in k8s/monitoring, and that of this machine's own distribution, because labels such as `le` are written
# differently by versions 2 and 3. Neither is installed (a package would start a service): they are unpacked below
# target/monitoring. Loki, Alloy and Grafana are in no registry that a test may count on; what is checked in their
# place is said where it is.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=forky # of Debian, for a Prometheus that knows Kubernetes and is as new as the image
loki_grammar=@grafana/lezer-logql@0.4.2
validate=1.37 # kubernetes-validate: has the schemas of Kubernetes 1.30 to this
load_seconds=80 connections=256
tools=$PWD/target/monitoring
work=$(mktemp -d)
started=()

say() { echo "monitoring: $*"; }
not_run() { echo "NOT RUN: $1: $2"; }
die() { echo "monitoring: $*" >&2; exit 1; }
clean_up() {
  [ ${#started[@]} = 0 ] || { kill "${started[@]}" 2> /dev/null; wait "${started[@]}"; } || true
  rm -rf "$work"
}
trap clean_up EXIT

# background NAME COMMAND...: its output goes to $work/NAME.out and .err
background() {
  local name=$1; shift
  "$@" > "$work/$name.out" 2> "$work/$name.err" &
  started+=($!)
}

# wait_until WHAT COMMAND...: up to 30 s
wait_until() {
  local what=$1 end=$((SECONDS + 30)); shift
  until "$@"; do [ $SECONDS -lt $end ] || die "$what: not within 30 s"; sleep 0.2; done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# ---- programs

unpack() { # DIRECTORY PACKAGE...: from the package lists in force (APT_CONFIG)
  local to=$1 deb; shift
  mkdir -p "$work/debs"
  (cd "$work/debs" && rm -f ./*.deb && apt-get -qq -o APT::Sandbox::User=root download "$@") || return 1
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$to"; done
}

# An apt of our own beside the machine's, with another suite of Debian.
newest_prometheus() {
  local apt=$work/apt
  unpack "$apt" debian-archive-keyring || return 1
  mkdir -p "$apt"/{lists/partial,archives/partial}
  echo "deb [signed-by=$apt/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" > "$apt/sources.list"
  cat > "$apt/apt.conf" <<C
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-"; Dir::State::lists "$apt/lists";
Dir::Cache "$apt"; APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
C
  APT_CONFIG=$apt/apt.conf apt-get -qq update && APT_CONFIG=$apt/apt.conf unpack "$tools/newest" prometheus promtool
}

need() { # PROGRAM=PACKAGE...
  local pair missing=()
  for pair; do command -v "${pair%%=*}" > /dev/null || missing+=("${pair#*=}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "${missing[@]}" > /dev/null
}

get_prometheus() {
  mkdir -p "$tools"
  [ -x "$tools/newest/usr/bin/promtool" ] && [ -x "$tools/own/usr/bin/promtool" ] || apt-get -qq update || true
  if [ ! -x "$tools/newest/usr/bin/promtool" ]; then
    say "getting Prometheus of Debian $suite"
    newest_prometheus || not_run "everything with the newest Prometheus" "Debian $suite cannot be reached, or has none"
  fi
  if [ ! -x "$tools/own/usr/bin/prometheus" ]; then
    say "getting Prometheus of this distribution"
    unpack "$tools/own" prometheus || not_run "everything with this distribution's Prometheus" "its archive cannot be reached, or has none"
    [ -x "$tools/own/usr/bin/promtool" ] || unpack "$tools/own" promtool || true
  fi
  proms=(); local p
  for p in newest own; do [ ! -x "$tools/$p/usr/bin/prometheus" ] || proms+=("$p"); done
  [ ${#proms[@]} -gt 0 ] || die "no Prometheus at all: nothing can be checked"
  promtool=$tools/${proms[0]}/usr/bin/promtool
}

get_server_and_load() {
  need wrk=wrk jq=jq curl=curl openssl=openssl
  binary=${BINARY:-target/release/httpserver}
  [ -n "${BINARY:-}" ] || cargo build --release --locked --quiet
}

# ---- the run

start_server() {
  background server "$binary" --listen 127.0.0.1:0 --log-format json
  wait_until "the server says where it listens" grep -q '"listening on ' "$work/server.err"
  server=$(grep -om1 'listening on [^"]*' "$work/server.err" | cut -d' ' -f3)
  say "the server listens on $server"
}

# Until this script ends, however long the checks beside it take.
start_load() {
  background load wrk -t1 -c$connections -d1000s "http://$server/"
  load_start=$SECONDS
  say "$connections connections ask"
}

# One of each kind that a panel shows and that the load alone does not bring about: a failed probe, a refused request,
# a response that its client leaves, an injected fault. The log has to tell them as the dashboard's queries ask for them.
provoke() {
  local log=$work/server.out
  curl -so "$work/answer" -X POST "http://$server/healthz"
  curl -so "$work/answer" -H 'Host:' "http://$server/"
  curl -so "$work/answer" --limit-rate 1k -m 1 "http://$server/bytes/64MiB" || true
  curl -so "$work/answer" "http://$server/?echo-fault=truncate" || true
  wait_until "a failed probe in the access log, at level warn" logged "$log" '.route == "healthz" and .status == 405 and .level == "warn"'
  wait_until "a refusal in the access log, with its reason" logged "$log" '.status == 400 and .reason != "" and .reason != null'
  wait_until "a fault in the access log" logged "$log" '.fault != "" and .fault != null'
  wait_until "a plain echo in the access log" logged "$log" '.route == "echo" and .status == 200 and (.reason // "") == ""'
  cat "$work/server.err" "$work/logged" > "$work/log.json"
}

logged() { # LOG CONDITION: keeps the first line for which it holds
  jq -c "select($2)" "$1" > "$work/found" 2> /dev/null || true # the last line may not be written to its end yet
  [ -s "$work/found" ] && head -1 "$work/found" >> "$work/logged"
}

await_load() { # until there has been enough of it for every window that is asked for
  local left=$((load_start + load_seconds - SECONDS))
  [ $left -le 0 ] || sleep $left
}

# The shipped configuration, its discovery replaced by the one address, every second instead of every 15.
start_prometheus() { # NAME: sets ${NAME}_url
  local port dir=$work/$1; port=$(free_port)
  mkdir -p "$dir" && cp k8s/monitoring/prometheus/rules.yml "$dir/"
  sed '/^scrape_configs:/,$d; s/_interval: 15s/_interval: 1s/; s/_timeout: 10s/_timeout: 1s/' \
    k8s/monitoring/prometheus/prometheus.yml > "$dir/prometheus.yml"
  cat >> "$dir/prometheus.yml" <<C
scrape_configs:
  - job_name: httpserver
    static_configs:
      - targets: ["$server"]
        labels: {namespace: httpserver, instance: httpserver-0, pod: httpserver-0, node: here}
C
  background "prometheus-$1" "$tools/$1/usr/bin/prometheus" --config.file="$dir/prometheus.yml" \
    --storage.tsdb.path="$dir/data" --web.listen-address="127.0.0.1:$port"
  urls[$1]=http://127.0.0.1:$port
  wait_until "Prometheus ($1) is ready" curl -sfo /dev/null "${urls[$1]}/-/ready"
  say "$("$tools/$1/usr/bin/prometheus" --version 2>&1 | grep -om1 'prometheus, version [^ ]*') scrapes it"
}

# ---- checks that need no server

check_files() {
  tests/monitoring/rules.py || die "the rules are out of step"
  tests/monitoring/dashboard.py || die "the dashboard's lint"
  tests/monitoring/dashboard.py --prove || die "the dashboard's lint does not find what it is there for"
  say "rules in step, dashboard linted"
  "$promtool" check rules k8s/monitoring/prometheus/rules.yml > "$work/out" 2>&1 || die "$(cat "$work/out")"
  for p in "${proms[@]}"; do
    "$tools/$p/usr/bin/promtool" test rules tests/monitoring/rules_test.yml > "$work/out" 2>&1 || die "test rules ($p): $(cat "$work/out")"
  done
  say "promtool: rules are well-formed and $(grep -c 'alertname:' tests/monitoring/rules_test.yml) cases of alerts hold"
  if "$promtool" check config k8s/monitoring/prometheus/prometheus.yml > "$work/out" 2>&1; then
    say "promtool: prometheus.yml is valid, discovery included"
  elif grep -q kubernetes_sd_configs "$work/out"; then
    not_run "promtool check config" "this promtool was built without Kubernetes discovery"
  else
    die "$(cat "$work/out")"
  fi
}

get_validators() {
  [ ! -x "$tools/python/bin/checkov" ] || return 0
  say "installing kubernetes-validate and checkov into target/monitoring"
  python3 -c 'import ensurepip' 2> /dev/null || need ensurepip=python3-venv
  python3 -m venv "$tools/python" && "$tools/python/bin/pip" -q install "kubernetes-validate==$validate.*" checkov
}

check_manifests() {
  command -v kubectl > /dev/null || { not_run "rendering and validating the manifests" "kubectl is not installed"; return; }
  local entry version rendered=$work/rendered; mkdir -p "$rendered"
  kubectl kustomize k8s/monitoring > "$rendered/monitoring.yaml"
  kubectl kustomize k8s/monitoring/operator > "$work/operator.yaml"
  kubectl kustomize k8s > "$work/server.yaml"
  cp -r k8s "$work/k8s" && sed -i 's/^  # - persistent.*/  - persistent/' "$work/k8s/monitoring/kustomization.yaml"
  kubectl kustomize "$work/k8s/monitoring" > "$rendered/persistent.yaml"
  grep -q 'claimName: prometheus' "$rendered/persistent.yaml" || die "the component persistent changes nothing"
  get_validators || { not_run "validating the manifests" "kubernetes-validate and checkov cannot be installed"; return; }
  for entry in "$rendered"/*; do
    for version in 1.30 $validate; do "$tools/python/bin/kubernetes-validate" --strict --quiet -k "$version" "$entry"; done
  done
  "$tools/python/bin/python" tests/monitoring/agree.py "$rendered/monitoring.yaml" "$work/operator.yaml" "$work/server.yaml" ||
    die "the manifests disagree"
  "$tools/python/bin/python" tests/manifests_settled.py "$rendered"/*.yaml "$work/operator.yaml" || die "a second apply would change something"
  "$tools/python/bin/checkov" -d "$rendered" --framework kubernetes --compact --quiet --skip-download || die "checkov"
  say "manifests render, agree with each other, fit Kubernetes 1.30 and $validate, and pass checkov (what is skipped says why where it stands)"
}

# What only npm has: Grafana's grammar of LogQL, Grafana's types, the operator's types.
check_with_npm() {
  local what="LogQL's grammar, the types of Grafana and of the operator"
  command -v npm > /dev/null || { not_run "$what" "npm is not installed"; return; }
  local grafana; grafana=$(grep -om1 'grafana/grafana:[0-9.]*' k8s/monitoring/grafana/grafana.yaml | cut -d: -f2)
  [ -d "$tools/npm/$grafana" ] || {
    say "getting $what from npm"
    mkdir -p "$tools/npm" && npm --prefix "$tools/npm" install --silent --no-audit --no-fund \
      "$loki_grammar" "@grafana/schema@$grafana" typescript@5 @kubernetes-models/prometheus-operator@6 yaml@2 && mkdir "$tools/npm/$grafana"
  } || { not_run "$what" "npm has them not"; return; }
  tests/monitoring/dashboard.py --list loki | node tests/monitoring/logql.mjs "$tools/npm" "$work/log.json" || die "LogQL"
  node tests/monitoring/schema.mjs "$tools/npm" || die "the dashboard does not fit Grafana $grafana"
  say "the dashboard fits the types of Grafana $grafana"
  [ -f "$work/operator.yaml" ] || return 0 # no kubectl to render it, as was said
  node tests/monitoring/operator.mjs "$tools/npm" "$work/operator.yaml" || die "the operator's objects"
}

# ---- checks of the run

check_run() {
  curl -sf "http://$server/metrics" > "$work/metrics"
  "$promtool" check metrics < "$work/metrics" || die "promtool check metrics"
  say "promtool: the $(grep -vc '^#' "$work/metrics") series are well-formed"
  for p in "${proms[@]}"; do
    say "every query, asked of the Prometheus of ${p}:"
    (cd tests/monitoring && ./queries.py "${urls[$p]}") || die "queries ($p)"
  done
}

picture() {
  tests/monitoring/histogram.py "http://$server/metrics" > "$work/latency.svg"
  [ "${1:-}" != keep ] || cp "$work/latency.svg" k8s/monitoring/latency.svg
  python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$work/latency.svg"
}

declare -A urls
case ${1:-check} in
  picture)
    get_server_and_load
    start_server
    start_load
    await_load
    picture keep
    say "drew k8s/monitoring/latency.svg"
    exit
    ;;
  check) ;;
  *) die "unknown word \"$1\": expected check or picture" ;;
esac
get_prometheus
get_server_and_load
start_server
for p in "${proms[@]}"; do start_prometheus "$p"; done
start_load
check_files
check_manifests
provoke
check_with_npm
tests/monitoring/discovery.sh "$tools/newest/usr/bin/prometheus" "$server" || die "discovery"
await_load
check_run
picture
not_run "Loki, Alloy and Grafana themselves" "no package registry has them; apply k8s/monitoring to a cluster to see them"
say "all checks passed in $SECONDS s"
