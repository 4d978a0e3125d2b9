// Whether a registry knows a user and a password: GET /v2/, which every one answers, and only to
// those whom it lets in.
#include "fetch/login_check.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <memory>

#include "fetch/credentials.h"
#include "fetch/outcome.h"
#include "fetch/registry_errors.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"
#include "fetch/then.h"

namespace puzzlefs::fetch {

LoginCheck check_login(HttpClient& client, const LoginTarget& target, const Credential& credential,
                       const RegistryOptions& options, std::chrono::seconds deadline) {
  const format::RegistryName name{target.host, target.path, {}, {}};
  auto& loop = client.runtime().loop();
  const auto retrier = std::make_shared<Retrier>(loop, target.host);
  // A token without a scope says only who asks.
  const auto session = std::make_shared<RegistrySession>(
      client, name, Credentials(credential), std::string(),
      security_for(options.registries.is_insecure(name), options.plain_http));
  // Once: registries count wrong passwords.
  const Attempt attempt = [session](const Patience& patience, Completion<Answer> done) {
    session->exchange({.target = "/v2/", .renew = false}, patience, std::move(done));
  };
  const auto check = [&](const Answer& answer) {
    const int status = answer.response.status;
    if (status == 401 || status == 403) {
      const auto reason = explain(answer.response);
      throw RefusedError(reason, reason);
    }
    if (status != 200) throw_refusal(name, "log in to " + target.host, {}, answer.response);
    return session->is_challenged() ? LoginCheck::kAccepted : LoginCheck::kNotAsked;
  };
  try {
    return wait_for<LoginCheck>([&](Completion<LoginCheck> done) {
      boost::asio::post(loop, [=, done = std::move(done)] {
        retrier->run(attempt, deadline,
                     then<Answer>(done, [=](const Answer& answer) { done(check(answer)); }));
      });
    });
  } catch (const RefusedError& error) {  // by the registry, or by its token service
    throw RefusedError("Registry " + target.host + " did not accept the user and password of \"" +
                           credential.user + "\": " + error.reason() + ".",
                       error.reason());
  }
}

}  // namespace puzzlefs::fetch
