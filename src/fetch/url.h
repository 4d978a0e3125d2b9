// HTTP URLs, parsed and resolved by libcurl (RFC 3986).
#pragma once

#include <string>
#include <string_view>

namespace puzzlefs::fetch {

/// An absolute http or https URL without a user part. A value.
class Url {
 public:
  /// Throws Error (EPROTO) for anything else.
  static Url parse(const std::string& text);

  /// `reference`, relative or absolute, as seen from here. Throws as parse().
  Url resolve(const std::string& reference) const;
  /// This URL with `name=value` added to its query; both must need no escaping.
  Url with_parameter(std::string_view name, std::string_view value) const;

  const std::string& text() const { return text_; }
  bool is_https() const { return scheme_ == "https"; }
  /// In lower case, without a port; an IPv6 address in brackets.
  const std::string& host() const { return host_; }
  /// The host, with ":port" where that is not the scheme's own.
  std::string server() const;
  /// Whether what is secret between us and that server may go to this one: scheme, host and port.
  bool same_origin(const Url& other) const;

  bool operator==(const Url&) const = default;

 private:
  std::string text_;
  std::string scheme_;
  std::string host_;
  std::string port_;
};

/// `text` escaped for the value of a query parameter.
std::string percent_encode(std::string_view text);
/// What percent_encode() was given.
std::string percent_decode(std::string_view text);

/// True for an address of this machine or of a network that is not the Internet (RFC 1918, RFC
/// 4193, loopback, link-local), and for "localhost". A host name is not looked up.
bool is_private_host(std::string_view host);

}  // namespace puzzlefs::fetch
