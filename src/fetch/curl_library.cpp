#include "fetch/curl_library.h"

#include <dlfcn.h>

#include <cerrno>
#include <string>

#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

// The name of its binary interface, which has been the same since libcurl 7.16 (2006).
constexpr const char* kLibrary = "libcurl.so.4";

[[noreturn]] void fail(const std::string& what, const std::string& todo) {
  const char* const reason = ::dlerror();
  throw Error(ENOENT, what + ", without which nothing can be asked over HTTP (" +
                          (reason == nullptr ? kLibrary : reason) + "). " + todo);
}

CurlLibrary load() {
  void* const library = ::dlopen(kLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) fail("Cannot load libcurl", "Install Debian's package libcurl4.");
  const auto find = [library]<typename Function>(const char* name, Function& function) {
    void* const found = ::dlsym(library, name);
    if (found == nullptr) fail("libcurl lacks a function", "Install its release 7.88 or later.");
    function = reinterpret_cast<Function>(found);
  };

  CurlLibrary curl{};
  find("curl_global_init", curl.global_init);
  find("curl_free", curl.free);
  find("curl_getdate", curl.getdate);
  find("curl_easy_init", curl.easy_init);
  find("curl_easy_reset", curl.easy_reset);
  find("curl_easy_cleanup", curl.easy_cleanup);
  find("curl_easy_setopt", curl.easy_setopt);
  find("curl_easy_getinfo", curl.easy_getinfo);
  find("curl_easy_pause", curl.easy_pause);
  find("curl_easy_strerror", curl.easy_strerror);
  find("curl_easy_escape", curl.easy_escape);
  find("curl_easy_unescape", curl.easy_unescape);
  find("curl_multi_init", curl.multi_init);
  find("curl_multi_cleanup", curl.multi_cleanup);
  find("curl_multi_setopt", curl.multi_setopt);
  find("curl_multi_add_handle", curl.multi_add_handle);
  find("curl_multi_remove_handle", curl.multi_remove_handle);
  find("curl_multi_socket_action", curl.multi_socket_action);
  find("curl_multi_info_read", curl.multi_info_read);
  find("curl_slist_append", curl.slist_append);
  find("curl_slist_free_all", curl.slist_free_all);
  find("curl_url", curl.url);
  find("curl_url_cleanup", curl.url_cleanup);
  find("curl_url_set", curl.url_set);
  find("curl_url_get", curl.url_get);
  find("curl_url_strerror", curl.url_strerror);
  if (curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    throw Error(ENOMEM, "Cannot initialise libcurl.");
  return curl;
}

}  // namespace

const CurlLibrary& curl() {
  static const CurlLibrary library = load();
  return library;
}

}  // namespace puzzlefs::fetch
