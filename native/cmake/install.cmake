# What a C project gets: headers, the static library, a CMake config and a pkg-config file, all relocatable.
# PGG_INSTALL_PREFIX puts them below a folder (the Python package sets it).
include(CMakePackageConfigHelpers)
set(PGG_INSTALL_PREFIX "" CACHE STRING "folder below the install prefix, with a slash at its end")
set(PGG_LIB_DIR "${PGG_INSTALL_PREFIX}lib")
set(PGG_INCLUDE_DIR "${PGG_INSTALL_PREFIX}include")

install(FILES include/pgg.h include/activations.def quant/quant_types.def core/ops.def DESTINATION ${PGG_INCLUDE_DIR})
install(TARGETS pgg EXPORT pggTargets ARCHIVE DESTINATION ${PGG_LIB_DIR} INCLUDES DESTINATION ${PGG_INCLUDE_DIR})
install(EXPORT pggTargets NAMESPACE pgg:: DESTINATION ${PGG_LIB_DIR}/cmake/pgg)
configure_package_config_file(cmake/pggConfig.cmake.in pggConfig.cmake INSTALL_DESTINATION ${PGG_LIB_DIR}/cmake/pgg
                              NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(pggConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pggConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/pggConfigVersion.cmake
        DESTINATION ${PGG_LIB_DIR}/cmake/pgg)

# By name, not by the path on this machine, so that a wheel carries no paths of its builder.
set(PGG_PC_LIBS "")
foreach(name IN LISTS OpenMP_C_LIB_NAMES)
  string(APPEND PGG_PC_LIBS "-l${name} ")
endforeach()
if(NOT PGG_PC_LIBS MATCHES "-lpthread" AND CMAKE_USE_PTHREADS_INIT)
  string(APPEND PGG_PC_LIBS "-lpthread ")
endif()
if(NOT WIN32)
  string(APPEND PGG_PC_LIBS "-lm")
endif()
configure_file(cmake/pgg.pc.in pgg.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pgg.pc DESTINATION ${PGG_LIB_DIR}/pkgconfig)
