# Floor 1. Published decoders round every product and sum by itself, so no compiler may fuse them here.
set(PGG_QUANT_SOURCES
  ${CMAKE_CURRENT_LIST_DIR}/quant.c
  ${CMAKE_CURRENT_LIST_DIR}/codes.c
  ${CMAKE_CURRENT_LIST_DIR}/convert.c
  ${CMAKE_CURRENT_LIST_DIR}/encode.c)
target_sources(pgg PRIVATE ${PGG_QUANT_SOURCES})
if(CMAKE_C_COMPILER_ID MATCHES "GNU|Clang")
  set_source_files_properties(${PGG_QUANT_SOURCES} PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;-fopenmp-simd")
endif()
