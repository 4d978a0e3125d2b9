// puzzlefs login and puzzlefs logout
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "fetch/credential_store.h"
#include "fetch/http_client.h"
#include "fetch/login_check.h"
#include "fetch/login_target.h"
#include "fetch/runtime.h"
#include "format/error.h"
#include "puzzlefs/arguments.h"
#include "puzzlefs/image_options.h"
#include "puzzlefs/prompt.h"
#include "puzzlefs/subcommands.h"

namespace puzzlefs::tools {

namespace {

constexpr std::size_t kMaxUser = 1024;
// Tokens of cloud registries have a few KiB.
constexpr std::size_t kMaxPassword = 16 << 10;

struct LoginOptions {
  std::string target;
  std::optional<std::string> user;
  bool password_stdin = false;
  RegistryFlags registry;
};

struct LogoutOptions {
  std::optional<std::string> target;
  std::filesystem::path authfile;
  bool all = false;
};

void check_user(const std::string& user) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (user.empty()) throw UsageError("The user's name is empty.");
  if (user.size() > kMaxUser || user.find(':') != std::string::npos ||
      std::any_of(user.begin(), user.end(), is_control)) {
    throw UsageError("A user's name has no colon, no control characters and at most " +
                     std::to_string(kMaxUser) + " bytes.");
  }
  // To helpers that is no user: what comes with it is an identity token.
  if (user == "<token>") throw UsageError("\"<token>\" is no user; log in as one.");
}

fetch::Credential ask_for_credential(const LoginOptions& options, Terminal& terminal) {
  if (options.password_stdin && !options.user) {
    throw UsageError("--password-stdin goes with --username, which says whose password it is.");
  }
  if (!options.password_stdin && !can_ask()) {
    throw UsageError(
        "Standard input is no terminal, so nobody can be asked for the password. Give it through a "
        "pipe, with --username USER --password-stdin.");
  }
  fetch::Credential credential;
  credential.user = options.user ? *options.user : ask(terminal.err, "Username: ", Echo::kOn);
  check_user(credential.user);
  credential.password = options.password_stdin ? read_standard_input(kMaxPassword)
                                               : ask(terminal.err, "Password: ", Echo::kOff);
  if (credential.password.empty()) throw UsageError("The password is empty.");
  return credential;
}

void log_in(const LoginOptions& options, Terminal& terminal) {
  const auto target = fetch::parse_login_target(options.target);
  const fetch::CredentialStore store(options.registry.authfile());
  const auto credential = ask_for_credential(options, terminal);
  fetch::Runtime runtime;
  fetch::HttpClient client(runtime, options.registry.http());
  const auto check = fetch::check_login(client, target, credential, options.registry.options());
  if (check == fetch::LoginCheck::kNotAsked) {
    terminal.err << fmt::format(
        "puzzlefs: Registry {} asks nobody for a password, so this one could not be checked.\n",
        target.host);
  }
  const auto helper = store.store(target, credential);
  terminal.out << fmt::format("Logged in to {} as {}; the password is kept {}.\n", target.key(),
                              harmless(credential.user),
                              helper.empty() ? "in " + harmless(store.file().native())
                                             : "by the helper " + harmless(helper));
}

void log_out_of_all(const fetch::CredentialStore& store, Terminal& terminal) {
  const auto erased = store.erase_all();
  if (erased.empty()) {
    terminal.out << fmt::format("There is no login in {}.\n", harmless(store.file().native()));
  }
  for (const auto& key : erased) terminal.out << fmt::format("Logged out of {}.\n", harmless(key));
}

void log_out(const LogoutOptions& options, Terminal& terminal) {
  if (options.all == options.target.has_value()) {
    throw UsageError("Name the registry to log out of, or say --all, and not both.");
  }
  const fetch::CredentialStore store(options.authfile);
  if (options.all) return log_out_of_all(store, terminal);
  const auto target = fetch::parse_login_target(*options.target);
  const bool erased = store.erase(target);
  if (erased) terminal.out << fmt::format("Logged out of {}.\n", target.key());
  for (const auto& file : store.others_with(target)) {
    terminal.err << fmt::format("puzzlefs: {} still has a login for {}.\n", harmless(file.native()),
                                target.key());
  }
  if (!erased) {
    throw NotFoundError("Not logged in to " + target.key() + ": " + store.file().native() +
                        " has nothing for it.");
  }
}

}  // namespace

void add_login(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<LoginOptions>();
  Arguments arguments(app, "login",
                      "Log in to a registry, for this command and for skopeo and podman");
  arguments.positional("registry", options->target,
                       "The registry, or a part of one, as in registry.io/team");
  arguments.option("-u,--username", options->user, "USER", "Log in as this user");
  arguments.flag("--password-stdin", options->password_stdin,
                 "Read the password from standard input");
  options->registry.add_to(arguments);
  arguments.run([options, &terminal] { log_in(*options, terminal); });
}

void add_logout(CLI::App& app, Terminal& terminal) {
  auto options = std::make_shared<LogoutOptions>();
  Arguments arguments(app, "logout", "Forget the login to a registry");
  arguments.positional("registry", options->target, "The registry or the part of one");
  arguments.option("--authfile", options->authfile, "FILE", "Forget what this file keeps");
  arguments.flag("-a,--all", options->all, "Log out of all registries");
  arguments.run([options, &terminal] { log_out(*options, terminal); });
}

}  // namespace puzzlefs::tools
