#include "puzzlefs/image_options.h"

#include <charconv>
#include <chrono>
#include <string_view>
#include <variant>

#include "format/image_name.h"

namespace puzzlefs::tools {

namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kDefaultDeadline{60};

fs::path absolute_or_empty(const fs::path& path) {
  return path.empty() ? path : fs::absolute(path);
}

// fail[:SECONDS] or wait.
std::optional<std::chrono::seconds> parse_outage_policy(const std::string& text) {
  if (text == "wait") return std::nullopt;
  if (text == "fail") return kDefaultDeadline;
  constexpr std::string_view kPrefix = "fail:";
  int seconds = -1;
  if (text.starts_with(kPrefix)) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + kPrefix.size(), end, seconds);
    if (parsed.ec != std::errc() || parsed.ptr != end) seconds = -1;
  }
  if (seconds < 0)
    throw UsageError("--on-outage is \"" + text +
                     "\"; it can be fail, fail:SECONDS or wait, as in --on-outage=fail:60.");
  return std::chrono::seconds(seconds);
}

}  // namespace

void RegistryFlags::add_to(Arguments& arguments) {
  arguments.option("--authfile", authfile_, "FILE", "Read credentials from this file only");
  arguments.flag("--plain-http", plain_http_,
                 "Talk HTTP without TLS (loopback hosts get it by themselves)");
  arguments.option("--tls-ca", tls_ca_, "FILE",
                   "Trust the authority with this certificate (PEM) besides the system's");
}

fetch::HttpOptions RegistryFlags::http() const {
  return {.certificates = fetch::TlsCertificates(absolute_or_empty(tls_ca_))};
}

fetch::RegistryOptions RegistryFlags::options() const {
  fetch::RegistryOptions options;
  options.credentials = fetch::Credentials(absolute_or_empty(authfile_));
  options.registries = fetch::RegistriesConf::load();
  options.plain_http = plain_http_;
  return options;
}

void PlatformFlag::add_to(Arguments& arguments) {
  arguments.option("--platform", text_, "OS/ARCH[/VARIANT]",
                   "Take the image for this platform where there is an index of several");
}

std::optional<format::Platform> PlatformFlag::platform() const {
  if (text_.empty()) return std::nullopt;
  if (text_ == "all") {
    throw UsageError(
        "--platform all is for push, pull and copy; here it is one platform, as in linux/arm64.");
  }
  return format::parse_platform(text_);
}

void ImageFlags::add_to(Arguments& arguments) {
  registry_.add_to(arguments);
  platform_.add_to(arguments);
  cache_.add_directory_to(arguments);
  cache_.add_size_to(arguments);
  arguments.flag("--offline", offline_,
                 "Ask no registry: take what the cache has, and fail where it lacks something");
}

void ImageFlags::add_outage_to(Arguments& arguments) {
  arguments.option("--on-outage", on_outage_, "fail[:SECONDS]|wait",
                   "When the registry does not answer, fail after SECONDS (60) or wait for ever");
}

void ImageFlags::add_verity_to(Arguments& arguments) {
  arguments.option("-d,--digest", digest_, "HEX",
                   "Accept only the image whose manifest has this fs-verity digest");
  arguments.flag("--require-fs-verity", require_fs_verity_,
                 "Read only files that the kernel verifies; goes with --digest");
}

fetch::ImageOptions ImageFlags::options(const format::ImageName& name) const {
  fetch::ImageOptions options;
  if (std::holds_alternative<format::RegistryName>(name)) options.registry = registry_.options();
  options.http = registry_.http();
  if (const auto platform = platform_.platform()) options.platform = *platform;
  options.registry.deadline = parse_outage_policy(on_outage_);
  options.cache_directory = cache_.directory();
  options.cache_limits = cache_.limits();
  options.offline = offline_;
  if (digest_) options.manifest_verity = parse_verity_digest(*digest_);
  if (require_fs_verity_ && !options.manifest_verity) {
    throw UsageError(
        "--require-fs-verity goes with --digest, which says what the kernel must find.");
  }
  options.require_fs_verity = require_fs_verity_;
  return options;
}

format::Digest parse_verity_digest(const std::string& text) {
  try {
    return format::Digest::parse_hex(text);
  } catch (const CorruptError&) {
    throw UsageError("\"" + text +
                     "\" is no fs-verity digest; that has 64 hexadecimal digits, as \"puzzlefs "
                     "build\" prints them.");
  }
}

format::ImageName parse_source(const std::string& text) {
  auto name = format::parse_image_name(text);
  if (auto* layout = std::get_if<format::LayoutName>(&name))
    layout->path = fs::absolute(layout->path);
  return name;
}

void rethrow_explained(const Error& error, const std::string& source) {
  const auto implied = format::implied_name(source);
  const std::string sentence = error.what();
  const bool is_usage = dynamic_cast<const UsageError*>(&error) != nullptr;
  if (is_usage || !implied || sentence.find("docker.io") == std::string::npos) throw;
  throw Error(error.code(), sentence + " \"" + source + "\" means " + *implied +
                                ", as there is no such layout here.");
}

}  // namespace puzzlefs::tools
