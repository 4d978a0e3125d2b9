// What refers to an image, at registries that list it and at those that do not.
#include "fetch/referrers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "../support/scripted_server.h"
#include "fetch/registry.h"
#include "fetch/runtime.h"
#include "format/error.h"

namespace puzzlefs::fetch {
namespace {

using test::Reply;
using test::ScriptedServer;
using test::ServedRequest;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

const format::Digest kSubject = format::sha256(as_bytes("a manifest"));

format::Descriptor entry(const std::string& type) {
  format::Descriptor result;
  result.media_type = format::kManifestType;
  result.digest = format::sha256(as_bytes(type));
  result.size = 10;
  result.artifact_type = type;
  return result;
}

std::string index_of(const std::vector<std::string>& entries) {
  std::string list;
  for (const auto& text : entries) list += (list.empty() ? "" : ",") + text;
  return R"({"manifests":[)" + list +
         R"(],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2})";
}

std::string json_of(const std::string& type) {
  return "{\"artifactType\":\"" + type + "\",\"digest\":\"" + entry(type).digest.to_string() +
         "\",\"mediaType\":\"" + std::string(format::kManifestType) + "\",\"size\":10}";
}

Reply index_reply(const std::vector<std::string>& entries) {
  return {.headers = {{"Content-Type", std::string(format::kIndexType)}},
          .body = index_of(entries)};
}

class ReferrersTest : public testing::Test {
 protected:
  /// `script` gets all requests but the greeting.
  void connect(ScriptedServer::Script script,
               std::chrono::seconds deadline = std::chrono::seconds(20)) {
    server_ = std::make_unique<ScriptedServer>(
        [script = std::move(script)](const ServedRequest& request) {
          return request.target == "/v2/" ? Reply{} : script(request);
        });
    registry_ = std::make_unique<Registry>(
        client_, format::parse_registry_name(server_->host() + "/team/app:1"),
        Registry::Access::kPush, RegistryOptions{.deadline = deadline});
  }
  std::vector<std::string> list(const std::string& type = {}) {
    std::vector<std::string> types;
    for (const auto& found : wait_for<std::vector<format::Descriptor>>(
             [&](auto done) { registry_->referrers(kSubject, type, std::move(done)); })) {
      types.push_back(found.artifact_type);
    }
    return types;
  }
  static Bytes document(bool with_subject = true) {
    format::Manifest manifest{format::empty_config(), {}, {{"k", "v"}}, "application/x", {}};
    if (with_subject) manifest.subject = entry("subject");
    if (with_subject) manifest.subject->digest = kSubject;
    const auto text = format::to_json_text(manifest);
    return {as_bytes(text).begin(), as_bytes(text).end()};
  }
  void attach(bool with_subject = true) {
    wait_for<Done>([&](auto done) { registry_->attach(document(with_subject), std::move(done)); });
  }
  /// "GET referrers/…" for all requests but the greeting.
  std::vector<std::string> asked() const {
    std::vector<std::string> result;
    for (const auto& request : server_->requests()) {
      if (request.target == "/v2/") continue;
      result.push_back(request.method + request.target.substr(std::string("/v2/team/app").size()));
    }
    return result;
  }

