# SPDX-License-Identifier: MIT
#
# A broker and a client library of releases to come, for the tests of upgrades (tests/upgrade): what differs is compiled
# once more with HOLDFAST_NEXT, which proto/control/versions.hpp explains; everything else is this release's.
# `Tidy.next_sources` compares these lists with what the sources say.
set(next_daemon
    ${PROJECT_SOURCE_DIR}/daemon/broker/hello.cpp
    ${PROJECT_SOURCE_DIR}/daemon/broker/state.cpp
    ${PROJECT_SOURCE_DIR}/daemon/broker/versions.cpp
    ${PROJECT_SOURCE_DIR}/daemon/registry.cpp
    ${PROJECT_SOURCE_DIR}/daemon/reporter.cpp)
set(next_client ${PROJECT_SOURCE_DIR}/client/src/connection.cpp)

include(${PROJECT_SOURCE_DIR}/cmake/packages.cmake)

# These stand before the archives that have them, too: the linker takes these, if each is an object by itself there.
set_source_files_properties(${next_daemon} TARGET_DIRECTORY holdfastd_broker holdfastd_shell
                            PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
add_library(holdfastd_next_parts OBJECT ${next_daemon})
target_compile_definitions(holdfastd_next_parts PUBLIC HOLDFAST_NEXT=1)
target_link_libraries(holdfastd_next_parts PUBLIC holdfastd_shell PRIVATE SQLite::SQLite3)

add_executable(holdfastd_next $<TARGET_OBJECTS:holdfastd> $<TARGET_OBJECTS:holdfastd_next_parts>)
# What comes after that differs from it in its numbers alone.
add_executable(holdfastd_after_next daemon/broker/versions.cpp $<TARGET_OBJECTS:holdfastd>
                                    $<FILTER:$<TARGET_OBJECTS:holdfastd_next_parts>,EXCLUDE,/versions\\.cpp>)
target_compile_definitions(holdfastd_after_next PRIVATE HOLDFAST_NEXT=2)
foreach(daemon IN ITEMS holdfastd_next holdfastd_after_next)
  target_link_libraries(${daemon} PRIVATE holdfastd_shell spdlog::spdlog CLI11::CLI11)
  set_target_properties(${daemon} PROPERTIES LINKER_LANGUAGE CXX RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/next)
endforeach()

# Of the same name as this release's, in a directory of its own: programs that were linked against that one run with it.
add_library(holdfast_next SHARED ${next_client})
target_sources(holdfast_next PRIVATE $<FILTER:$<TARGET_OBJECTS:holdfast>,EXCLUDE,/connection\\.cpp>)
target_compile_definitions(holdfast_next PRIVATE HOLDFAST_BUILDING HOLDFAST_NEXT=1)
target_include_directories(holdfast_next PRIVATE $<TARGET_PROPERTY:holdfast,INCLUDE_DIRECTORIES>)
target_link_libraries(holdfast_next PRIVATE holdfast_shm holdfast_control nlohmann_json::nlohmann_json PkgConfig::XXHASH
                                            Threads::Threads)
target_link_options(holdfast_next PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/client/src/holdfast.map)
set_target_properties(holdfast_next PROPERTIES OUTPUT_NAME holdfast SOVERSION 1
                                               LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/next)
