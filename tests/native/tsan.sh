#!/usr/bin/env bash
# The native tests that share memory between threads under ThreadSanitizer: tests/native/tsan.sh [BUILD_DIR]
# Needs clang with libomp and its archer tool (Debian: clang libomp-dev); gcc's OpenMP is not known to the sanitizer.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/tsan}
archer=$(dirname "$(readlink -f "$(command -v clang)")")/../lib/libarcher.so
test -e "$archer" || { echo "no archer beside clang: $archer"; exit 1; }
cmake -G Ninja -S native -B "$build" -DCMAKE_C_COMPILER=clang -DPGG_SANITIZE=thread >/dev/null
cmake --build "$build" -- --quiet
# libomp keeps its threads to the end, which is no leak; addresses must not be randomised more than clang 14 expects.
export OMP_TOOL_LIBRARIES=$archer TSAN_OPTIONS="ignore_noninstrumented_modules=1 report_thread_leaks=0 exitcode=66"
for isa in avx2 avx512; do
  for name in threads turns core batch barriers sample state recurrent; do
    echo "== $name, $isa"
    PYGGML_ISA=$isa setarch -R "$build/tests/test_$name"
  done
done
