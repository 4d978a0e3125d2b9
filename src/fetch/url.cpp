// HTTP URLs, parsed and resolved by libcurl (RFC 3986).
#include "fetch/url.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <cctype>
#include <cerrno>
#include <memory>
#include <new>

#include "fetch/curl_library.h"
#include "fetch/printable.h"
#include "format/error.h"
#include "format/image_name.h"

namespace puzzlefs::fetch {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl().url_cleanup(url); }
};
using UrlHandle = std::unique_ptr<CURLU, FreeUrl>;

struct FreeText {
  void operator()(char* text) const { curl().free(text); }
};

void set_url(CURLU* handle, const std::string& text) {
  const CURLUcode code =
      curl().url_set(handle, CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER | CURLU_URLENCODE);
  if (code != CURLUE_OK) {
    throw Error(EPROTO, "\"" + printable_url(text) +
                            "\" is not a URL that can be used: " + curl().url_strerror(code) + ".");
  }
}

std::string part(CURLU* handle, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl().url_get(handle, which, &text, flags) != CURLUE_OK) return {};
  const std::unique_ptr<char, FreeText> owner(text);
  return text;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

UrlHandle make_handle() {
  UrlHandle handle(curl().url());
  if (!handle) throw std::bad_alloc();
  return handle;
}

bool is_private(const boost::asio::ip::address_v4& address) {
  const auto value = address.to_uint();
  const auto in = [value](unsigned network, unsigned bits) {
    return (value >> (32 - bits)) == (network >> (32 - bits));
  };
  return in(0x00000000, 8) || in(0x0a000000, 8) || in(0x64400000, 10) || in(0x7f000000, 8) ||
         in(0xa9fe0000, 16) || in(0xac100000, 12) || in(0xc0a80000, 16);
}

}  // namespace

Url Url::parse(const std::string& text) {
  const auto handle = make_handle();
  set_url(handle.get(), text);
  Url url;
  url.scheme_ = lower(part(handle.get(), CURLUPART_SCHEME));
  if (url.scheme_ != "http" && url.scheme_ != "https") {
    throw Error(EPROTO, "\"" + printable_url(text) + "\" is not an HTTP URL.");
  }
  url.host_ = lower(part(handle.get(), CURLUPART_HOST));
  url.port_ = part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.text_ = part(handle.get(), CURLUPART_URL);
  return url;
}

Url Url::resolve(const std::string& reference) const {
  const auto handle = make_handle();
  set_url(handle.get(), text_);
  set_url(handle.get(), reference);
  return parse(part(handle.get(), CURLUPART_URL));
}

Url Url::with_parameter(std::string_view name, std::string_view value) const {
  const auto handle = make_handle();
  set_url(handle.get(), text_);
  const std::string parameter = std::string(name) + "=" + std::string(value);
  if (curl().url_set(handle.get(), CURLUPART_QUERY, parameter.c_str(), CURLU_APPENDQUERY) !=
      CURLUE_OK) {
    throw std::bad_alloc();
  }
  return parse(part(handle.get(), CURLUPART_URL));
}

std::string Url::server() const {
  return port_ == (is_https() ? "443" : "80") ? host_ : host_ + ":" + port_;
}

bool Url::same_origin(const Url& other) const {
  return scheme_ == other.scheme_ && host_ == other.host_ && port_ == other.port_;
}

std::string percent_encode(std::string_view text) {
  const std::unique_ptr<char, FreeText> escaped(
      curl().easy_escape(nullptr, text.data(), static_cast<int>(text.size())));
  if (!escaped) throw std::bad_alloc();
  return escaped.get();
}

std::string percent_decode(std::string_view text) {
  int size = 0;
  const std::unique_ptr<char, FreeText> plain(
      curl().easy_unescape(nullptr, text.data(), static_cast<int>(text.size()), &size));
  if (!plain) throw std::bad_alloc();
  return {plain.get(), static_cast<std::size_t>(size)};
}

bool is_private_host(std::string_view host) {
  if (format::is_loopback(host)) return true;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  boost::system::error_code error;
  const auto address =
      boost::asio::ip::make_address(std::string(host.substr(0, host.find('%'))), error);
  if (error) return false;
  if (address.is_v4()) return is_private(address.to_v4());
  const auto v6 = address.to_v6();
  if (v6.is_v4_mapped()) return is_private(make_address_v4(boost::asio::ip::v4_mapped, v6));
  return v6.is_loopback() || v6.is_unspecified() || v6.is_link_local() ||
         (v6.to_bytes()[0] & 0xfe) == 0xfc;
}

}  // namespace puzzlefs::fetch
