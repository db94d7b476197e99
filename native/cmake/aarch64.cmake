# Cross-compiles for 64-bit ARM Linux and runs the result under qemu:
#   cmake -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=native/cmake/aarch64.cmake native
# Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user. tests/native/neon/run.sh does all of it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(PGG_AARCH64_ROOT /usr/aarch64-linux-gnu CACHE PATH "where the loader and libraries of the target are")
# QEMU_CPU in the environment chooses the CPU: cortex-a53, cortex-a76, max ...
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64;-L;${PGG_AARCH64_ROOT})
set(CMAKE_FIND_ROOT_PATH ${PGG_AARCH64_ROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