  const std::string listed_ = "GET/referrers/" + kSubject.to_string();
  const std::string tag_ = "/manifests/" + referrers_tag(kSubject);
  const std::string digest_ = "/manifests/" + format::sha256(document()).to_string();
  Runtime runtime_{2};
  HttpClient client_{runtime_};
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Registry> registry_;
};

bool is_list(const ServedRequest& request) {
  return request.target.find("/referrers/") != std::string::npos;
}

TEST_F(ReferrersTest, AreThoseThatTheRegistryLists) {
  connect([](const ServedRequest&) { return index_reply({json_of("a"), json_of("b")}); });
  EXPECT_THAT(list(), ElementsAre("a", "b"));
  EXPECT_THAT(asked(), ElementsAre(listed_));
}

TEST_F(ReferrersTest, AreFilteredByWhomeverCan) {
  connect([](const ServedRequest&) { return index_reply({json_of("a"), json_of("b+c")}); });
  EXPECT_THAT(list("b+c"), ElementsAre("b+c"));
  EXPECT_THAT(asked(), ElementsAre(listed_ + "?artifactType=b%2Bc"));
}

TEST_F(ReferrersTest, ComeInPages) {
  connect([](const ServedRequest& request) {
    if (request.target.find("next") != std::string::npos) return index_reply({json_of("b")});
    auto reply = index_reply({json_of("a")});
    reply.headers.emplace_back("Link", "<?next=1>; rel=\"next\"");
    return reply;
  });
  EXPECT_THAT(list(), ElementsAre("a", "b"));
  EXPECT_EQ(asked().size(), 2U);
}

TEST_F(ReferrersTest, AnEndlessListIsAnError) {
  connect([](const ServedRequest&) {
    auto reply = index_reply({});
    reply.headers.emplace_back("Link", "<http://127.0.0.2/elsewhere>; rel=\"next\"");
    return reply;
  });
  EXPECT_THROW(list(), CorruptError);
}

TEST_F(ReferrersTest, AListWithoutMeasureIsAnError) {
  const auto annotations = R"("annotations":{"k":")" + std::string(3 << 20, 'x') + "\"},";
  connect([&](const ServedRequest&) {
    auto large = json_of("a");
    large.insert(1, annotations);
    auto reply = index_reply({large});
    reply.headers.emplace_back("Link", "<?next>; rel=\"next\"");
    return reply;
  });
  EXPECT_THROW(list(), CorruptError);
  EXPECT_LT(asked().size(), 10U);
}

TEST_F(ReferrersTest, AreFoundByTheTagWhereNoneAreListed) {
  const Reply page{.headers = {{"Content-Type", "text/html"}}, .body = "<html>"};
  for (const auto& no_list :
       {Reply{.status = 404}, Reply{.status = 405}, page, Reply{.body = R"({"tags":[]})"},
        Reply{.status = 302}, Reply{.status = 302, .headers = {{"Location", "/page"}}}}) {
    connect([&](const ServedRequest& request) {
      if (is_list(request)) return no_list;
      if (request.target == "/page") return page;
      return index_reply({json_of("a"), json_of("b")});
    });
    EXPECT_THAT(list("b"), ElementsAre("b"));
    EXPECT_EQ(server_->requests().back().target, "/v2/team/app" + tag_);
  }
}

TEST_F(ReferrersTest, WithoutThatTagThereAreNone) {
  connect([](const ServedRequest&) { return Reply{.status = 404}; });
  EXPECT_THAT(list(), IsEmpty());
  EXPECT_THAT(asked(), ElementsAre(listed_, "GET" + tag_));
}

TEST_F(ReferrersTest, AnOutageIsNoEmptyList) {
  connect([](const ServedRequest&) { return Reply{.status = 503}; }, std::chrono::seconds(1));
  EXPECT_THROW(list(), UnavailableError);
}

TEST_F(ReferrersTest, AreAttachedByOneRequestWhereTheyAreListed) {
  connect([](const ServedRequest&) {
    return Reply{.status = 201, .headers = {{"OCI-Subject", kSubject.to_string()}}};
  });
  attach();
  EXPECT_THAT(asked(), ElementsAre("PUT" + digest_));
  const auto put = server_->requests().back();
  EXPECT_EQ(put.body, as_text(document()));
  EXPECT_EQ(put.header("content-type"), format::kManifestType);
}

/// A registry that keeps an index under the tag, and lists nothing itself.
class TaggedReferrersTest : public ReferrersTest {
 protected:
  void connect_with(std::string index) {
    index_ = std::move(index);
    connect([this](const ServedRequest& request) {
      if (is_list(request)) return Reply{.status = 404};
      const bool tag = request.target.ends_with(tag_);
      if (request.method == "PUT") {
        if (tag) index_ = request.body;
        return Reply{.status = 201};
      }
      return index_.empty() ? Reply{.status = 404} : Reply{.body = index_};
    });
  }

  std::string index_;
};

TEST_F(TaggedReferrersTest, AreAddedToTheIndex) {
  connect_with({});
  attach();
  EXPECT_THAT(asked(), ElementsAre("PUT" + digest_, "GET" + tag_, "PUT" + tag_));
  EXPECT_EQ(server_->requests().back().header("content-type"), format::kIndexType);
  EXPECT_THAT(list(), ElementsAre("application/x"));
  EXPECT_THAT(index_, HasSubstr(R"("annotations":{"k":"v"})"));
}

TEST_F(TaggedReferrersTest, OthersStayAsTheyAre) {
  auto other = json_of("a");
  other.insert(1, R"("aUnknown":[1],)");
  connect_with(index_of({other}));
  attach();
  EXPECT_THAT(list(), ElementsAre("a", "application/x"));
  EXPECT_THAT(index_, HasSubstr(R"("aUnknown":[1])"));
}

TEST_F(TaggedReferrersTest, WhatIsThereIsNotAddedAgain) {
  connect_with({});
  attach();
  const auto once = index_;
  attach();
  EXPECT_EQ(index_, once);
  EXPECT_EQ(server_->count("PUT", tag_), 1U);
}

TEST_F(TaggedReferrersTest, AnotherDocumentUnderTheTagIsNotTouched) {
  connect_with(R"({"schemaVersion":2,"layers":[]})");
  EXPECT_THAT([&] { attach(); }, ThrowsMessage<CorruptError>(HasSubstr(referrers_tag(kSubject))));
  EXPECT_EQ(server_->count("PUT", tag_), 0U);
}

TEST_F(TaggedReferrersTest, WithoutASubjectNothingIsSent) {
  connect_with({});
  EXPECT_THROW(attach(false), Error);
  EXPECT_THAT(asked(), IsEmpty());
}

TEST_F(TaggedReferrersTest, ARefusalIsAnError) {
  connect([](const ServedRequest&) { return Reply{.status = 403}; });
  EXPECT_THROW(attach(), Error);
  EXPECT_THAT(asked(), ElementsAre("PUT" + digest_));
}

}  // namespace
}  // namespace puzzlefs::fetch
