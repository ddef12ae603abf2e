#!/usr/bin/env bash
# Everything that needs a GPU, in one command, without network and within nine minutes: builds in place for the GPU of
# this machine, tests, looks for memory errors and races, measures.
#
#   bench/device.sh [--logs FOLDER] [build] [test] [sanitize] [bench]     all four steps, unless some are named
#
# A step that fails does not keep the next ones from running. Logs go to build/device, measurements to
# bench/results/cuda.csv. Exit code: 0 all passed, 1 something failed, 2 wrong arguments, 3 nothing was run for lack of
# a GPU, 4 what was run passed, but something could not be run. PYTHON is the interpreter (python3), which must have torch with CUDA, setuptools and pytest.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
SECONDS_IN_ALL=530
STEPS="build test sanitize bench"
NEEDS_KERNELS='
from disentangle_ext import _extension
assert _extension.available("cuda"), f"no CUDA kernels are compiled: {_extension.describe()}"
'

logs=build/device steps=
while [ $# -gt 0 ]; do
  case $1 in
    --logs) [ $# -gt 1 ] || { echo "device.sh: --logs needs a folder" >&2; exit 2; }; logs=$2; shift ;;
    build | test | sanitize | bench) steps="$steps $1" ;;
    *) echo "device.sh: unknown argument $1; the steps are: $STEPS" >&2; exit 2 ;;
  esac
  shift
done
steps=${steps:-$STEPS}

missing=$($PYTHON - 2>&1 <<'PROGRAM'
try:
    import torch
except ImportError as error:
    print(f"torch does not import: {error}")
else:
    if torch.version.cuda is None:
        print(f"torch {torch.__version__} is a build without CUDA")
    elif not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device")
PROGRAM
) || missing="$PYTHON does not run: $missing"
if [ -n "$missing" ]; then
  echo "device.sh: skipped, nothing was built, tested or measured: $missing"
  exit 3
fi

mkdir -p "$logs"
summary= failed=0 skipped=0 build_failed=0
note() { summary="$summary$(printf '  %-12s %s' "$1" "$2")"$'\n'; }

# run NAME SECONDS COMMAND...: the last lines of a failure are printed, all of it is in NAME.log.
run() {
  local name=$1 limit=$2 start=$SECONDS status left=$((SECONDS_IN_ALL - SECONDS))
  shift 2
  if [ $left -lt 5 ]; then
    note "$name" "NOT RUN: the time is up"
    failed=1
    return
  fi
  [ "$limit" -le $left ] || limit=$left
  echo "device.sh: $name, at most $limit s"
  timeout -k 10 "$limit" "$@" >"$logs/$name.log" 2>&1
  status=$?
  if [ $status = 0 ]; then
    note "$name" "passed in $((SECONDS - start)) s: $(grep -v '^ *$' "$logs/$name.log" | tail -n 1 | cut -c1-120)"
    return
  fi
  failed=1
  tail -n 60 "$logs/$name.log"
  if [ $status = 124 ] || [ $status = 137 ]; then
    note "$name" "FAILED: stopped after $limit s, see $logs/$name.log"
  else
    note "$name" "FAILED with exit code $status, see $logs/$name.log"
  fi
  return 1
}

build() {
  export TORCH_CUDA_ARCH_LIST=native DISENTANGLE_EXT_CUDA=1 MAX_JOBS=${MAX_JOBS:-16}
  # -lineinfo lets compute-sanitizer name lines; it changes no code.
  NVCC_APPEND_FLAGS=-lineinfo run build 240 "$PYTHON" setup.py -q build_ext --inplace || return 1
  run doctor 60 "$PYTHON" -m disentangle_ext.doctor && cat "$logs/doctor.log"
}

# Only the cases on the GPU: the others, and the memory of the process, are tested wherever this is developed.
tests() {
  local workers=()
  "$PYTHON" -c "import xdist" 2>/dev/null && workers=(-n $(($(nproc) > 12 ? 12 : $(nproc))))
  OMP_NUM_THREADS=2 run test 240 "$PYTHON" -m pytest tests/ops tests/data/test_cuda.py tests/engine/test_graph_on_cuda.py -k cuda --ignore tests/ops/test_memory.py -q --maxfail=30 --durations=8 \
    -p no:cacheprovider "${workers[@]}"
}

sanitize() {
  if ! command -v compute-sanitizer >/dev/null; then
    note sanitize "NOT RUN: compute-sanitizer is not installed"
    skipped=1
    return
  fi
  local tool
  for tool in memcheck racecheck synccheck; do
    # Without the caching allocator every tensor has bounds of its own.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 run $tool 80 compute-sanitizer --tool $tool --error-exitcode 9 \
      --print-limit 20 "$PYTHON" -m bench.sanitize
  done
}

measure() {
  run bench 200 "$PYTHON" -m bench --device cuda
  [ ! -f bench/results/cuda.csv ] || cp bench/results/cuda.csv "$logs/cuda.csv"
}

for step in $steps; do
  if [ $step = build ]; then
    build || build_failed=1
  elif [ $build_failed = 1 ]; then
    note $step "NOT RUN: the build failed"
  elif ! problem=$("$PYTHON" -c "$NEEDS_KERNELS" 2>&1); then  # without kernels every test would be skipped
    note $step "NOT RUN: $(tail -n 1 <<<"$problem")"
    failed=1
  else
    case $step in
      test) tests ;;
      sanitize) sanitize ;;
      bench) measure ;;
    esac
  fi
done

echo
echo "device.sh: $($PYTHON -c 'import torch; print(torch.cuda.get_device_name(), "with torch", torch.__version__)')"
printf '%s' "$summary"
[ $failed = 1 ] && exit 1
[ $skipped = 1 ] && exit 4
exit 0
