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

/// Runs "docker-credential-`helper` `command`" with `input`.
ProgramResult call(const std::string& helper, const std::string& command,
                   const std::string& input) {
  const auto program = "docker-credential-" + helper;
  if (helper.find('/') != std::string::npos) fail(program, "is not a name but a path");
  return run_program({program, command}, input, kTimeout);
}

/// Never its output where that may hold a secret.
[[noreturn]] void fail_as(const std::string& helper, const std::string& reason) {
  fail("docker-credential-" + helper, reason.empty() ? "fails" : "fails: " + printable(reason));
}

/// For commands that answer nothing secret. Helpers say what went wrong on either output.
const std::string& reason_of(const ProgramResult& result) {
  return result.errors.empty() ? result.output : result.errors;
}

}  // namespace

std::optional<Credential> ask_credential_helper(const std::string& helper,
                                                const std::string& server) {
  if (server.size() > kMaxServer) return std::nullopt;
  const auto result = call(helper, "get", server);
  if (result.succeeded()) return parse("docker-credential-" + helper, result.output);
  if (result.output.find(kUnknown) != std::string::npos) return std::nullopt;
  fail_as(helper, result.errors);
}

void store_in_credential_helper(const std::string& helper, const std::string& server,
                                const Credential& credential) {
  const nlohmann::ordered_json entry = {
      {"ServerURL", server}, {"Username", credential.user}, {"Secret", credential.password}};
  std::string text;
  try {
    text = entry.dump();
  } catch (const nlohmann::json::exception&) {
    fail("docker-credential-" + helper, "takes only user names and passwords in UTF-8");
  }
  const auto result = call(helper, "store", text);
  if (result.succeeded()) return;
  const auto& reason = reason_of(result);
  auto secret = nlohmann::json(credential.password).dump();
  secret = secret.substr(1, secret.size() - 2);  // as it was sent, without the quotes
  const bool tells = reason.find(credential.password) != std::string::npos ||
                     reason.find(secret) != std::string::npos;
  fail_as(helper, tells ? std::string() : reason);
}

void erase_from_credential_helper(const std::string& helper, const std::string& server) {
  const auto result = call(helper, "erase", server);
  if (!result.succeeded()) fail_as(helper, reason_of(result));
}

std::vector<std::string> list_credential_helper(const std::string& helper) {
  const auto result = call(helper, "list", {});
  if (!result.succeeded()) fail_as(helper, reason_of(result));
  const auto document = nlohmann::json::parse(result.output, nullptr, false);
  if (!document.is_object()) {
    fail("docker-credential-" + helper, "does not list servers as a JSON object");
  }
  std::vector<std::string> servers;
  for (const auto& [server, user] : document.items()) servers.push_back(server);
  return servers;
}

}  // namespace puzzlefs::fetch
