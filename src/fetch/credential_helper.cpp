#include "fetch/credential_helper.h"

#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "fetch/printable.h"
#include "fetch/program.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

constexpr std::chrono::seconds kTimeout{30};
constexpr std::size_t kMaxServer = 1024;  // fits a pipe
/// How all helpers say that they know no such server, on standard output.
constexpr std::string_view kUnknown = "credentials not found";
/// In place of a user: the secret is an identity token.
constexpr std::string_view kTokenUser = "<token>";

[[noreturn]] void fail(const std::string& program, const std::string& why) {
  throw Error(EACCES, fmt::format("The credential helper {} {}.", program, why));
}

Credential parse(const std::string& program, const std::string& output) {
  const auto document = nlohmann::json::parse(output, nullptr, false);
  const auto member = [&](const char* name) {
    const auto found = document.find(name);
    if (found == document.end() || !found->is_string()) {
      fail(program, fmt::format("answers without a \"{}\"", name));
    }
    return found->get<std::string>();
  };
  if (!document.is_object()) fail(program, "does not answer with a JSON object");
  auto user = member("Username");
  auto secret = member("Secret");
  if (user == kTokenUser) return {.identity_token = std::move(secret)};
  return {.user = std::move(user), .password = std::move(secret)};
}

}  // namespace

std::optional<Credential> ask_credential_helper(const std::string& helper,
                                                const std::string& server) {
  const auto program = "docker-credential-" + helper;
  if (helper.find('/') != std::string::npos) fail(program, "is not a name but a path");
  if (server.size() > kMaxServer) return std::nullopt;
  const auto result = run_program({program, "get"}, server, kTimeout);
  if (result.succeeded()) return parse(program, result.output);
  if (result.output.find(kUnknown) != std::string::npos) return std::nullopt;
  // Never its output, which may hold a secret.
  fail(program, result.errors.empty() ? "fails" : "fails: " + printable(result.errors));
}

}  // namespace puzzlefs::fetch
