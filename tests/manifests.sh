#!/bin/bash
# Checks k8s/ without a cluster: every entry renders, fits the schemas of the
# oldest and the newest Kubernetes that it is for, passes checkov, agrees with
# itself, with the program and with OpenShift's constraints (manifests.py), and is
# what the API server would keep, so that a second apply changes nothing
# (manifests_settled.py).
#
#   tests/manifests.sh            check
#   tests/manifests.sh render     write k8s/httpserver.yaml anew
#
# Needs kubectl 1.30 or newer (its Kustomize) and python3; node and npm for the
# Gateway and cert-manager resources, whose schemas Kubernetes does not have.
# Other tools are fetched by name into target/manifests.
set -euo pipefail
cd "$(dirname "$0")/.."

oldest=1.30 newest=1.37
tools=$PWD/target/manifests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Skipped of checkov, each with its reason:
skipped=(
  CKV_K8S_43 # digest: the image is the reader's own, built and named by them
  CKV_K8S_15 # pull always: the tag is a version that never moves, and a pod must start without the registry
  CKV_K8S_40 # high user id: OpenShift refuses a pod that names one; the image's own is 65532
  CKV_K8S_35 # secret as a file: a file cannot be optional to the server, a variable can, and no token stands in git
)

say() { echo "manifests: $*"; }
not_run() { echo "NOT RUN: $1: $2"; }
die() { echo "manifests: $*" >&2; exit 1; }

rendered() {
  echo "# kubectl apply -f k8s/httpserver.yaml: what \`kubectl kustomize k8s\` gives, in one file."
  echo "# Do not edit: change k8s/kustomization.yaml, then \`tests/manifests.sh render\`."
  kubectl kustomize k8s
}

# Renders k8s with the components in $2..., as if they stood in its own list.
with_components() {
  local name=$1 component; shift
  cp -r k8s "$work/k8s"
  for component; do # one that is on by itself would be added twice
    sed -i "\|^  - components/$component |d" "$work/k8s/kustomization.yaml"
  done
  printf '  - components/%s\n' "$@" | sed -i '/^components:/r /dev/stdin' "$work/k8s/kustomization.yaml"
  kubectl kustomize "$work/k8s" > "$work/$name.yaml" || die "k8s with $* does not render"
  rm -r "$work/k8s"
  say "k8s with $* renders"
}

render_all() {
  kubectl kustomize k8s > "$work/server.yaml"
  local component
  for component in k8s/components/*/; do
    with_components "$(basename "$component")" "$(basename "$component")"
  done
  # As people combine them.
  with_components public ingress cert-manager autoscaler-cpu strict-network bounded-sockets
  with_components public-gateway gateway cert-manager autoscaler-in-flight local-traffic
}

check_rendered_file() {
  rendered | diff -u k8s/httpserver.yaml - || die "k8s/httpserver.yaml is not what k8s renders to: run tests/manifests.sh render"
  say "k8s/httpserver.yaml is what k8s renders to"
}

install_python_tools() {
  [ -x "$tools/bin/checkov" ] && return
  say "installing kubernetes-validate and checkov into target/manifests"
  python3 -m venv "$tools"
  "$tools/bin/pip" -q install uv # installs checkov's hundred packages in 20 s, where pip takes minutes
  "$tools/bin/uv" pip install -q --python "$tools/bin/python" "kubernetes-validate==$newest.*" checkov pyyaml
}

check_schemas() {
  local file version
  for file in "$work"/*.yaml; do
    for version in $oldest $newest; do
      "$tools/bin/python" tests/manifests.py builtin "$file" |
        "$tools/bin/kubernetes-validate" --strict --quiet -k "$version" -
    done
  done
  say "all fit the schemas of Kubernetes $oldest and $newest"
}

check_foreign_schemas() {
  local what="the schemas of Gateway API and cert-manager"
  command -v npm > /dev/null || { not_run "$what" "npm is not installed"; return; }
  mkdir -p "$tools/npm"
  "$tools/bin/python" tests/manifests.py typescript "$work"/{ingress,gateway,cert-manager}.yaml > "$tools/npm/check.mts"
  ( cd "$tools/npm"
    [ -d node_modules/typescript ] ||
      npm install --silent --no-audit --no-fund typescript@5 @kubernetes-models/gateway-api@2 @kubernetes-models/cert-manager@6
    node node_modules/typescript/bin/tsc --strict --skipLibCheck --target es2022 --module nodenext check.mts
    node check.mjs )
  say "$(grep -c validate "$tools/npm/check.mts") objects fit $what"
}

check_checkov() {
  local ids; ids=$(IFS=,; echo "${skipped[*]}")
  "$tools/bin/checkov" -d "$work" --framework kubernetes --compact --quiet --skip-download --skip-check "$ids" ||
    die "checkov found what stands above"
  say "checkov is content (skipped, with reasons in this script: $ids)"
}

command -v kubectl > /dev/null || { not_run "all checks of the manifests" "kubectl is not installed"; exit 0; }
case ${1:-check} in
  render) rendered > "$work/new" && cp "$work/new" k8s/httpserver.yaml; say "wrote k8s/httpserver.yaml"; exit ;;
  check) ;;
  *) die "unknown word \"$1\": expected check or render" ;;
esac
install_python_tools
render_all
check_rendered_file
"$tools/bin/python" tests/manifests.py agree . "$work"/*.yaml
"$tools/bin/python" tests/manifests_settled.py "$work"/*.yaml
check_schemas
check_foreign_schemas
check_checkov
