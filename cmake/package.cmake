# SPDX-License-Identifier: MIT
#
# What is installed beside the targets, which each directory installs itself: the CMake package
# (find_package(holdfast) gives holdfast::holdfast), holdfast.pc, the systemd units, the documents.
include(CMakePackageConfigHelpers)

if(TARGET holdfast)
  set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/holdfast)
  install(EXPORT holdfast-targets NAMESPACE holdfast:: DESTINATION ${package_dir} COMPONENT development)
  configure_package_config_file(cmake/holdfast-config.cmake.in ${PROJECT_BINARY_DIR}/holdfast-config.cmake
                                INSTALL_DESTINATION ${package_dir})
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/holdfast-config-version.cmake COMPATIBILITY SameMajorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/holdfast-config.cmake ${PROJECT_BINARY_DIR}/holdfast-config-version.cmake
          DESTINATION ${package_dir} COMPONENT development)
  # Relative to the file's own place, so that an installed tree may be moved.
  file(RELATIVE_PATH HOLDFAST_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" HOLDFAST_PC_TO_PREFIX "${HOLDFAST_PC_TO_PREFIX}")
  configure_file(cmake/holdfast.pc.in ${PROJECT_BINARY_DIR}/holdfast.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/holdfast.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endif()

if(HOLDFAST_BUILD_DAEMON)
  # A unit names its program by its full path, which only the installation knows.
  install(CODE "
    set(HOLDFASTD \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/holdfastd\")
    configure_file(\"${PROJECT_SOURCE_DIR}/systemd/holdfastd.service.in\"
                   \"${PROJECT_BINARY_DIR}/holdfastd.service\" @ONLY)" COMPONENT runtime)
  install(FILES ${PROJECT_BINARY_DIR}/holdfastd.service systemd/holdfastd.socket
          DESTINATION lib/systemd/system COMPONENT runtime)
  install(FILES systemd/holdfast.sysusers RENAME holdfast.conf DESTINATION lib/sysusers.d COMPONENT runtime)
endif()

install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development OPTIONAL)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development FILES_MATCHING PATTERN "*.md")
