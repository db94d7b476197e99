#!/bin/sh
# Builds the core for 64-bit ARM and runs the native checks under qemu: those of the kernels on armv8-a alone (cortex-a53)
# and with sdot (cortex-a76), all others on a CPU with everything (max), whose kernels are the latter's. The scalar level
# (portable C, what the kernels are compared with) is checked natively. Exits 77 with a reason where the cross compiler or
# qemu is missing.
#   tests/native/neon/run.sh [ctest arguments, e.g. -R rows]
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
build=${PGG_NEON_BUILD:-$root/build/aarch64}
for tool in aarch64-linux-gnu-gcc qemu-aarch64 cmake ctest; do
  if ! command -v "$tool" >/dev/null; then
    echo "skipped: $tool is not installed (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user cmake)"
    exit 77
  fi
done
cmake -S "$root/native" -B "$build" -DCMAKE_TOOLCHAIN_FILE="$root/native/cmake/aarch64.cmake" -DPGG_DEV=ON
cmake --build "$build" --parallel "${PGG_JOBS:-2}"
for cpu in ${PGG_NEON_CPUS:-cortex-a53 cortex-a76 max}; do
  echo "== $cpu"
  # a level that cannot run is skipped; neon must not be among them
  QEMU_CPU=$cpu qemu-aarch64 -L "${PGG_AARCH64_ROOT:-/usr/aarch64-linux-gnu}" "$build/tests/check_rows" --init |
    grep "isa 'neon'"
  case $cpu in max) which="-E _(scalar|neon)" ;; *) which="-R _neon" ;; esac
  # shellcheck disable=SC2086
  QEMU_CPU=$cpu ctest --test-dir "$build" --output-on-failure --timeout 1200 -j "${PGG_JOBS:-2}" $which "$@"
done
