// Where a repository is read from: its mirrors in their order, then the registry itself.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fetch/blob_source.h"
#include "fetch/outcome.h"
#include "fetch/redirect.h"
#include "fetch/registries_conf.h"
#include "fetch/registry_session.h"
#include "fetch/retrier.h"

namespace puzzlefs::fetch {

/// A mirror that fails is passed over for 10 s, and for twice as long each time that it fails
/// again, up to 5 min; then it is tried again. Lives on the loop: all calls from there.
class Mirrors : public std::enable_shared_from_this<Mirrors> {
 public:
  /// A conversation with a mirror, and what may be asked of it.
  struct Mirror {
    std::shared_ptr<RegistrySession> session;
    PullFromMirror use = PullFromMirror::kAll;
  };
  /// What is asked for, of whichever server is given.
  using Request = std::function<void(const std::shared_ptr<RegistrySession>& session,
                                     const Patience& patience, Completion<Answer> done)>;
  enum class By { kTag, kDigest };

  Mirrors(std::vector<Mirror> mirrors, std::shared_ptr<RegistrySession> registry);

  /// What is asked for: "blobs/sha256:…", and how it is named.
  struct Wanted {
    std::string what;
    By by = By::kDigest;
    Freshness freshness = Freshness::kAny;
    /// Whether a mirror that does not serve it is passed over for all else too.
    bool judges = true;
  };
  /// One attempt, that asks all of them until one serves (200). If none does the registry's own
  /// outcome is the one that counts. kBypass says that what came the last time was wrong: a mirror
  /// that sent it is passed over from now on, and the registry is asked first.
  void attempt(Request request, const Wanted& wanted, const Patience& patience,
               Completion<Answer> done);

 private:
  using Clock = std::chrono::steady_clock;

  struct Server {
    Mirror mirror;
    Clock::time_point down_until{};
    std::chrono::seconds down_for{0};  // the last time; nothing while it serves
  };
  struct Attempt;

  std::vector<Server*> order_for(const Wanted& wanted);
  void remember(const std::string& what, Server& server);
  void ask_next(const std::shared_ptr<Attempt>& attempt);
  void receive(const std::shared_ptr<Attempt>& attempt, Server& server, Outcome<Answer>& outcome);
  void note_served(Server& server);
  void note_failure(Server& server, Outcome<Answer>& outcome);
  void pass_over(Server& server, const std::string& why, std::chrono::seconds at_least);

  std::vector<Server> mirrors_;
  Server registry_;
  std::unordered_map<std::string, Server*> senders_;  // of what came lately from mirrors
};

}  // namespace puzzlefs::fetch
