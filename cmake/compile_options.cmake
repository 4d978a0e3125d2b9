# puzzlefs_options: what every target of ours is compiled with.
add_library(puzzlefs_options INTERFACE)
target_compile_features(puzzlefs_options INTERFACE cxx_std_20)
target_compile_options(puzzlefs_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Wconversion
  -Wno-missing-field-initializers  # g++ has it for designated initialisers too, where it is the point
  $<$<BOOL:${PUZZLEFS_WERROR}>:-Werror>)
target_compile_definitions(puzzlefs_options INTERFACE
  _FILE_OFFSET_BITS=64 PUZZLEFS_VERSION="${PROJECT_VERSION}")
target_include_directories(puzzlefs_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(PUZZLEFS_SANITIZE)
  target_compile_options(puzzlefs_options INTERFACE
    -fsanitize=${PUZZLEFS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(puzzlefs_options INTERFACE -fsanitize=${PUZZLEFS_SANITIZE})
  if(PUZZLEFS_SANITIZE MATCHES "thread")
    # Thread sanitizer does not know atomic fences; the mutexes of Asio order the same accesses.
    target_compile_definitions(puzzlefs_options INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()

# puzzlefs_test_options: what tests are compiled with beside it. Compiling them takes much longer than
# running them, so nothing is optimised, and there are no checks of undefined behaviour, which take a third
# of that time: those are in the sources that are tested, not in functions of their headers.
add_library(puzzlefs_test_options INTERFACE)
target_compile_options(puzzlefs_test_options INTERFACE -O0 -g1)
if(PUZZLEFS_SANITIZE MATCHES "undefined")
  target_compile_options(puzzlefs_test_options INTERFACE -fno-sanitize=undefined)
endif()

# puzzlefs_precompile(TARGET [HEADER…]): compiles the headers that most files include once for all files
# of the target. Every file still includes what it uses: the preset "release" shows it, which does without
# (but for tests, for the sake of time).
function(puzzlefs_precompile target)
  target_precompile_headers(${target} PRIVATE <algorithm> <chrono> <filesystem> <functional> <memory>
    <mutex> <optional> <string> <unordered_map> <unordered_set> <vector> ${ARGN})
  get_target_property(disabled ${target} DISABLE_PRECOMPILE_HEADERS)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT disabled)
    target_compile_options(${target} PRIVATE -fpch-preprocess)  # ccache's manual, "Precompiled headers"
  endif()
endfunction()

# puzzlefs_room(NAME SOURCES … LINKS …): one room of the architecture as the library puzzlefs::NAME.
# LINKS are its public dependencies, so that an arrow which the architecture does not have does not link.
function(puzzlefs_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;LINKS" ${ARGN})
  add_library(puzzlefs_${name} STATIC ${ROOM_SOURCES})
  add_library(puzzlefs::${name} ALIAS puzzlefs_${name})
  target_link_libraries(puzzlefs_${name} PUBLIC ${ROOM_LINKS} PRIVATE puzzlefs_options)
  target_include_directories(puzzlefs_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  puzzlefs_precompile(puzzlefs_${name})
endfunction()

# puzzlefs_test(NAME SOURCES … LINKS …): the unit tests of one room as one GoogleTest program.
function(puzzlefs_test name)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${TEST_SOURCES})
  target_link_libraries(${name} PRIVATE ${TEST_LINKS} GTest::gmock_main puzzlefs_options
    puzzlefs_test_options)
  target_compile_definitions(${name} PRIVATE PUZZLEFS_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
  set_target_properties(${name} PROPERTIES DISABLE_PRECOMPILE_HEADERS OFF)
  puzzlefs_precompile(${name} <gmock/gmock.h> <gtest/gtest.h>)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES LABELS unit TIMEOUT 300)
endfunction()
